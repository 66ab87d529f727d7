"""The documents of an export: tokens, text and loss weights, as an objective trains on them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from phf import checksums, config
from phf.errors import InputError
from phf.objectives import Objective
from phf.tokens import DocumentTokens, TokenStore, View, documents_of, load_tokenizer


@dataclass(frozen=True)
class ExportedDocument:
    """A document of an export.

    Args:
        number: in the token store.
        tokens: (n,) int64, the document start first.
        rewards: (n,) float32, NaN where there is none.
        exported: what it is of.
    """

    number: int
    tokens: np.ndarray
    rewards: np.ndarray
    exported: "Exported"

    @cached_property
    def text(self) -> str:
        """The text with its control tokens, without the document start."""
        return str(self.exported.tokenizer.decode(self.tokens[1:].tolist(), clean_up_tokenization_spaces=False))

    @cached_property
    def spells_control_tokens(self) -> bool:
        """Whether the text has a control token that is not one."""
        names = self.exported.objective.control_tokens
        if not names:
            return False
        inserted = int(np.isin(self.tokens, self.exported.control_ids).sum())
        return sum(self.text.count(name) for name in names) != inserted

    @property
    def loss_weights(self) -> np.ndarray:
        """(n,) float32: what multiplies each token's -logprob in the loss."""
        return loss_weights(self.exported.objective, self.rewards)


@dataclass(frozen=True)
class Exported:
    """One epoch of a token store under an objective.

    Args:
        view: of the store.
        objective: with its threshold resolved.
        tokenizer: the store's, with the control tokens.
        control_ids: of the control tokens.
        source: folder, component, seed and epoch: what `open` was called with.
        remark: of the objective on the corpus.
    """

    view: View
    objective: Objective
    tokenizer: Any
    control_ids: tuple[int, ...]
    source: tuple[Path, config.Component, int, int]
    remark: str | None = None

    @classmethod
    def open(cls, tokens: Path, component: config.Component, seed: int, epoch: int) -> "Exported":
        """Open a token store under an objective.

        Raises:
            InputError: if it cannot be read, the objective cannot learn from it, or keeps no document.
        """
        checksums.verify_folder(tokens)
        store = TokenStore.open(tokens)
        objective, remark = store.resolve(config.build("objectives", component))
        tokenizer = load_tokenizer(tokens / "tokenizer")
        if objective.control_tokens:
            tokenizer.add_special_tokens({"additional_special_tokens": list(objective.control_tokens)})
        ids = tuple(int(tokenizer.convert_tokens_to_ids(token)) for token in objective.control_tokens)
        view = store.view(objective, 1, seed, epoch, ids)
        if view.tokens == 0:
            raise InputError(f"{tokens}: {component.name} keeps no document")
        return cls(view, objective, tokenizer, ids, (tokens, component, seed, epoch), remark)

    def documents(self) -> Iterator[ExportedDocument]:
        """Yield the documents that are kept, in the order of the epoch."""
        document: DocumentTokens
        for document in documents_of(self.view):
            yield ExportedDocument(document.number, document.tokens, document.rewards, self)

    @cached_property
    def is_weighted(self) -> bool:
        """Whether the loss of every token is a weight, known from its reward alone, times -logprob."""
        if self.objective.needs_value:
            return False
        return all(_is_proportional(self.objective, rewards) for rewards, _ in self.view.store.rewards)


def loss_weights(objective: Objective, rewards: np.ndarray) -> np.ndarray:
    """Return the loss of each token at a logprob of -1: (n,) float32."""
    return _losses(objective, rewards, -1.0)


def _is_proportional(objective: Objective, rewards: np.ndarray) -> bool:
    rewards = np.unique(rewards)
    one = loss_weights(objective, rewards)
    return all(np.allclose(_losses(objective, rewards, -factor), factor * one, rtol=1e-5) for factor in (0.25, 4.0))


def _losses(objective: Objective, rewards: np.ndarray, logprob: float) -> np.ndarray:
    import torch

    reward = torch.from_numpy(np.ascontiguousarray(rewards, np.float32))
    return objective.token_loss(torch.full_like(reward, logprob), reward).numpy()
