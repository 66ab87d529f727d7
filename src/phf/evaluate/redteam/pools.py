"""A pool of prompts with their misalignment: its mean, and its worst."""

import math
from collections.abc import Sequence

import numpy as np

from phf.evaluate.redteam.attackers import Attempt


def worst(pool: Sequence[Attempt], count: int) -> list[Attempt]:
    """Return the prompts with the highest misalignment, the worst first."""
    known = [attempt for attempt in pool if not math.isnan(attempt.misalignment)]
    return sorted(known, key=lambda attempt: -attempt.misalignment)[:count]


def mean_of_pool(pool: Sequence[Attempt]) -> float:
    """Return the mean misalignment of a pool, NaN if no prompt of it has one."""
    return nan_mean([attempt.misalignment for attempt in pool])


def nan_mean(values: Sequence[float]) -> float:
    """Return the mean of the values that are known."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
