"""An evaluation: how long the texts are that a model writes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from phf.evaluate import EvalContext
from phf.lm import LanguageModel, Sampling
from phf.records import Record


@dataclass(frozen=True)
class SampleLength:
    """Mean length of samples in characters.

    Args:
        n: samples.
        max_tokens: of a sample.
    """

    n: int = 32
    max_tokens: int = 16

    def measure(self, model: LanguageModel, setting: EvalContext) -> Iterator[Record]:
        """Yield one record: the mean, its standard error and n."""
        samples = model.generate([""] * self.n, Sampling(max_tokens=self.max_tokens, seed=setting.seed))
        lengths = np.array([len(sample) for sample in samples])
        yield setting.record("characters", lengths.mean(), lengths.std(ddof=1) / self.n**0.5, self.n)
