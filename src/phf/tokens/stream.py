"""The stream of a view, document by document, for trainers that cut it themselves."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from phf.tokens.view import View

_CONTEXT = 4096
_BLOCKS = 16  # read at once


@dataclass(frozen=True, slots=True)
class DocumentTokens:
    """A document as an objective sees it.

    Args:
        number: of the document in the token store.
        tokens: (n,) int64, the document start first, control tokens in front of their segments.
        rewards: (n,) float32, of each token's segment; NaN for the document start and in unscored segments.
    """

    number: int
    tokens: np.ndarray
    rewards: np.ndarray


def documents_of(view: View) -> Iterator[DocumentTokens]:
    """Yield the documents of a view in their order, the last one whole too; end to end they are the view's stream."""
    index, chunks = view._index, _chunks(view)
    tokens, rewards = np.empty(0, np.int64), np.empty(0, np.float32)
    begin = 0
    for kept, number in enumerate(index.documents["number"]):
        end = int(index.begins[kept + 1])
        while begin + len(tokens) < end:
            more_tokens, more_rewards = next(chunks)
            tokens, rewards = np.concatenate([tokens, more_tokens]), np.concatenate([rewards, more_rewards])
        size = end - begin
        yield DocumentTokens(int(number), tokens[:size], rewards[:size])
        tokens, rewards, begin = tokens[size:], rewards[size:], end


def _chunks(view: View) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the stream in pieces of any length. Blocks overlap by one token, and what is left over is too short for one."""
    blocks = View(view.store, view._index, _CONTEXT, view._control_ids.tolist())
    for start in range(0, blocks.blocks, _BLOCKS):
        tokens, rewards = blocks.read(start, min(start + _BLOCKS, blocks.blocks))
        yield tokens[:, :-1].reshape(-1), rewards[:, :-1].reshape(-1)
    start = blocks.blocks * _CONTEXT
    first = min(start, view.tokens - 2)
    tokens, rewards = View(view.store, view._index, 1, view._control_ids.tolist()).read(first, view.tokens - 1)
    pairs = ((tokens, np.int64), (rewards, np.float32))
    last_tokens, last_rewards = (np.append(pair[:, 0], pair[-1, 1]).astype(dtype)[start - first :] for pair, dtype in pairs)
    yield last_tokens, last_rewards
