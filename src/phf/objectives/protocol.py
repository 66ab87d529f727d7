"""What an objective is, and the completion of plugins that define a part of it."""

# S segments of a document, D documents, N segments of all documents; tensors may have any shape, the same for all.

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from phf.errors import InputError
from phf.thresholds import RewardChunks

if TYPE_CHECKING:
    from torch import Tensor

    from phf.config import Component

ValueKind = Literal["linear", "sigmoid"]


class Objective:
    """What an objective is: a view of the data and an elementwise loss. The defaults are those of maximum likelihood.

    A plugin need not inherit from it: `complete` gives these defaults to whatever its class leaves out.
    """

    needs_value: ClassVar[bool] = False
    """Whether `token_loss` needs a value head's prediction of the reward."""

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """Tokens put in front of segments; generation starts with the first. () unless conditional."""
        return ()

    @property
    def value_head(self) -> ValueKind:
        """Which value head, where one is needed; see `phf.learner.ValueHead`."""
        return "linear"

    def resolve(self, corpus: RewardChunks) -> Objective:
        """Return this objective with a quantile threshold replaced by the reward that it is in a corpus."""
        return self

    def keep(self, rewards: np.ndarray) -> bool:
        """Return whether to train on a document with these segment rewards (S,)."""
        return True

    def keep_each(self, rewards: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Return `keep` of many documents at once.

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
        """Return the control token in front of each segment.

        Args:
            rewards: (S,), of one document or of many: each segment is decided alone.
            rng: decides which control tokens are dropped.

        Returns:
            (S,) int8: index into `control_tokens`, -1 for none.
        """
        return np.full(len(rewards), -1, np.int8)

    def token_loss(self, logprob: Tensor, reward: Tensor, value: Tensor | None = None) -> Tensor:
        """Return each token's loss; the training loss is its mean.

        Args:
            logprob: natural-log probability of the target token.
            reward: of the target token's segment; NaN if it could not be scored.
            value: the value head's prediction of the reward, at the position that predicts; for AWR only.

        Returns:
            Of the same shape as `logprob`.
        """
        return -logprob

    def weight(self, reward: Tensor, value: Tensor | None = None) -> Tensor | None:
        """Return the factor of each token's -logprob, whose spread is logged; None if it is the same for all tokens."""
        return None

    def is_aligned(self, reward: Tensor) -> Tensor | None:
        """Return which tokens are of segments that reach the threshold, whose share is logged; None without a threshold."""
        return None

    def facts(self, reward: Tensor) -> Mapping[str, Tensor]:
        """Return further scalars worth logging of a batch, by name.

        Args:
            reward: of the target tokens' segments.
        """
        return {}

    def check(self, corpus: RewardChunks) -> str | None:
        """Check whether the objective can learn anything from a corpus.

        Returns:
            A remark on a corpus that makes the objective the same as another; None if there is nothing to say.

        Raises:
            InputError: if it cannot, saying what the rewards are and what to change.
        """
        return None


def load(component: Component) -> Objective:
    """Build the objective that a recipe names, built in or from a plugin.

    Raises:
        InputError: for an unknown name or field, or a value of the wrong type.
    """
    from phf import config

    return complete(config.build("objectives", component))


def complete(component: Any) -> Objective:
    """Return a component as an objective: what its class does not define is as in `Objective`.

    Args:
        component: an objective, or an instance of a plugin's class that defines some of its attributes.
    """
    if isinstance(component, Objective):
        return component
    kind: Any = type(component)
    whole: Objective = object.__new__(_completed(kind))
    fields = [*getattr(component, "__dict__", {}), *getattr(kind, "__dataclass_fields__", {})]
    vars(whole).update({name: getattr(component, name) for name in fields})
    for name in getattr(kind, "__slots__", ()):
        object.__setattr__(whole, name, getattr(component, name))  # it may be frozen
    return whole


@functools.cache
def _completed(kind: type[Any]) -> type[Objective]:
    namespace: dict[str, Any] = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    for name, attribute in vars(Objective).items():
        if isinstance(attribute, property) and not hasattr(kind, name) and name in getattr(kind, "__dataclass_fields__", {}):
            namespace[name] = property(functools.partial(_field, name))  # a field without a default
    return type(kind.__name__, (kind, Objective), namespace)


def _field(name: str, objective: Objective) -> Any:
    return vars(objective)[name]


def check_scored(corpus: RewardChunks, name: str) -> None:
    """Refuse a corpus in which no segment has a reward: the objective would be maximum likelihood in silence."""
    total = 0
    for rewards, _ in corpus:
        if not np.isnan(rewards).all():
            return
        total += len(rewards)
    raise InputError(
        f"{name} needs rewards, but none of {total} segments has one; see the warnings of `phf annotate` and its "
        "quarantine.jsonl, and annotate the corpus with a scorer that can score it"
    )


def check_positive(name: str, value: float) -> None:
    """Raise InputError for a field that is not above 0."""
    if not value > 0:
        raise InputError(f"{name} is {value}; expected a number above 0")


def check_not_negative(name: str, value: float) -> None:
    """Raise InputError for a field below 0."""
    if not value >= 0:
        raise InputError(f"{name} is {value}; expected 0 or more")
