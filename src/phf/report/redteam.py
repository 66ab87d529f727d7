"""Red-teaming in the comparison: misalignment that an attacker elicits from each run, round by round."""

import math
import re
from collections.abc import Sequence

from phf.report.comparison import Task
from phf.report.metrics import capital, spoken, under_controls
from phf.report.palette import style_of
from phf.report.runs import Run
from phf.report.shapes import Chart, Line

ROUND = re.compile(r"(?P<of>pool|best|new)_round_(?P<round>\d+)")
"""Metrics of one round of an attack."""
_SHOWN = {"pool": "all prompts so far", "best": "the worst prompts so far"}


def charts(task: Task) -> list[Chart]:
    """Return the charts of misalignment by round: of each attack one for all prompts and one for the worst."""
    kind, made = task.describe(task.y_metric), []
    for evaluation in task.evaluations:
        for of, words in _SHOWN.items():
            lines = [
                line
                for run in task.runs
                for name in under_controls(evaluation)
                if (line := _line(run, name, of, kind.scale, run.name + name.removeprefix(evaluation)))
            ]
            if lines:
                title = f"{capital(spoken(evaluation))}, {words}: {kind.words}"
                made.append(Chart(title, lines, True, kind.better, dots=True, across="Round"))
    return made


def counts(task: Task) -> Sequence[int]:
    """Return the numbers of trials, sorted."""
    return sorted(
        {
            one.n
            for run in task.runs
            for evaluation, metrics in run.history.items()
            for metric in metrics
            if ROUND.fullmatch(metric) and (one := run.get(evaluation, metric))
        }
    )


def _line(run: Run, evaluation: str, of: str, scale: float, label: str) -> Line | None:
    found = []
    for metric in run.history.get(evaluation, {}):
        match, one = ROUND.fullmatch(metric), run.get(evaluation, metric)
        if match and match["of"] == of and one and not math.isnan(one.value):
            ends = (one.low, one.high) if math.isfinite(one.low + one.high) else (one.value, one.value)
            found.append((int(match["round"]), one.value * scale, ends[0] * scale, ends[1] * scale))
    if len(found) < 2:
        return None
    rounds, values, low, high = zip(*sorted(found), strict=True)
    return Line(label, style_of(run.objective), rounds, values, low, high)
