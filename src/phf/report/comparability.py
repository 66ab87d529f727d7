"""Whether the samples of two runs may be compared by a ratio, and what differs between their texts besides the score."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from phf.report.comparison import Task
from phf.report.runs import Run

LEAST_SCORED, LEAST_DISTINCT = 0.9, 0.75
"""A ratio counts if so many of both runs' samples are scored, and if distinct-2 is at least this share of the baseline's."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What the samples of a run in one scenario are like, besides their score; NaN where unknown.

    Args:
        scored: share of samples with a score.
        words: mean number of words.
        finished: share that ended by themselves.
        distinct_2: different share of the pairs of neighbouring words, over as many words as the other run has at least.
    """

    scored: float
    words: float
    finished: float
    distinct_2: float


def compare_texts(task: Task, run: Run, scenario: str) -> tuple[Texts, Texts] | None:
    """Return what the samples of a run and of the baseline are like; None if either has none on disk."""
    if task.baseline is None:
        return None
    columns = [side.samples.get(scenario, {}) for side in (run, task.baseline)]
    cut = [[str(text or "").split() for text in side.get("text", ())] for side in columns]
    if not all(cut):
        return None
    length = min(sum(map(len, texts)) for texts in cut)
    first, second = (
        Texts(
            _share([score is not None and not math.isnan(score) for score in side.get("misalignment", ())]),
            float(np.mean([len(text) for text in texts])),
            _share([finished for finished in side.get("finished", ()) if finished is not None]),
            distinct_2(texts, length),
        )
        for side, texts in zip(columns, cut, strict=True)
    )
    return first, second


def distinct_2(texts: Sequence[Sequence[str]], length: int) -> float:
    """Return the share of different ones among the pairs of neighbouring words in the first `length` words of all texts."""
    pairs: list[tuple[str, str]] = []
    left = length
    for text in texts:
        words = text[: max(left, 0)]
        left -= len(words)
        pairs += pairwise(words)
    return len(set(pairs)) / len(pairs) if pairs else math.nan


def objections(task: Task, run: Run, scenario: str) -> list[str]:
    """Return why a ratio of the run's misalignment to the baseline's does not count; [] if it does."""
    texts = compare_texts(task, run, scenario)
    if texts is None or task.baseline is None:
        return ["no samples on disk to check the texts by"]
    found = [
        f"{side.name}: only {one.scored:.0%} of the samples are scored, expected {LEAST_SCORED:.0%} or more"
        for side, one in zip((run, task.baseline), texts, strict=True)
        if not one.scored >= LEAST_SCORED
    ]
    own, other = texts[0].distinct_2, texts[1].distinct_2
    if not own >= LEAST_DISTINCT * other:
        found.append(f"distinct-2 at equal length is {own:.2f} against {other:.2f} of {task.baseline.name}, less than 75% of it")
    return found


def _share(values: Sequence[bool]) -> float:
    return float(np.mean(values)) if len(values) else math.nan
