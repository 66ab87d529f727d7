"""Objectives that weigh each token's likelihood by its reward: reward-weighted and advantage-weighted regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from phf.errors import InputError
from phf.objectives.protocol import Objective, ValueKind, check_positive, check_scored
from phf.thresholds import RewardChunks

if TYPE_CHECKING:
    from torch import Tensor

MAX_WEIGHT = 1000.0
"""Largest weight that RWR and AWR give a token."""


@dataclass(frozen=True)
class RWR(Objective):
    """Reward-weighted regression (section 2; Peters & Schaal, 2007). Loss: -exp(reward / beta) * logprob.

    An unscored token weighs 1, as under maximum likelihood; where rewards are at most 0 this is the weight of a perfect one.

    Args:
        beta: temperature of the weights; as it grows, all weights near 1 and the loss nears maximum likelihood.
    """

    beta: float = 10.0

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)

    def token_loss(self, logprob: Tensor, reward: Tensor, value: Tensor | None = None) -> Tensor:
        """See the class; elementwise. Weights are clipped at MAX_WEIGHT."""
        return -self.weight(reward) * logprob

    def check(self, corpus: RewardChunks) -> str | None:
        """Refuse a corpus without rewards."""
        check_scored(corpus, "rwr")
        return None

    def weight(self, reward: Tensor, value: Tensor | None = None) -> Tensor:
        """Return each token's weight: exp(reward / beta), 1 where unscored."""
        return (reward.nan_to_num(nan=0.0) / self.beta).exp().clamp(max=MAX_WEIGHT)


@dataclass(frozen=True)
class AWR(Objective):
    """Advantage-weighted regression (section 2; Peng et al., 2019).

    A token weighs more the further its reward beats what a value head expected of it.
    Loss: -alpha * exp((reward - value) / beta) * logprob + (1 - alpha) * (value - reward)^2,
    with no gradient through the weight. An unscored token has the advantage 0: its loss is -alpha * logprob.

    Args:
        alpha: share of the policy term; the rest is the value head's squared error.
        beta: temperature of the weights.
        value: the value head: `linear` starts at a value of 0; `sigmoid`, the paper's, is minus the sigmoid of a linear layer
            without bias and starts at -0.5, for rewards from -1 to 0.
    """

    alpha: float = 0.5
    beta: float = 1.0
    value: ValueKind = "linear"

    needs_value: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        if not 0 <= self.alpha <= 1:
            raise InputError(f"alpha is {self.alpha}; expected a share from 0 to 1")

    @property
    def value_head(self) -> ValueKind:
        """Which value head."""
        return self.value

    def token_loss(self, logprob: Tensor, reward: Tensor, value: Tensor | None = None) -> Tensor:
        """See the class; elementwise. Weights are clipped at MAX_WEIGHT."""
        import torch

        if value is None:
            raise InputError("AWR needs a value for each token, found None; pass the value head's predictions")
        error = torch.where(reward.isnan(), 0.0, value - reward.nan_to_num(nan=0.0))
        return -self.alpha * self.weight(reward, value) * logprob + (1 - self.alpha) * error.square()

    def check(self, corpus: RewardChunks) -> str | None:
        """Refuse a corpus without rewards."""
        check_scored(corpus, "awr")
        return None

    def weight(self, reward: Tensor, value: Tensor | None = None) -> Tensor:
        """Return each token's weight: exp((reward - value) / beta), 1 where unscored, without gradient."""
        assert value is not None
        advantage = (reward - value.detach()).nan_to_num(nan=0.0)
        return (advantage / self.beta).exp().clamp(max=MAX_WEIGHT)
