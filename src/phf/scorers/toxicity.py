"""How toxic a text is, by a linear model that comes with phf: nothing to download, several megabytes a second on one core."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phf.errors import InputError
from phf.linear_model import Linear, sigmoid

_SHIPPED = Path(__file__).with_name("toxicity.safetensors")


@dataclass(frozen=True)
class Toxicity:
    """Reward = -P(toxic), from -1 to 0; a model trained on rewards returns rewards of their range.

    A text of nothing but white space is not toxic: it has the highest reward.

    Args:
        path: a folder written by `phf reward train`, or the model file in it; the model that comes with phf if not given.
        prior: the share of toxic texts to take for granted. By default that of the labels, about a half for the model
            that comes with phf, so a corpus with little toxic text gets probabilities that are too large, though well ordered.

    Raises:
        InputError: if there is no model at `path`, or `prior` is not between 0 and 1.
    """

    path: str | Path | None = None
    prior: float | None = None

    def __post_init__(self) -> None:
        _load(self.path)
        if self.prior is not None and not 0 < self.prior < 1:
            raise InputError(f"toxicity.prior: expected a share above 0 and below 1, found {self.prior}")

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return -P(toxic) of each text, the worst of its pieces if it is long: (N,) float32."""
        model = _load(self.path)
        log_odds = model.log_odds(texts)
        if self.prior is not None:
            log_odds += _log_odds(self.prior) - _log_odds(model.share)
        rewards: np.ndarray = np.float32(model.high) - np.float32(model.high - model.low) * sigmoid(log_odds)
        return rewards


@functools.cache
def _load(path: str | Path | None) -> Linear:
    return Linear.load(Path(path) if path is not None else _SHIPPED)


def _log_odds(share: float) -> float:
    return math.log(share / (1 - share))
