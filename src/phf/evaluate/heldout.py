"""Bits per byte on held-out documents: what an objective costs in capability, up to the entropy of the data."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from phf import config
from phf.documents import Document
from phf.errors import InputError
from phf.evaluate.protocol import EvalContext, hashed_subset, placements_of
from phf.lm import LanguageModel, Placement, ReadsSegments
from phf.per_example import Parts
from phf.records import Record
from phf.statistics import ratio
from phf.thresholds import Threshold, check_threshold

_AT_ONCE = 256


@dataclass(frozen=True)
class HeldOut:
    """Bits a UTF-8 byte that the model needs for held-out documents: all, their aligned segments, their misaligned ones.

    Args:
        documents: how many, chosen by a hash of their ids; all by default.
        threshold: a segment is aligned if its reward is at least this: a number, or a quantile of the corpus such as p50. One
            without a reward is neither. By default the one of conditional training in the recipe, else of unlikelihood, else 0.
        placement: of no effect since phf 0.2: a conditional model is measured with its control token in front of every
            segment, as it was trained, and also with it once at the document's start.
    """

    documents: config.Count | None = None
    threshold: Threshold | None = None
    placement: Literal["auto", "start", "every"] = "auto"

    def __post_init__(self) -> None:
        if self.threshold is not None:
            check_threshold(self.threshold)

    def thresholds(self) -> Mapping[str, Threshold | None]:
        """Return the thresholds."""
        return {"threshold": self.threshold}

    def measure(self, model: LanguageModel, setting: EvalContext) -> Iterator[Record]:
        """Measure `bits_per_byte`, `_aligned` and `_misaligned`, n = documents.

        A conditional model is measured with its control token in front of every segment, and again, in metrics that end in
        `_start`, with it once at the document's start. Bits and bytes of each document are kept in `per-example/`.

        Raises:
            InputError: if no document is held out.
        """
        documents = [document for document in hashed_subset(setting.held_out, self.documents) if document.text]
        if not documents:
            raise InputError(
                f"{setting.name}: no held-out document with any text; raise tokenize.held_out, the share that is held out"
            )
        threshold = setting.threshold("threshold", self.threshold)
        measured: dict[str, Parts] = {}
        placements = placements_of(model)
        for number, (suffix, placement) in enumerate(placements.items()):
            nats: list[np.ndarray] = []
            for first in range(0, len(documents), _AT_ONCE):
                setting.report(number * len(documents) + first, len(placements) * len(documents), "documents")
                nats += _nats(model, documents[first : first + _AT_ONCE], placement)
            for kind, (bits, sizes) in _by_kind(documents, nats, threshold).items():
                metric = f"bits_per_byte{kind}{suffix}"
                measured[metric] = (bits, sizes)
                yield from setting.records(metric, ratio(bits, sizes))
        setting.write_per_example([document.id for document in documents], measured)


def _by_kind(documents: Sequence[Document], nats: Sequence[np.ndarray], threshold: float) -> dict[str, Parts]:
    """Return the bits and bytes of each document (N,): of all of it, of its aligned segments, of its misaligned ones."""
    bits = [own / np.log(2) for own in nats]
    sizes = [np.array([len(segment.encode()) for segment in document.segments], np.float64) for document in documents]
    every = [np.ones(len(size)) for size in sizes]
    if any(len(own) != len(size) for own, size in zip(bits, sizes, strict=True)):  # a model that gives whole texts only
        return {"": (np.array([own.sum() for own in bits]), _sums(sizes, every))}
    rewards = [np.asarray(document.rewards) for document in documents]
    kinds: dict[str, Sequence[np.ndarray]] = {
        "": every,
        "_aligned": [reward >= threshold for reward in rewards],
        "_misaligned": [reward < threshold for reward in rewards],
    }
    return {kind: (_sums(bits, counted), _sums(sizes, counted)) for kind, counted in kinds.items()}


def _nats(model: LanguageModel, documents: Sequence[Document], placement: Placement | None) -> list[np.ndarray]:
    """Return the nats of each segment of each document, or of each whole document where a model knows no segments."""
    if not isinstance(model, ReadsSegments):
        return [np.array([-logprob]) for logprob in model.logprobs([document.text for document in documents])]
    return [-logprobs for logprobs in model.segment_logprobs([document.segments for document in documents], placement)]


def _sums(values: Sequence[np.ndarray], chosen: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([float((value * choice).sum()) for value, choice in zip(values, chosen, strict=True)])
