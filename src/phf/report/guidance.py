"""Guided decoding in the comparison: where each gamma takes a run, as paths in its planes, and as a table."""

import math
from collections.abc import Sequence

from phf.records import EvaluationName
from phf.report.comparison import Task
from phf.report.metrics import capital, ends, spoken
from phf.report.palette import style_of
from phf.report.runs import Run
from phf.report.shapes import Axis, Panel, Path, Point
from phf.report.tables import Row, Table, head, single

_COST = "bits_per_byte_aligned"
"""What guidance costs, where the comparison's own cost was not measured under it."""


def cost_of(task: Task) -> str:
    """Return the capability cost that was measured under guidance: the comparison's own, if it was."""
    own = task.split(task.x)[1]
    measured = any(run.get(evaluation, own) for run, steps in task.guided for _, evaluation in steps)
    return own if measured else _COST


def same_documents(run: Run, evaluation: str, baseline: Run, other: str, metric: str) -> bool:
    """Return whether a metric of two evaluations is of equally many documents in each seed: those of the same held-out corpus."""
    found = (run.get(evaluation, metric), baseline.get(other, metric))
    return len({one.n / one.seeds for one in found if one is not None}) == 1


def paths(task: Task, origin: float = 0.0) -> list[Path]:
    """Return the path of each run that was guided, from the least gamma to the most; plain sampling (1) needs no name.

    What was measured on other documents or prompts than the run without guidance has no place in the same plane, and is in the
    table alone.

    Args:
        task: the runs.
        origin: what x is a difference to; unless it is 0, x has no interval, since the runs' own does not hold for it.
    """
    result = []
    for run, steps in task.guided:
        points = [
            point
            for gamma, evaluation in steps
            if task.is_of_the_plot(run, evaluation)
            and same_documents(run, evaluation, run, task.split(task.x)[0], cost_of(task))
            and (point := _point(task, run, gamma, evaluation, origin))
        ]
        if points:
            result.append(Path(style_of(run.objective), points))
    return result


def plane(task: Task) -> Panel | None:
    """Return the plane of all paths among the runs; None if no run was guided."""
    made = paths(task)
    if not made:
        return None
    x, y = task.describe(cost_of(task)), task.describe(task.y_metric)
    across = (task.split(task.x)[0], cost_of(task))
    runs = [
        Point(run.name, style_of(run.objective), ends(one, x), ends(other, y), run.finetuned)
        for run in task.runs
        if (one := run.get(*across)) and (other := run.get(*task.split(task.y))) and not math.isnan(one.value + other.value)
    ]
    axes = Axis(f"Capability cost: {x.words}", x.better), Axis(capital(y.words), y.better)
    return Panel("", *axes, runs, made)


def near(made: Sequence[Path], points: Sequence[Point]) -> tuple[list[Path], list[str]]:
    """Cut off paths so far from the points that these would overlap; return also the labels of what is cut off."""
    ends = [end for point in points for end in point.x if math.isfinite(end)]
    spread = max(ends) - min(ends)
    kept, cut = [], []
    for path in made:
        inside = [point for point in path.points if min(ends) - spread <= point.x[0] <= max(ends) + spread]
        cut += [point.label for point in path.points if point not in inside]
        kept += [Path(path.style, inside)] if inside else []
    return kept, cut


def table(task: Task) -> Table | None:
    """Tabulate what every gamma gives; None if no run was guided."""
    if not task.guided:
        return None
    metrics = [task.y_metric, cost_of(task), "hit_share", "finished_share", "unscored_share"]
    rows = [
        Row(f"{run.name}, γ\xa0=\xa0{gamma:g}", style_of(run.objective), _n(run, evaluation, task.y_metric),
            [single(run.get(evaluation, metric), task.describe(metric)) for metric in metrics])
        for run, steps in task.guided
        for gamma, evaluation in steps
    ]  # fmt: skip
    heads = [head(task.describe(metric).label, task.describe(metric), task.describe(metric).unit, metric) for metric in metrics]
    return Table("Guided decoding", heads, rows)


def names(task: Task) -> str:
    """Return which runs were guided and by which evaluations, in words."""
    measures = dict.fromkeys(spoken(EvaluationName.parse(evaluation).base) for _, steps in task.guided for _, evaluation in steps)
    return f"{', '.join(run.name for run, _ in task.guided)} (evaluation {', '.join(measures)})"


def _point(task: Task, run: Run, gamma: float, evaluation: str, origin: float) -> Point | None:
    across, up = run.get(evaluation, cost_of(task)), run.get(evaluation, task.y_metric)
    if across is None or up is None or math.isnan(across.value + up.value):
        return None
    sides = [ends(one, task.describe(metric)) for one, metric in ((across, cost_of(task)), (up, task.y_metric))]
    if origin:
        sides[0] = (sides[0][0] - origin, math.nan, math.nan)
    return Point("" if gamma == 1 else f"γ {gamma:g}", style_of(run.objective), sides[0], sides[1], run.finetuned)


def _n(run: Run, evaluation: str, metric: str) -> str:
    one = run.get(evaluation, metric)
    return f"n\xa0=\xa0{one.n:,}" if one else ""
