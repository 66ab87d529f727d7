"""Bits per byte on held-out documents: what an objective costs in capability, up to the entropy of the data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from phf import config
from phf.documents import Document
from phf.errors import InputError
from phf.evaluate.protocol import EvalContext, hashed_subset
from phf.lm import LanguageModel, Placement, PlacesControl, ReadsSegments
from phf.per_example import Parts
from phf.records import Record
from phf.statistics import ratio

_AT_ONCE = 256


@dataclass(frozen=True)
class HeldOut:
    """Bits a UTF-8 byte that the model needs for held-out documents: all, their aligned segments, their misaligned ones.

    Args:
        documents: how many, chosen by a hash of their ids; all if not given.
        threshold: a segment is aligned if its reward is at least this. One without a reward is neither.
        placement: where a conditional model reads its control token: once, at the document's "start"; in front of "every"
            segment; or "auto", as it is sampled by default (every on lines, else start). See `LocalModel.segment_logprobs`.
    """

    documents: config.Count | None = None
    threshold: float = 0.0
    placement: Literal["auto", "start", "every"] = "auto"

    def measure(self, model: LanguageModel, setting: EvalContext) -> Iterator[Record]:
        """Measure `bits_per_byte`, `_aligned` and `_misaligned`, n = documents.

        A conditional model is measured twice: with its control token placed as said, and, ending in `_start` or `_every`, the
        other way. Bits and bytes of each document are kept in `units/`.

        Raises:
            InputError: if no document is held out.
        """
        documents = [document for document in hashed_subset(setting.held_out, self.documents) if document.text]
        if not documents:
            raise InputError(
                f"{setting.name}: no held-out document with any text; raise tokenize.held_out, the share of documents set apart"
            )
        ways: dict[str, Placement | None] = {"": None}
        if isinstance(model, ReadsSegments):
            placement = model.placement if self.placement == "auto" else self.placement
            ways = {"": placement}
            if isinstance(model, PlacesControl) and model.control is not None:
                other: Placement = "start" if placement == "every" else "every"
                ways[f"_{other}"] = other
        kept: dict[str, Parts] = {}
        for number, (suffix, way) in enumerate(ways.items()):
            nats: list[np.ndarray] = []
            for first in range(0, len(documents), _AT_ONCE):
                setting.report(number * len(documents) + first, len(ways) * len(documents), "documents")
                nats += _nats(model, documents[first : first + _AT_ONCE], way)
            for kind, (bits, sizes) in self._by_kind(documents, nats).items():
                metric = f"bits_per_byte{kind}{suffix}"
                kept[metric] = (bits, sizes)
                yield from setting.records(metric, ratio(bits, sizes))
        setting.write_per_example([document.id for document in documents], kept)

    def _by_kind(self, documents: Sequence[Document], nats: Sequence[np.ndarray]) -> dict[str, Parts]:
        """Add up the bits and bytes of each document (N,): of all of it, of its aligned segments, of its misaligned ones."""
        bits = [found / np.log(2) for found in nats]
        sizes = [np.array([len(segment.encode()) for segment in document.segments], np.float64) for document in documents]
        every = [np.ones(len(size)) for size in sizes]
        if any(len(found) != len(size) for found, size in zip(bits, sizes, strict=True)):  # a model that gives whole texts only
            return {"": (np.array([found.sum() for found in bits]), _sums(sizes, every))}
        rewards = [np.asarray(document.rewards) for document in documents]
        kinds: dict[str, Sequence[np.ndarray]] = {
            "": every,
            "_aligned": [reward >= self.threshold for reward in rewards],
            "_misaligned": [reward < self.threshold for reward in rewards],
        }
        return {kind: (_sums(bits, counted), _sums(sizes, counted)) for kind, counted in kinds.items()}


def _nats(model: LanguageModel, documents: Sequence[Document], placement: Placement | None) -> list[np.ndarray]:
    """Give the surprise of each segment of each document, or of each whole document where a model knows no segments."""
    if not isinstance(model, ReadsSegments):
        return [np.array([-logprob]) for logprob in model.logprobs([document.text for document in documents])]
    return [-logprobs for logprobs in model.segment_logprobs([document.segments for document in documents], placement)]


def _sums(values: Sequence[np.ndarray], chosen: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([float((value * choice).sum()) for value, choice in zip(values, chosen, strict=True)])
