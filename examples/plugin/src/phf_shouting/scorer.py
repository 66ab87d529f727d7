"""A scorer: reward = -(capital letters / letters), so 0 for quiet text and -1 for shouted text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shouting:
    """Minus the share of capital letters.

    Args:
        ignore_first: do not count a segment's first letter.
    """

    ignore_first: bool = True

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return the reward of each text: (N,) float32; NaN for a text without letters."""
        return np.array([self._score(text) for text in texts], np.float32)

    def _score(self, text: str) -> float:
        letters = [character for character in text if character.isalpha()][int(self.ignore_first) :]
        return -sum(character.isupper() for character in letters) / len(letters) if letters else float("nan")
