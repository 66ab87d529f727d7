"""The six objectives, side by side: what each does to the data, and an elementwise loss of (logprob, reward, value).

Source: Korbak et al., "Pretraining Language Models with Human Preferences", ICML 2023 (arXiv 2302.08582), section 2.
Rewards are higher-is-better; a threshold is a reward, or a quantile of the corpus such as "p50".
An unscored token (reward NaN) trains as plain maximum likelihood under every objective.
"""

# S segments of a document, D documents, N segments of all documents; tensors may have any shape, the same for all.

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from phf.errors import InputError
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

MAX_WEIGHT = 1000.0
"""Largest weight that RWR and AWR give a token."""


class Objective:
    """What an objective is: a view of the data and an elementwise loss. The defaults are those of maximum likelihood."""

    needs_value: ClassVar[bool] = False
    """Whether `token_loss` wants a value head's prediction of the reward."""

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """Tokens put in front of segments; generation starts with the first. () unless conditional."""
        return ()

    def resolve(self, corpus: RewardChunks) -> Objective:
        """Return this objective with a quantile threshold replaced by the reward that it is in a corpus."""
        return self

    def keep(self, rewards: np.ndarray) -> bool:
        """Tell whether to train on a document with these segment rewards (S,)."""
        return True

    def keep_each(self, rewards: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Ask `keep` of many documents at once.

        Args:
            rewards: (N,) of all segments, document after document.
            starts: (D,) where each document's segments begin.

        Returns:
            (D,) bool.
        """
        if type(self).keep is Objective.keep:
            return np.ones(len(starts), bool)
        return np.array([self.keep(part) for part in np.split(rewards, starts[1:])] if len(starts) else [], bool)

    def controls(self, rewards: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Choose the control token in front of each segment.

        Args:
            rewards: (S,), of one document or of many: each segment is decided alone.
            rng: decides which control tokens are dropped.

        Returns:
            (S,) int8: index into `control_tokens`, -1 for none.
        """
        return np.full(len(rewards), -1, np.int8)

    def token_loss(self, logprob: Tensor, reward: Tensor, value: Tensor | None = None) -> Tensor:
        """Give each token's loss; the training loss is its mean.

        Args:
            logprob: natural-log probability of the target token.
            reward: of the target token's segment; NaN if it could not be scored.
            value: the value head's prediction of the reward, at the position that predicts; for AWR only.

        Returns:
            Of the same shape as `logprob`.
        """
        return -logprob

    def weight(self, reward: Tensor, value: Tensor | None = None) -> Tensor | None:
        """Give the factor that multiplies each token's -logprob, for logging its spread; None if it is the same for all."""
        return None

    def is_aligned(self, reward: Tensor) -> Tensor | None:
        """Tell which tokens are of segments that reach the threshold, for logging their share; None if there is no threshold."""
        return None

    def check(self, corpus: RewardChunks) -> str | None:
        """Check whether the objective can learn anything from a corpus.

        Returns:
            A remark on a corpus that makes the objective the same as another; None if there is nothing to say.

        Raises:
            InputError: if it cannot, saying what the rewards are and what to change.
        """
        return None


@dataclass(frozen=True)
class MLE(Objective):
    """Maximum likelihood: train on everything, ignore the rewards. Loss: -logprob."""


@dataclass(frozen=True)
class Filtering(Objective):
    """Maximum likelihood on the documents whose mean segment reward reaches the threshold (section 2, "Dataset filtering").

    Args:
        threshold: smallest mean reward of a document that is kept; a quantile is one of document means.
    """

    threshold: Threshold

    def __post_init__(self) -> None:
        check_threshold(self.threshold)

    def resolve(self, corpus: RewardChunks) -> Filtering:
        """Return this objective with a quantile of document means replaced by a reward."""
        return dataclasses.replace(self, threshold=resolve_threshold(self.threshold, DocumentMeans(corpus)))

    def keep(self, rewards: np.ndarray) -> bool:
        """Keep a document whose mean reward, over its scored segments, reaches the threshold; keep one with none scored."""
        return bool(self.keep_each(np.asarray(rewards), np.zeros(1, np.int64))[0])

    def keep_each(self, rewards: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Decide for many documents at once, see `keep`."""
        return ~(document_means(rewards, starts) < resolved(self.threshold))

    def is_aligned(self, reward: Tensor) -> Tensor:
        """Tell which tokens are of segments that reach the threshold."""
        return reward >= resolved(self.threshold)

    def check(self, corpus: RewardChunks) -> str | None:
        """Refuse a corpus without rewards or a threshold that keeps no document; remark on one that keeps them all."""
        _check_scored(corpus, "filtering")
        kept = total = 0
        for rewards, starts in corpus:
            kept += int(np.count_nonzero(self.keep_each(rewards, starts)))
            total += len(starts)
        if not kept:
            described = describe_threshold("mean rewards", DocumentMeans(corpus), self.threshold)
            raise InputError(f"filtering keeps none of {total} documents: {described}")
        return f"filtering keeps all {total} documents: this is maximum likelihood" if kept == total else None


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
        """Tell which tokens are of segments that reach the threshold."""
        return reward >= resolved(self.threshold)

    def check(self, corpus: RewardChunks) -> str | None:
        """Refuse a corpus whose segments are all on one side: the model would never see the other token."""
        _check_scored(corpus, "conditional")
        total, scored, bad = count_below(corpus, resolved(self.threshold))
        if self.drop < 1 and bad in (0, scored):
            raise InputError(
                f"conditional training needs segments on both sides of its threshold, but "
                f"{'no segment is aligned' if bad else 'every segment is aligned'} of {total}: "
                f"{describe_threshold('rewards', SegmentRewards(corpus), self.threshold)}"
            )
        return None


@dataclass(frozen=True)
class Unlikelihood(Objective):
    """Raise the likelihood of good segments, lower that of bad ones (section 2; Welleck et al., 2020).

    Loss: -logprob where reward >= threshold, else -alpha * log(1 - exp(logprob)).

    Args:
        threshold: smallest reward of a good segment. A threshold of 0 is a threshold.
        alpha: weight of the unlikelihood term.
    """

    threshold: Threshold
    alpha: float = 1.0

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        _check_not_negative("alpha", self.alpha)

    def resolve(self, corpus: RewardChunks) -> Unlikelihood:
        """Return this objective with a quantile of segment rewards replaced by a reward."""
        return dataclasses.replace(self, threshold=resolve_threshold(self.threshold, SegmentRewards(corpus)))

    def token_loss(self, logprob: Tensor, reward: Tensor, value: Tensor | None = None) -> Tensor:
        """See the class; elementwise."""
        import torch

        bad = reward < resolved(self.threshold)  # False for NaN
        # Where p rounds to 1, log(1 - p) would be -inf: keep 1 - p at least a rounding error.
        limit = torch.finfo(logprob.dtype).eps
        unlikely = -self.alpha * torch.log(-torch.expm1(logprob.clamp(max=-limit)))
        return torch.where(bad, unlikely, -logprob)

    def is_aligned(self, reward: Tensor) -> Tensor:
        """Tell which tokens are of segments that reach the threshold."""
        return reward >= resolved(self.threshold)

    def check(self, corpus: RewardChunks) -> str | None:
        """Refuse a corpus without rewards or without a good segment; remark on one without a bad one."""
        _check_scored(corpus, "unlikelihood")
        total, _, bad = count_below(corpus, resolved(self.threshold))
        if total and bad == total:
            raise InputError(
                f"unlikelihood finds no good segment: {describe_threshold('rewards', SegmentRewards(corpus), self.threshold)}"
            )
        return None if bad else f"unlikelihood finds no bad one of {total} segments: this is maximum likelihood"


@dataclass(frozen=True)
class RWR(Objective):
    """Reward-weighted regression (section 2; Peters & Schaal, 2007). Loss: -exp(reward / beta) * logprob.

    Args:
        beta: temperature of the weights; as it grows, all weights near 1 and the loss nears maximum likelihood.
    """

    beta: float = 10.0

    def __post_init__(self) -> None:
        _check_positive("beta", self.beta)

    def token_loss(self, logprob: Tensor, reward: Tensor, value: Tensor | None = None) -> Tensor:
        """See the class; elementwise. Weights are clipped at MAX_WEIGHT."""
        return -self.weight(reward) * logprob

    def check(self, corpus: RewardChunks) -> str | None:
        """Refuse a corpus without rewards."""
        _check_scored(corpus, "rwr")
        return None

    def weight(self, reward: Tensor, value: Tensor | None = None) -> Tensor:
        """Give each token's weight: exp(reward / beta), 1 where unscored."""
        return (reward.nan_to_num(nan=0.0) / self.beta).exp().clamp(max=MAX_WEIGHT)


@dataclass(frozen=True)
class AWR(Objective):
    """Advantage-weighted regression (section 2; Peng et al., 2019).

    A token weighs more the further its reward beats what a value head expected of it.
    Loss: -alpha * exp((reward - value) / beta) * logprob + (1 - alpha) * (value - reward)^2,
    with no gradient through the weight.

    Args:
        alpha: share of the policy term; the rest is the value head's squared error.
        beta: temperature of the weights.
    """

    alpha: float = 0.5
    beta: float = 1.0

    needs_value: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_positive("beta", self.beta)
        if not 0 <= self.alpha <= 1:
            raise InputError(f"alpha is {self.alpha}; expected a share from 0 to 1")

    def token_loss(self, logprob: Tensor, reward: Tensor, value: Tensor | None = None) -> Tensor:
        """See the class; elementwise. Weights are clipped at MAX_WEIGHT."""
        import torch

        if value is None:
            raise InputError("AWR needs a value for each token, found None; give the value head's predictions")
        scored = ~reward.isnan()
        error = torch.where(scored, value - reward.nan_to_num(nan=0.0), 0.0)
        loss = -self.alpha * self.weight(reward, value) * logprob + (1 - self.alpha) * error.square()
        return torch.where(scored, loss, -logprob)

    def check(self, corpus: RewardChunks) -> str | None:
        """Refuse a corpus without rewards."""
        _check_scored(corpus, "awr")
        return None

    def weight(self, reward: Tensor, value: Tensor | None = None) -> Tensor:
        """Give each token's weight: exp((reward - value) / beta), 1 where unscored, without gradient."""
        assert value is not None
        advantage = (reward - value.detach()).nan_to_num(nan=0.0)
        return (advantage / self.beta).exp().clamp(max=MAX_WEIGHT)


def _check_scored(corpus: RewardChunks, name: str) -> None:
    """Refuse a corpus in which no segment has a reward: the objective would be maximum likelihood in silence."""
    total, scored, _ = count_below(corpus, -math.inf)
    if not scored:
        raise InputError(
            f"{name} needs rewards, but none of {total} segments has one; see the warnings of `phf annotate` and its "
            "quarantine.jsonl, and annotate the corpus with a scorer that can score it"
        )


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise InputError(f"{name} is {value}; expected a number above 0")


def _check_not_negative(name: str, value: float) -> None:
    if not value >= 0:
        raise InputError(f"{name} is {value}; expected 0 or more")
