"""An objective: maximum likelihood on the good segments; tokens of bad ones are read, but have no loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Masked:
    """Token-level filtering. Loss: -logprob where reward >= threshold or unscored, else 0.

    Args:
        threshold: smallest reward of a segment that is learned.
    """

    threshold: float

    needs_value = False
    control_tokens = ()

    def keep(self, rewards: np.ndarray) -> bool:
        """Keep a document with these segment rewards (S,) if anything of it can be learned."""
        return not bool((rewards < self.threshold).all())

    def controls(self, rewards: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return (S,) int8: -1, no control token, for every segment."""
        return np.full(len(rewards), -1, np.int8)

    def token_loss(self, logprob: Tensor, reward: Tensor, value: Tensor | None = None) -> Tensor:
        """Return each token's loss, of the same shape as `logprob`."""
        return -logprob * ~(reward < self.threshold)
