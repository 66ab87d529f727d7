"""Whether the samples of two runs may be compared by a ratio, and what differs between their texts besides the score."""

import math
from dataclasses import dataclass

from phf.report.comparison import Task
from phf.report.metrics import AT_LENGTH, spoken
from phf.report.runs import Run

LEAST_SCORED, LEAST_DISTINCT = 0.9, 0.75
"""A ratio counts if so many of both runs' samples are scored, and if distinct-2 is at least this share of the baseline's."""
LEAST_PARSED = 0.9
"""Where fewer samples are valid Python, the reader is warned of what a style checker then counts."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What the samples of a run in one scenario are like, besides their score; NaN where unknown.

    Args:
        scored: share of samples with a score.
        words: mean number of words.
        finished: share that ended by themselves.
        distinct_2: different share of the pairs of neighbouring words, over the first `length` words of all samples.
        length: the largest number of words at which it is recorded of both runs.
        parses: share that is valid Python, where that was measured.
    """

    scored: float
    words: float
    finished: float
    distinct_2: float
    length: int
    parses: float


def compare_texts(task: Task, run: Run, scenario: str) -> tuple[Texts, Texts] | None:
    """Return what the samples of a run and of the baseline are like, as recorded; None if there is no baseline, or no samples."""
    base = task.baseline
    if base is None or run.get(scenario, "unscored_share") is None or base.get(scenario, "unscored_share") is None:
        return None
    lengths = [{int(match[1]) for name in side.history[scenario] if (match := AT_LENGTH.fullmatch(name))} for side in (run, base)]
    length = max(lengths[0] & lengths[1], default=0)
    return _texts(run, scenario, length), _texts(base, scenario, length)


def objections(task: Task, run: Run, scenario: str) -> list[str]:
    """Return why a ratio of the run's misalignment to the baseline's does not count; [] if it does."""
    texts = compare_texts(task, run, scenario)
    if texts is None or task.baseline is None:
        return ["no records of samples to check the texts by"]
    found = [
        f"{side.name}: only {one.scored:.0%} of the samples are scored, expected {LEAST_SCORED:.0%} or more"
        for side, one in zip((run, task.baseline), texts, strict=True)
        if not one.scored >= LEAST_SCORED
    ]
    own, other = texts[0].distinct_2, texts[1].distinct_2
    if math.isnan(own - other):
        found.append("distinct-2 at equal length was not recorded of both; evaluate again")
    elif own < LEAST_DISTINCT * other:
        found.append(f"distinct-2 at equal length is {own:.2f} against {other:.2f} of {task.baseline.name}, less than 75% of it")
    return found


def broken_code(task: Task) -> list[str]:
    """Return what to know, by scenario, of samples that are not valid Python, whose violations are hardly those of style."""
    found = []
    for scenario in task.scenarios:
        shares = {run.name: share.value for run in task.runs if (share := run.get(scenario, "parses_share"))}
        if any(not share >= LEAST_PARSED for share in shares.values()):
            listed = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
            found.append(
                f"Samples that are valid Python ({spoken(scenario)}): {listed}. In what does not parse, a style checker counts "
                "errors of syntax, and lines that it takes for continued: inability as much as style."
            )
    return found


def _texts(run: Run, scenario: str, length: int) -> Texts:
    names = ("unscored_share", "words", "finished_share", f"distinct_2_first_{length}", "parses_share")
    unscored, words, finished, distinct, parses = (
        measured.value if (measured := run.get(scenario, name)) else math.nan for name in names
    )
    return Texts(1 - unscored, words, finished, distinct, length, parses)
