"""Tables of the comparison: one row a run, one cell a number with its interval and its difference to MLE."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from phf.report.comparison import Task
from phf.report.glossary import explain
from phf.report.metrics import (
    AT_LENGTH,
    Measure,
    Measured,
    capital,
    decimals,
    rank,
    short,
    span,
    spoken,
    under_controls,
    write,
    write_interval,
)
from phf.report.palette import style_of
from phf.report.redteam import ROUND
from phf.report.runs import Run

Head = tuple[str, Sequence[str], str]
"""A column's name, lines to stand below it, and what it means."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A number as it is written, with what stands below it."""

    text: str
    interval: str = ""
    change: str = ""
    seeds: str = ""
    settled: bool = False
    best: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A run's cells; `note` stands below its name."""

    name: str
    style: str
    note: str
    cells: Sequence[Cell]
    aside: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """What the page lays out as a table, one row a run."""

    title: str
    heads: Sequence[Head]
    rows: Sequence[Row]


def summary(task: Task) -> Table:
    """Return the main table: capability cost and misalignment in each scenario, with the difference to MLE, and the unscored."""
    keys = [task.split(task.x), *((scenario, task.y_metric) for scenario in task.scenarios)]
    keys = [key for key in keys if any(run.get(*key) for run in task.runs)]
    columns = [_column(task, *key) for key in keys]
    heads = [head(spoken(evaluation), task.describe(metric), task.describe(metric).words, metric) for evaluation, metric in keys]
    rows = [
        Row(run.name, style_of(run.objective), _note(run), [*(column[row] for column in columns), Cell(_unscored(task, run))])
        for row, run in enumerate(task.runs)
    ]
    return Table("Capability cost and misalignment", [*heads, ("Unscored", ["samples"], explain("unscored_share"))], rows)


def of_evaluation(task: Task, evaluation: str) -> Table:
    """Return the table of everything one evaluation measured; runs under other control tokens stand below."""
    names = under_controls(evaluation)
    metrics = list(dict.fromkeys(m for name in names for run in task.runs for m in run.history.get(name, {})))
    hidden = (metric for metric in metrics if ROUND.fullmatch(metric) or AT_LENGTH.fullmatch(metric))  # rounds are drawn
    metrics = sorted(set(metrics) - set(hidden), key=lambda metric: (rank(metric), metrics.index(metric)))
    columns = [_column(task, evaluation, metric) for metric in metrics]
    rows = [
        Row(run.name, style_of(run.objective), _n(run, evaluation), [column[number] for column in columns])
        for number, run in enumerate(task.runs)
        if evaluation in run.history
    ]
    for run in task.runs:
        token = run.control_tokens[1] if len(run.control_tokens) > 1 else "second control token"
        for name, condition in zip(names[1:], (f"under {token}", "without a control token"), strict=True):
            if name in run.history:
                cells = [single(run.get(name, metric), task.describe(metric)) for metric in metrics]
                rows.append(Row(f"{run.name} {condition}", style_of(run.objective), _n(run, name), cells, aside=True))
    heads = [head(task.describe(metric).label, task.describe(metric), task.describe(metric).unit, metric) for metric in metrics]
    return Table(capital(spoken(evaluation)), heads, rows)


def _column(task: Task, evaluation: str, metric: str) -> list[Cell]:
    """Write one measure of every run, to the same number of decimals, the best marked."""
    measure, measured = task.describe(metric), [run.get(evaluation, metric) for run in task.runs]
    known = [m for m in measured if m is not None and not math.isnan(m.value)]
    places = decimals(known, measure)
    best = {"lower": min, "higher": max}[measure.better]((m.value for m in known), default=None) if measure.better else None
    cells = []
    for run, one in zip(task.runs, measured, strict=True):
        if one is None or math.isnan(one.value):
            cells.append(Cell("not measured"))
            continue
        change, settled = "", False
        apart = task.difference(run, evaluation, metric) if measure.better else None
        if apart is not None:
            change = f"{write(apart.value, places, measure, True)} {write_interval(apart, places, measure, True)}"
            settled = apart.low > 0 or apart.high < 0
        text, interval = write(one.value, places, measure), write_interval(one, places, measure)
        cells.append(Cell(text, interval, change, _between(one, places, measure), settled, len(known) > 1 and one.value == best))
    return cells


def _between(measured: Measured, places: int, measure: Measure) -> str:
    """Return the spread between seeds beside the error within one; "" for a run of one seed."""
    if measured.seeds < 2:
        return ""
    sd = write(measured.between, places, replace(measure, suffix=""))
    within = (
        "" if math.isnan(measured.within) else f", within one ±\xa0{write(measured.within, places, replace(measure, suffix=''))}"
    )
    return f"{measured.seeds} seeds, sd {sd}{within}"


def single(measured: Measured | None, measure: Measure) -> Cell:
    """Write one number to two digits of its own interval."""
    if measured is None or math.isnan(measured.value):
        return Cell("not measured")
    places = decimals([measured], measure)
    return Cell(write(measured.value, places, measure), write_interval(measured, places, measure))


def _unscored(task: Task, run: Run) -> str:
    """Count the samples of all scenarios that the scorer could not score."""
    shares = [run.get(scenario, "unscored_share") for scenario in task.scenarios]
    known = [share for share in shares if share is not None and not math.isnan(share.value)]
    if not known:
        return "not measured"
    return f"{sum(round(share.value * share.n) for share in known):,} of {sum(share.n for share in known):,}"


def _note(run: Run) -> str:
    """Return the note below a run's name: the fields of its objective, and its training tokens."""
    fields = [
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in run.objective_fields.items()
        if value is not None and value not in run.control_tokens
    ]
    finetuned = ["finetuned"] if run.finetuned else []
    objective = [run.objective] if run.objective and run.objective not in run.name.lower() else []
    tokens = [] if math.isnan(run.tokens) else [f"{short(run.tokens)} tokens"]
    return " · ".join([*finetuned, *objective, *fields, *tokens])


def _n(run: Run, evaluation: str) -> str:
    counts = sorted({measured.n for steps in run.history[evaluation].values() for measured in steps.values()})
    return f"n\xa0=\xa0{span(counts)}"


def head(name: str, measure: Measure, unit: str, metric: str) -> Head:
    """Return the head of a column: its name, its unit and which way is better."""
    return capital(name), [line for line in (unit, measure.hint) if line], explain(metric)
