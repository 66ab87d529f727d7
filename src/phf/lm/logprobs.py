"""Log-probabilities of given tokens: documents cut into windows, windows of similar lengths read together.

Knows tokens only; which of them are control tokens or a document's end is decided in `phf.lm.encoding`.
Legend: B windows read together, T their tokens, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from phf.length_batches import by_length
from phf.lm.guidance import Guidance

LONGEST = 2048
"""Tokens of a document read at once, at most."""
_LOGITS_AT_ONCE = 1 << 25
"""Logits held at once: 128 MiB of float32."""


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens of one document, each with what it is charged to: -1 for those that are only read."""

    document: int
    tokens: list[int]
    owners: np.ndarray


def cut_into_windows(
    document: int, tokens: list[int], owners: list[int], prefix: list[int], context: int | None
) -> Iterator[Window]:
    """Cut a document so that every token is predicted once. The last token of a window is predicted, not read.

    Each window begins with the prefix and predicts the tokens that no window before it did; those it reads again first fill
    half of it.

    Args:
        document: its number.
        tokens: without the prefix.
        owners: of the tokens.
        prefix: what each window begins with.
        context: tokens that the model reads at most; None for no limit.
    """
    size = window_size(prefix, context)
    begin, end = 0, size
    while begin < len(tokens):
        first = max(0, end - size)
        charged = np.full(len(prefix) + min(end, len(tokens)) - first, -1)
        charged[len(prefix) + begin - first :] = owners[begin:end]
        yield Window(document, prefix + tokens[first:end], charged)
        begin, end = end, end + max(1, size // 2)


def window_size(prefix: Sequence[int], context: int | None) -> int:
    """Return how many tokens a window has beside its prefix."""
    return min(context or LONGEST, LONGEST) + 1 - len(prefix)


@torch.inference_mode()
def read(
    model: Any,
    windows: Sequence[Window],
    *,
    pad: int,
    ends: Sequence[int],
    banned: Sequence[int] = (),
    guidance: Guidance | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[Window, np.ndarray, np.ndarray]]:
    """Read windows, the longest first.

    Args:
        model: any `AutoModelForCausalLM`, in evaluation mode.
        windows: what to read.
        pad: any token of the vocabulary.
        ends: tokens that end a document: one event, which goes by the first of them.
        banned: tokens that cannot come: what is left of the probability is scaled to 1.
        guidance: take the guided distribution.
        on_progress: called with the number of windows read.

    Yields:
        Each window with the natural-log probability of each of its tokens but the first, whose position holds 0, and whether the
        token is the most probable one there.
    """
    conditions = 1 if guidance is None else 2
    vocabulary = model.config.get_text_config().vocab_size
    done = 0
    size = max(1, _LOGITS_AT_ONCE // (vocabulary * conditions))
    for positions in by_length([len(window.tokens) for window in windows], padded=size):
        batch = [windows[position] for position in positions]
        width = max(len(window.tokens) for window in batch)
        tokens = torch.full((len(batch), width), pad)
        mask = torch.zeros_like(tokens)
        for row, window in enumerate(batch):
            tokens[row, : len(window.tokens)] = torch.tensor(window.tokens)
            mask[row, : len(window.tokens)] = 1
        tokens, mask = tokens.to(model.device), mask.to(model.device)
        logits = _logits(model, tokens[:, :-1], mask[:, :-1])
        if guidance is not None:
            swapped = tokens[:, :-1].masked_fill(tokens[:, :-1] == guidance.own, guidance.other)
            logits = guidance.mix(logits, _logits(model, swapped, mask[:, :-1]))
        logits[..., list(banned)] = -torch.inf
        if len(ends) > 1:
            any_end = logits[..., list(ends)].logsumexp(dim=-1)
            logits[..., list(ends)] = -torch.inf
            logits[..., ends[0]] = any_end
        targets = tokens[:, 1:]
        nats = logits.gather(-1, targets[..., None]).squeeze(-1) - logits.logsumexp(dim=-1)
        values, likeliest = nats.double().cpu().numpy(), (logits.argmax(dim=-1) == targets).cpu().numpy()
        for row, window in enumerate(batch):
            length = len(window.tokens) - 1
            yield window, np.concatenate([[0.0], values[row, :length]]), np.concatenate([[True], likeliest[row, :length]])
        done += len(batch)
        if on_progress:
            on_progress(done)


def _logits(model: Any, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits.float()
    return logits
