"""Scorers: texts to rewards, higher is better. One file each; a scorer's own library is imported inside it."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from phf import plugins


@runtime_checkable
class Scorer(Protocol):
    """Anything that scores texts. A function will do: see the `python` scorer."""

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Give the reward of each text: (N,) float32, higher is better, NaN for a text that could not be scored."""


@runtime_checkable
class SegmentScorer(Scorer, Protocol):
    """A scorer that needs the whole document to score its segments, as a linter does."""

    def score_segments(self, segments: Sequence[str]) -> np.ndarray:
        """Give the reward of each segment of one document: (S,) float32."""


def load(name: str, **fields: Any) -> Scorer:
    """Make a scorer by name, such as `load("pep8")` or `load("classifier", model="unitary/toxic-bert")`.

    Raises:
        InputError: for an unknown name or field, with the nearest known one; MissingExtra if its library is missing.
    """
    scorer: Scorer = plugins.build("scorers", name, fields)
    return scorer
