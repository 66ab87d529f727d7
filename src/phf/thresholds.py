"""Thresholds on rewards, as a number or a quantile, and the corpora they are compared with, which need not fit into memory."""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from phf.errors import InputError
from phf.quantiles import streaming_quantiles

Threshold = float | str
"""A reward, or a quantile of the corpus: "p50" is its median."""
RewardChunks = Iterable[tuple[np.ndarray, np.ndarray]]
"""The rewards of a corpus in chunks of whole documents, iterated as often as needed: rewards (N,) of the segments of a chunk's
documents, NaN where unscored, and where in it each document begins (D,). `[(rewards, starts)]` is a corpus in memory."""


def document_means(rewards: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Average the scored segments of each document, in float64; NaN where none is."""
    unscored = np.flatnonzero(np.isnan(rewards))
    lengths = np.diff(np.append(starts, len(rewards)))
    filled = starts[lengths > 0]  # reduceat knows no empty ranges
    sums = np.zeros(len(starts))
    if len(filled):
        known = rewards.copy()
        known[unscored] = 0
        sums[lengths > 0] = np.add.reduceat(known, filled, dtype=np.float64)
    counts = lengths - np.bincount(np.searchsorted(starts, unscored, "right") - 1, minlength=len(starts))
    with np.errstate(invalid="ignore"):
        return sums / counts


@dataclass(frozen=True)
class SegmentRewards:
    """The rewards of a corpus, chunk by chunk."""

    corpus: RewardChunks

    def __iter__(self) -> Iterator[np.ndarray]:
        return (rewards for rewards, _ in self.corpus)


@dataclass(frozen=True)
class DocumentMeans:
    """The mean rewards of a corpus's documents, chunk by chunk."""

    corpus: RewardChunks

    def __iter__(self) -> Iterator[np.ndarray]:
        return (document_means(rewards, starts) for rewards, starts in self.corpus)


def count_below(corpus: RewardChunks, threshold: float) -> tuple[int, int, int]:
    """Count the segments of a corpus, those with a reward, and those with one below the threshold."""
    total = scored = below = 0
    for rewards, _ in corpus:
        total += len(rewards)
        scored += int(np.count_nonzero(~np.isnan(rewards)))
        below += int(np.count_nonzero(rewards < threshold))
    return total, scored, below


def resolve_threshold(threshold: Threshold, values: Iterable[np.ndarray]) -> float:
    """Return a threshold as a reward.

    Args:
        threshold: a reward, or a quantile of `values`.
        values: `SegmentRewards` or `DocumentMeans` of a corpus.

    Raises:
        InputError: for a quantile where nothing has a reward.
    """
    if not isinstance(threshold, str):
        return threshold
    (quantile,) = streaming_quantiles(values, [float(threshold[1:]) / 100])
    if math.isnan(quantile):
        raise InputError(f"threshold {threshold!r} is a quantile, but nothing in the corpus has a reward; give a number")
    return quantile


def resolved(threshold: Threshold) -> float:
    """Return a threshold that is a reward already; InputError if it is still a quantile."""
    if isinstance(threshold, str):
        raise InputError(f"threshold {threshold!r} is a quantile of a corpus: call resolve(corpus) first")
    return threshold


def describe_threshold(what: str, values: Iterable[np.ndarray], threshold: Threshold) -> str:
    """Describe where a threshold lies among rewards, for an error."""
    low, middle, high = streaming_quantiles(values, [0, 0.5, 1])
    if math.isnan(middle):
        return f"there are no {what}. Annotate the corpus with a scorer that can score it"
    return (
        f"{what} run from {low:.6g} to {high:.6g} (median {middle:.6g}) and the threshold is {threshold}. "
        "Choose one in between, or a quantile such as 'p50'; `phf inspect` shows the distribution"
    )


def check_threshold(threshold: Threshold) -> None:
    """Raise InputError for what is neither a number nor a quantile."""
    if isinstance(threshold, str):
        match = re.fullmatch(r"p([0-9]+(?:\.[0-9]+)?)", threshold)
        if not match or float(match[1]) > 100:
            raise InputError(f"threshold is {threshold!r}; expected a reward (a number) or a quantile from 'p0' to 'p100'")
    elif np.isnan(threshold):
        raise InputError("threshold is NaN; expected a reward (a number) or a quantile such as 'p50'")
