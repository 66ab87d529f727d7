"""Scorers: texts to rewards, higher is better. One file each; a scorer's own library is imported inside it.

A scorer has `score`. What else a caller may ask of it stands in a protocol of its own, which callers test for with
`isinstance`; a scorer need not inherit from any of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from phf import plugins
from phf.errors import InputError

PUBLISHED = "published"
"""The name of the scorer that takes the rewards which a corpus was published with."""


@runtime_checkable
class Scorer(Protocol):
    """Anything that scores texts. For a plain function see the `python` scorer."""

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return the reward of each text: (N,) float32, higher is better, NaN for a text that could not be scored."""


@runtime_checkable
class SegmentScorer(Scorer, Protocol):
    """A scorer that needs the whole document to score its segments, as a linter does."""

    def score_segments(self, segments: Sequence[str]) -> np.ndarray:
        """Return the reward of each segment of one document: (S,) float32."""


@runtime_checkable
class DocumentScorer(SegmentScorer, Protocol):
    """A segment scorer to which many documents at once are cheaper than one after the other."""

    def score_documents(self, documents: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Return what `score_segments` returns for each of many documents: an (S,) float32 array each."""


@runtime_checkable
class BatchScorer(Scorer, Protocol):
    """A scorer that says how much text it wants in one call.

    Attributes:
        batch_characters: of text in one call, about.
    """

    @property
    def batch_characters(self) -> int:
        """Characters in one call."""


@runtime_checkable
class DeviceScorer(Scorer, Protocol):
    """A scorer that computes with PyTorch.

    Attributes:
        device: "auto" for a GPU where there is one, or a device as PyTorch names it.
    """

    @property
    def device(self) -> str:
        """The device."""


@runtime_checkable
class RemoteScorer(Scorer, Protocol):
    """A scorer that waits for a server: it asks about many texts at a time and keeps its own time, so one process will do.

    Attributes:
        operational_fields: names of its fields that do not change a reward, such as a budget; they may change when an
            annotation is resumed.
    """

    @property
    def operational_fields(self) -> frozenset[str]:
        """Fields that do not change a reward."""

    def seconds_for(self, texts: int) -> float:
        """Return how long scoring so many texts may take before something is wrong."""


class ScorerUnusable(InputError):
    """A scorer cannot score anything, or nothing more, whatever the text: its server is gone, its budget is spent.

    Any other exception, `InputError` among them, costs only the document that it was raised for.
    """


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a scorer found in a text.

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
    """A scorer that can point to what it counts."""

    def findings(self, text: str) -> list[Finding]:
        """Return what was found, by position. A text that could not be scored has no findings."""


@runtime_checkable
class PrefixScorer(Scorer, Protocol):
    """A scorer that knows up to where a text that was cut off can be judged."""

    def whole_part(self, text: str) -> str:
        """Return the beginning of a text, whose last segment is whole, that can be scored as if the text ended there."""


def load(name: str, **fields: Any) -> Scorer:
    """Build a scorer by name, such as `load("pep8")` or `load("classifier", model="unitary/toxic-bert")`.

    Raises:
        InputError: for an unknown name or field, with the nearest known one; MissingExtra if its library is missing.
    """
    scorer: Scorer = plugins.build("scorers", name, fields)
    return scorer
