"""Objectives that change the data and keep the loss of maximum likelihood: MLE itself, filtering, conditional training."""

# S segments of a document, D documents, N segments of all documents.

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from phf.errors import InputError
from phf.objectives.protocol import Objective, check_scored
from phf.thresholds import (
    DocumentMeans,
    RewardChunks,
    SegmentRewards,
    Threshold,
    check_threshold,
    count_below,
    describe_threshold,
    document_means,
    resolve_threshold,
    resolved,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MLE(Objective):
    """Maximum likelihood: train on everything, ignore the rewards. Loss: -logprob."""


@dataclass(frozen=True)
class Filtering(Objective):
    """Maximum likelihood on the documents whose mean segment reward reaches the threshold (section 2, "Dataset filtering").

    Args:
        threshold: smallest mean reward of a document that is kept; a quantile is one of document means.
        unscored: what happens to a document none of whose segments could be scored.
    """

    threshold: Threshold
    unscored: Literal["keep", "drop"] = "keep"

    def __post_init__(self) -> None:
        check_threshold(self.threshold)

    def resolve(self, corpus: RewardChunks) -> Filtering:
        """Return this objective with a quantile of document means replaced by a reward."""
        return dataclasses.replace(self, threshold=resolve_threshold(self.threshold, DocumentMeans(corpus)))

    def keep(self, rewards: np.ndarray) -> bool:
        """Return whether the mean of a document's scored segments reaches the threshold; `unscored` decides where none is."""
        return bool(self.keep_each(np.asarray(rewards), np.zeros(1, np.int64))[0])

    def keep_each(self, rewards: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Return `keep` of many documents at once."""
        return self._keeps(document_means(rewards, starts))

    def _keeps(self, means: np.ndarray) -> np.ndarray:
        reached: np.ndarray = means >= resolved(self.threshold)  # False for NaN
        return reached | np.isnan(means) if self.unscored == "keep" else reached

    def is_aligned(self, reward: Tensor) -> Tensor:
        """Return which tokens are of segments that reach the threshold."""
        return reward >= resolved(self.threshold)

    def check(self, corpus: RewardChunks) -> str | None:
        """Refuse a corpus without rewards or a threshold that keeps no document; remark on one that keeps them all.

        Documents that could not be scored are counted in a remark.
        """
        check_scored(corpus, "filtering")
        kept = total = unscored = 0
        for rewards, starts in corpus:
            means = document_means(rewards, starts)
            kept += int(np.count_nonzero(self._keeps(means)))
            unscored += int(np.count_nonzero(np.isnan(means)))
            total += len(starts)
        if not kept:
            described = describe_threshold("mean rewards", DocumentMeans(corpus), self.threshold)
            raise InputError(f"filtering keeps none of {total} documents: {described}")
        remarks = [f"filtering keeps all {total} documents: this is maximum likelihood"] if kept == total else []
        if unscored:
            action = "kept" if self.unscored == "keep" else "dropped"
            remarks.append(f"filtering: {unscored} of {total} documents could not be scored and are {action}; it keeps {kept}")
        return "; ".join(remarks) or None


@dataclass(frozen=True)
class Conditional(Objective):
    """Conditional training: say in front of each segment whether it is good, then maximum likelihood (section 2).

    Args:
        threshold: smallest reward of a segment that is called aligned.
        drop: share of segments that get no control token, so that the model also learns to go without.
        aligned, misaligned: how the two control tokens are spelled.
    """

    threshold: Threshold
    drop: float = 0.01
    aligned: str = "<|aligned|>"
    misaligned: str = "<|misaligned|>"

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        if not 0 <= self.drop <= 1:
            raise InputError(f"drop is {self.drop}; expected a share from 0 to 1")
        if self.aligned == self.misaligned:
            raise InputError(f"both control tokens are {self.aligned!r}; expected two different ones")

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """The aligned token first: generation starts with it."""
        return (self.aligned, self.misaligned)

    def resolve(self, corpus: RewardChunks) -> Conditional:
        """Return this objective with a quantile of segment rewards replaced by a reward."""
        return dataclasses.replace(self, threshold=resolve_threshold(self.threshold, SegmentRewards(corpus)))

    def controls(self, rewards: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Mark each scored segment 0 (aligned) or 1 (misaligned), and the dropped and the unscored ones -1."""
        controls = (rewards < resolved(self.threshold)).astype(np.int8)
        controls[(rng.random(len(rewards)) < self.drop) | np.isnan(rewards)] = -1
        return controls

    def is_aligned(self, reward: Tensor) -> Tensor:
        """Return which tokens are of segments that reach the threshold."""
        return reward >= resolved(self.threshold)

    def check(self, corpus: RewardChunks) -> str | None:
        """Refuse a corpus whose segments are all on one side: the model would never see the other token."""
        check_scored(corpus, "conditional")
        total, scored, bad = count_below(corpus, resolved(self.threshold))
        if self.drop < 1 and bad in (0, scored):
            raise InputError(
                f"conditional training needs segments on both sides of its threshold, but "
                f"{'no segment is aligned' if bad else 'every segment is aligned'} of {total}: "
                f"{describe_threshold('rewards', SegmentRewards(corpus), self.threshold)}"
            )
        return None
