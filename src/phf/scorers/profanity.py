"""Profanity: the linear model of alt-profanity-check, whose weights come in its wheel."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from phf.errors import require


@dataclass(frozen=True)
class Profanity:
    """-P(profane) by alt-profanity-check: a linear model of word counts, trained on Jigsaw's and Davidson's comments.

    A second opinion on samples that `toxicity` or a classifier scored; the two have seen some of the same labels. The wheel keeps
    its model as a pickle, which importing the library loads.
    """

    batch_characters: ClassVar[int] = 1_000_000

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return the reward of each text: (N,) float32; of a text without a known word, that of an empty one.

        Raises:
            MissingExtra: without the library.
        """
        library: Any = require("profanity_check", "second", "the scorer profanity")
        if not texts:
            return np.zeros(0, np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions of scikit-learn
            return np.asarray(-library.predict_prob(list(texts)), np.float32)
