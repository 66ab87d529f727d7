"""Thresholds of evaluations: their default from the recipe's objectives, quantiles of the corpus, and whether they divide it."""

import functools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

import numpy as np

from phf import config
from phf.documents import Document
from phf.errors import InputError
from phf.layout import RunFolder, WorkFolder
from phf.objectives import Conditional, Unlikelihood
from phf.thresholds import RewardChunks, SegmentRewards, Threshold, count_below, resolve_threshold
from phf.tokens import TokenStore

log = logging.getLogger("phf")

_DOCUMENTS_AT_ONCE = 1000
_ALIGNED = 0.0
"""The threshold where no objective has one: the reward of a text in which nothing was found."""


def default_threshold(objectives: Iterable[config.Component]) -> Threshold | None:
    """Return the threshold that a comparison's runs were trained with: conditional training's, else unlikelihood's.

    Never filtering's, which is one of document means.

    Returns:
        None if there is neither.

    Raises:
        InputError: if they were trained with different ones.
    """
    built = [config.build("objectives", component) for component in objectives]
    for kind, name in ((Conditional, "conditional"), (Unlikelihood, "unlikelihood")):
        own = {objective.threshold for objective in built if isinstance(objective, kind)}
        if len(own) > 1:
            raise InputError(
                f"the recipe's {name} runs have the thresholds {', '.join(sorted(map(str, own)))}, and evaluations could use any "
                "of them; give each evaluation that needs one its own, such as evaluate.evaluations.heldout.threshold=0"
            )
        if own:
            return own.pop()
    return None


def objectives_beside(run: Path) -> list[config.Component]:
    """Return the objectives of the trained runs in the same work folder, as their config.yaml has them."""
    configs = [RunFolder(folder).config for folder in sorted(WorkFolder.of_run(run.absolute()).runs.glob("*"))]
    objectives = {path: config.read_yaml(path).get("objective") for path in configs if path.is_file()}
    return [
        config.check(config.Component, objective, f"{path}: objective") for path, objective in objectives.items() if objective
    ]


class CorpusThresholds:
    """The thresholds of evaluations as rewards.

    Args:
        default: the threshold of an evaluation that names none.
        tokens: the token store, whose rewards are those that objectives resolved their thresholds on.
        read_documents: reads the annotated documents that are not held out, for a corpus without a token store.
    """

    def __init__(
        self, default: Callable[[], Threshold | None], tokens: Path, read_documents: Callable[[], Iterator[Document]] | None
    ) -> None:
        self._default, self._tokens, self._read_documents = default, tokens, read_documents

    @functools.cached_property
    def _rewards(self) -> RewardChunks | None:
        if self._tokens.is_dir():
            return TokenStore.open(self._tokens).rewards
        return _Rewards(self._read_documents) if self._read_documents else None

    @functools.cache  # noqa: B019  # one object a stage
    def resolve(self, threshold: Threshold | None) -> float:
        """Return a threshold as a reward, and the default for None.

        Raises:
            InputError: for a quantile without a corpus, or several candidates for the default.
        """
        if threshold is None:
            default = self._default()
            return self.resolve(default) if default is not None else _ALIGNED
        if isinstance(threshold, str) and self._rewards is None:
            raise InputError(f"threshold {threshold!r} is a quantile of the corpus, and there is no corpus; give a reward")
        return resolve_threshold(threshold, SegmentRewards(self._rewards or []))

    @functools.cache  # noqa: B019
    def remark(self, threshold: float) -> str | None:
        """Return what is wrong with a threshold that does not divide the corpus; None if it does, or there is no corpus."""
        _, scored, below = count_below(self._rewards, threshold) if self._rewards is not None else (0, 0, 0)
        if not scored or 0 < below < scored:
            return None
        side = "none of the corpus's {:,} rewards is below it, so every text is aligned"
        if below:
            side = "all of the corpus's {:,} rewards are below it, so no text is aligned"
        return f"{side.format(scored)}; `phf inspect` shows the rewards, and a quantile such as p50 divides them"

    def warn(self, evaluation: str, thresholds: Collection[tuple[str, float]]) -> None:
        """Warn of each threshold that does not divide the corpus."""
        for name, value in thresholds:
            if remark := self.remark(value):
                log.warning("%s: %s is %g: %s", evaluation, name, value, remark)


class _Rewards:
    """The rewards of an annotated corpus, as `RewardChunks`."""

    def __init__(self, read_documents: Callable[[], Iterator[Document]]) -> None:
        self._read_documents = read_documents

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rewards: list[np.ndarray] = []
        for document in self._read_documents():
            if document.rewards is not None and len(document.rewards):
                rewards.append(document.rewards)
            if len(rewards) == _DOCUMENTS_AT_ONCE:
                yield _chunk(rewards)
                rewards = []
        if rewards:
            yield _chunk(rewards)


def _chunk(rewards: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate(rewards), np.cumsum([0, *map(len, rewards[:-1])])
