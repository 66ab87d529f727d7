"""Bits per byte on held-out documents: what an objective costs in capability, up to the entropy of the data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from phf import config
from phf.documents import Document
from phf.errors import InputError
from phf.evaluate import Setting, chosen
from phf.lm import LanguageModel
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

    def measure(self, model: LanguageModel, setting: Setting) -> Iterator[Record]:
        """Measure `bits_per_byte`, `_aligned` and `_misaligned`, n = documents.

        A conditional model is measured twice: with its control token placed as said, and, ending in `_start` or `_every`, the
        other way.

        Raises:
            InputError: if no document is held out.
        """
        documents = [document for document in chosen(setting.held_out, self.documents) if document.text]
        if not documents:
            raise InputError(
                f"{setting.name}: no held-out document with any text; raise tokenize.held_out, the share of documents set apart"
            )
        placement = getattr(model, "placement", None)
        if placement is not None and self.placement != "auto":
            placement = self.placement
        ways = {"": placement}
        if getattr(model, "control", None) is not None and placement is not None:
            other = "start" if placement == "every" else "every"
            ways[f"_{other}"] = other
        for number, (suffix, way) in enumerate(ways.items()):
            nats: list[np.ndarray] = []
            for first in range(0, len(documents), _AT_ONCE):
                setting.report(number * len(documents) + first, len(ways) * len(documents), "documents")
                nats += _nats(model, documents[first : first + _AT_ONCE], way)
            yield from self._records(documents, nats, suffix, setting)

    def _records(
        self, documents: Sequence[Document], nats: Sequence[np.ndarray], suffix: str, setting: Setting
    ) -> Iterator[Record]:
        """Add up nats and bytes by kind of segment, and divide."""
        bits = [found / np.log(2) for found in nats]
        sizes = [np.array([len(segment.encode()) for segment in document.segments], np.float64) for document in documents]
        yield from setting.records(f"bits_per_byte{suffix}", _bits_per_byte(bits, sizes, [1] * len(documents)))
        if any(len(found) != len(size) for found, size in zip(bits, sizes, strict=True)):
            return  # a model that gives whole texts only
        rewards = [np.asarray(document.rewards) for document in documents]
        aligned = _bits_per_byte(bits, sizes, [reward >= self.threshold for reward in rewards])
        misaligned = _bits_per_byte(bits, sizes, [reward < self.threshold for reward in rewards])
        yield from setting.records(f"bits_per_byte_aligned{suffix}", aligned)
        yield from setting.records(f"bits_per_byte_misaligned{suffix}", misaligned)


def _nats(model: LanguageModel, documents: Sequence[Document], placement: str | None) -> list[np.ndarray]:
    """Give the surprise of each segment of each document, or of each whole document where a model knows no segments."""
    by_segment: Any = getattr(model, "segment_logprobs", None)
    if by_segment is None:
        return [np.array([-logprob]) for logprob in model.logprobs([document.text for document in documents])]
    return [-logprobs for logprobs in by_segment([document.segments for document in documents], placement)]


def _bits_per_byte(bits: Sequence[np.ndarray], sizes: Sequence[np.ndarray], kinds: Sequence[Any]) -> Any:
    return ratio(
        np.array([float((found * kind).sum()) for found, kind in zip(bits, kinds, strict=True)]),
        np.array([float((size * kind).sum()) for size, kind in zip(sizes, kinds, strict=True)]),
    )
