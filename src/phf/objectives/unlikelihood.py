"""Unlikelihood training: with a threshold between good and bad segments, or with a blend of both losses by the reward."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from phf.errors import InputError
from phf.objectives.protocol import Objective, check_not_negative, check_scored
from phf.thresholds import (
    RewardChunks,
    SegmentRewards,
    Threshold,
    check_threshold,
    count_below,
    describe_threshold,
    resolve_threshold,
    resolved,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Unlikelihood(Objective):
    """Raise the likelihood of good segments, lower that of bad ones (section 2; Welleck et al., 2020).

    Loss: -logprob where reward >= threshold, else -alpha * log(1 - exp(logprob)).

    Args:
        threshold: smallest reward of a good segment. A threshold of 0 is a threshold. An unscored segment counts as good.
        alpha: weight of the unlikelihood term.
    """

    threshold: Threshold
    alpha: float = 1.0

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        check_not_negative("alpha", self.alpha)

    def resolve(self, corpus: RewardChunks) -> Unlikelihood:
        """Return this objective with a quantile of segment rewards replaced by a reward."""
        return dataclasses.replace(self, threshold=resolve_threshold(self.threshold, SegmentRewards(corpus)))

    def token_loss(self, logprob: Tensor, reward: Tensor, value: Tensor | None = None) -> Tensor:
        """See the class; elementwise."""
        import torch

        bad = reward < resolved(self.threshold)  # False for NaN
        return torch.where(bad, -self.alpha * log_unlikelihood(logprob), -logprob)

    def is_aligned(self, reward: Tensor) -> Tensor:
        """Return which tokens are of segments that reach the threshold."""
        return reward >= resolved(self.threshold)

    def check(self, corpus: RewardChunks) -> str | None:
        """Refuse a corpus without rewards or without a good segment; remark on one without a bad one."""
        check_scored(corpus, "unlikelihood")
        total, _, bad = count_below(corpus, resolved(self.threshold))
        if total and bad == total:
            raise InputError(
                f"unlikelihood finds no good segment: {describe_threshold('rewards', SegmentRewards(corpus), self.threshold)}"
            )
        return None if bad else f"unlikelihood finds no bad one of {total} segments: this is maximum likelihood"


@dataclass(frozen=True)
class UnlikelihoodBlend(Objective):
    """Blend likelihood and unlikelihood by the score s = -reward, clipped to [0, 1].

    Loss: -(1 - s) * logprob - alpha * s * log(1 - exp(logprob)).

    The released code of Korbak et al. (2023) trains this where the threshold of unlikelihood is 0, as on PII and PEP8.

    Args:
        alpha: weight of the unlikelihood term.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        check_not_negative("alpha", self.alpha)

    def token_loss(self, logprob: Tensor, reward: Tensor, value: Tensor | None = None) -> Tensor:
        """See the class; elementwise. An unscored token has s = 0: maximum likelihood."""
        score = (-reward).nan_to_num(nan=0.0).clamp(0, 1)
        return -(1 - score) * logprob - self.alpha * score * log_unlikelihood(logprob)

    def facts(self, reward: Tensor) -> Mapping[str, Tensor]:
        """Return `clipped_share`: of the scored tokens, those whose score lies outside [0, 1]."""
        scored = (~reward.isnan()).sum().clamp(min=1)
        return {"clipped_share": ((reward > 0) | (reward < -1)).sum() / scored}

    def check(self, corpus: RewardChunks) -> str | None:
        """Refuse a corpus without rewards; remark on scores that are clipped, and on a corpus without any above 0."""
        check_scored(corpus, "unlikelihood-blend")
        total, _, bad = count_below(corpus, 0.0)
        if not bad:
            return f"unlikelihood-blend finds no reward below 0 in {total} segments: this is maximum likelihood"
        clipped = sum(int(np.count_nonzero((rewards > 0) | (rewards < -1))) for rewards, _ in corpus)
        return f"unlikelihood-blend: {clipped} of {total} rewards lie outside [-1, 0] and are clipped" if clipped else None


def log_unlikelihood(logprob: Tensor) -> Tensor:
    """Return log(1 - exp(logprob)), elementwise and finite: where p rounds to 1, 1 - p is taken to be a rounding error."""
    import torch

    return torch.log(-torch.expm1(logprob.clamp(max=-torch.finfo(logprob.dtype).eps)))
