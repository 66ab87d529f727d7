"""Scorers: texts to rewards, higher is better. One file each; a scorer's own library is imported inside it."""

from collections.abc import Sequence
from dataclasses import dataclass
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
    """A scorer that needs the whole document to score its segments, as a linter does.

    One for which many documents at once are cheaper may also have `score_documents(documents)`, which gives a list of what
    `score_segments` gives for each.
    """

    def score_segments(self, segments: Sequence[str]) -> np.ndarray:
        """Give the reward of each segment of one document: (S,) float32."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a scorer found in a text.

    Args:
        start: its first character in the text.
        end: the character after its last one.
        kind: what it is, in the scorer's own terms: "email", "E501", ...
    """

    start: int
    end: int
    kind: str


@runtime_checkable
class FindingScorer(Scorer, Protocol):
    """A scorer that can say where in a text it found what it counts."""

    def findings(self, text: str) -> list[Finding]:
        """Give what was found, by position. A text that could not be scored has none."""


def load(name: str, **fields: Any) -> Scorer:
    """Make a scorer by name, such as `load("pep8")` or `load("classifier", model="unitary/toxic-bert")`.

    Raises:
        InputError: for an unknown name or field, with the nearest known one; MissingExtra if its library is missing.
    """
    scorer: Scorer = plugins.build("scorers", name, fields)
    return scorer
