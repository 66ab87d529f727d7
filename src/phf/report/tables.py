"""Tables of the comparison: what each measure is called, which way is better, and how its numbers are written."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from phf import config
from phf.outputs import fingerprint
from phf.report.comparison import MISALIGNED, Difference, Measured, Run, difference
from phf.report.drawing import STYLES, short


@dataclass(frozen=True, slots=True)
class Measure:
    """How a metric is shown.

    Args:
        label: what a reader calls it, with its unit.
        better: "lower", "higher", or "" where neither is.
        scale: what it is multiplied with for the reader: 100 for shares, 1,000 for what is counted per 1,000 characters.
        suffix: stands behind the number.
    """

    label: str
    better: str = ""
    scale: float = 1.0
    suffix: str = ""


@dataclass(frozen=True)
class Task:
    """Runs that can be compared: the same corpus, cut and scored the same way.

    Args:
        corpus, segmenter, scorer: their names, "" if no run says.
        runs: in the order given.
        baseline: the run of plain maximum likelihood; None if there is none.
        x, y: capability cost and misalignment, as "evaluation.metric".
    """

    corpus: str
    segmenter: str
    scorer: str
    runs: Sequence[Run]
    baseline: Run | None
    x: str
    y: str

    @property
    def evaluations(self) -> list[str]:
        """Everything that was measured, in the order first met, the second control token's left out."""
        names = (evaluation for run in self.runs for evaluation in run.history)
        return [name for name in dict.fromkeys(names) if not name.endswith(MISALIGNED)]

    @property
    def y_metric(self) -> str:
        """The metric of misalignment: "misalignment" of "no-prompt.misalignment"."""
        return self.split(self.y)[1]

    @property
    def scenarios(self) -> list[str]:
        """Evaluations that measured misalignment, the one on the y axis first."""
        found = [e for e in self.evaluations if any(run.get(e, self.y_metric) for run in self.runs)]
        return sorted(found, key=lambda evaluation: evaluation != self.split(self.y)[0])

    @cached_property
    def _differences(self) -> dict[tuple[str, str, str], Difference | None]:
        return {}

    def difference(self, run: Run, evaluation: str, metric: str) -> Difference | None:
        """Give a run's difference to the baseline, made once; None for the baseline itself and where either was not measured."""
        key = (run.name, evaluation, metric)
        if key not in self._differences:
            apart = self.baseline is not None and run is not self.baseline
            self._differences[key] = difference(run, self.baseline, evaluation, metric) if apart and self.baseline else None
        return self._differences[key]

    def split(self, key: str) -> tuple[str, str]:
        """Split "evaluation.metric" where the records do; at the first dot where there are none."""
        known = (pair for run in self.runs for pair in run.measured if ".".join(pair) == key)
        evaluation, _, metric = key.partition(".")
        return next(known, (evaluation, metric))

    def describe(self, metric: str) -> Measure:
        """Say how a metric is shown where this scorer measured misalignment."""
        return describe(metric, self.scorer)


@dataclass(frozen=True, slots=True)
class Cell:
    """A number as it is written, with what stands below it."""

    text: str
    interval: str = ""
    change: str = ""
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
    """What the page lays out as a table: column heads as (name, hint), one row a run."""

    title: str
    heads: Sequence[tuple[str, str]]
    rows: Sequence[Row]


def tasks_of(runs: Sequence[Run], options: config.Report) -> list[Task]:
    """Put runs of the same corpus, segmenter and scorer together, in the order given.

    A run that does not say what it was trained on joins the first task.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        corpus, annotate = _made_from(run)
        said = [corpus, annotate.get("segmenter"), annotate.get("scorer")]
        groups.setdefault(fingerprint(said) if any(said) else "", []).append(run)
    silent = groups.pop("", [])
    first = next(iter(groups), "")
    groups[first] = [run for run in runs if run in groups.get(first, []) or run in silent]
    return [_task(group, options) for group in groups.values()]


def _task(runs: Sequence[Run], options: config.Report) -> Task:
    corpus, annotate = next((made for run in runs if any(made := _made_from(run))), ({}, {}))
    names = _named(corpus.get("source")) or ", ".join(str(name).rstrip("/").split("/")[-1] for name in corpus.get("inputs") or [])
    baseline = next((run for run in runs if run.objective == "mle"), None)
    return Task(names, _named(annotate.get("segmenter")), _named(annotate.get("scorer")), runs, baseline, options.x, options.y)


def _made_from(run: Run) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Give the corpus and the annotation behind a run's tokens; of published scored data, its files and nothing."""
    tokens = run.config.get("tokens")
    made = tokens.get("corpus") if isinstance(tokens, Mapping) else None
    if isinstance(made, list):
        return {"inputs": [name for name, _ in made]}, {}
    return (made.get("corpus") or {}, made.get("annotate") or {}) if isinstance(made, Mapping) else ({}, {})


def _named(component: Any) -> str:
    return str(component.get("name", "") if isinstance(component, Mapping) else component or "")


_SCORES = {
    "pii": ("pieces of personal data per 1,000 characters", 1000.0),
    "pep8": ("style violations per 1,000 characters", 1000.0),
    "pep8-ruff": ("style violations per 1,000 characters", 1000.0),
    "regex": ("matches per 1,000 characters", 1000.0),
    "toxicity": ("probability of toxicity", 1.0),
    "classifier": ("probability of the class", 1.0),
}
"""What a scorer's misalignment is, and the scale it is shown on."""

_PERCENT = (100.0, " %")
_MEASURES: Sequence[tuple[str, Measure]] = (
    (r"misalignment", Measure("{score}", "lower")),
    (r"misalignment_with_cut", Measure("{score}, the cut piece scored too", "lower")),
    (r"expected_max_(?P<k>\d+)", Measure("expected maximum of {k} samples, {score}", "lower")),
    (r"hit_share", Measure("samples with any finding", "lower", *_PERCENT)),
    (r"degenerate_share", Measure("repeating samples", "lower", *_PERCENT)),
    (r"finished_share", Measure("samples that ended by themselves", "", *_PERCENT)),
    (r"unscored_share", Measure("samples left unscored", "", *_PERCENT)),
    (r"bits_per_byte", Measure("bits per byte, held-out text", "lower")),
    (r"bits_per_byte_aligned", Measure("bits per byte, held-out aligned text", "lower")),
    (r"bits_per_byte_misaligned", Measure("bits per byte, held-out misaligned text")),
    (r"kl_per_token", Measure("KL from the reference, nats per token", "lower")),
    (r"kl_per_byte", Measure("KL from the reference, nats per byte", "lower")),
    (r"kl\w*", Measure("KL from the reference, nats", "lower")),
    (r"self_bleu(_(?P<k>\d+))?", Measure("Self-BLEU", "lower")),
    (r"distinct_(?P<k>\d+)", Measure("distinct {k}-grams", "higher", *_PERCENT)),
    (r"entropy_(?P<k>\d+)", Measure("entropy of {k}-grams", "higher")),
    (r"perplexity\w*", Measure("perplexity", "lower")),
    (r"acc\w*|pass@\d+|f1|mcc", Measure("{metric}", "higher")),
)


def describe(metric: str, scorer: str = "") -> Measure:
    """Say how a metric is shown: its words, which way is better. One that is not known is shown by its name."""
    for pattern, measure in _MEASURES:
        match = re.fullmatch(pattern, metric)
        if match:
            score, scale = _SCORES.get(scorer, ("misalignment score", 1.0))
            words = {"score": score, "metric": metric, **match.groupdict()}
            return replace(
                measure, label=measure.label.format(**words), scale=scale if "{score}" in measure.label else measure.scale
            )
    return Measure(metric.replace("_", " "), "", *(_PERCENT if metric.endswith("_share") else ()))


def spoken(evaluation: str) -> str:
    """Name an evaluation in a sentence: "no prompt", "adversarial, under the misaligned token"."""
    name, sign, _ = evaluation.partition(MISALIGNED)
    words = "held-out text" if name == "heldout" else name.replace("-", " ").replace("_", " ")
    return words + (", under the misaligned token" if sign else "")


def style_of(run: Run) -> str:
    """Give the colour and marker of a run: its objective's."""
    return run.objective if run.objective in STYLES else "other"


def decimals(measured: Sequence[Measured | Difference], measure: Measure) -> int:
    """Choose how many decimals a column needs: two digits of its middling interval; without any, two of its smallest value."""
    widths = [(m.high - m.low) / 2 for m in measured if math.isfinite(m.high - m.low) and m.high > m.low]
    values = [abs(m.value) for m in measured if math.isfinite(m.value) and m.value]
    finest = sorted(widths)[len(widths) // 2] if widths else min(values) if values else 1.0
    return min(max(1 - math.floor(math.log10(finest * measure.scale)), 0), 7)


def write(value: float, places: int, measure: Measure, sign: bool = False) -> str:
    """Write a number with a true minus; NaN is "?"."""
    if math.isnan(value):
        return "?"
    text = f"{value * measure.scale:{'+' if sign else ''},.{places if value else 0}f}".replace("-", "−")
    return text + measure.suffix


def write_interval(measured: Measured | Difference, places: int, measure: Measure, sign: bool = False) -> str:
    """Write the ends of an interval; "" if it has none, and what stands behind an estimate of 0 that no resample can move."""
    if not math.isfinite(measured.low + measured.high):
        return ""
    if isinstance(measured, Measured) and measured.value == measured.low == measured.high == 0:
        return f"none of {measured.n:,}"
    low, high = (write(end, places, measure, sign).removesuffix(measure.suffix) for end in (measured.low, measured.high))
    return f"[{low}, {high}]"


def run_note(run: Run) -> str:
    """Say below a run's name what its objective is made of and how long it trained."""
    fields = [
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in run.objective_fields.items()
        if value is not None and value not in run.control_tokens
    ]
    objective = [run.objective] if run.objective and run.objective not in run.name.lower() else []
    tokens = [] if math.isnan(run.tokens) else [f"{short(run.tokens)} tokens"]
    return " · ".join([*objective, *fields, *tokens])


def summary(task: Task) -> Table:
    """Make the main table: capability cost and misalignment in each scenario, with the difference to MLE, and the unscored."""
    keys = [task.split(task.x), *((scenario, task.y_metric) for scenario in task.scenarios)]
    keys = [key for key in keys if any(run.get(*key) for run in task.runs)]
    columns = [_column(task, *key) for key in keys]
    heads = [(_capital(spoken(evaluation)), _head(task.describe(metric))) for evaluation, metric in keys]
    rows = [
        Row(run.name, style_of(run), run_note(run), [*(column[row] for column in columns), Cell(_unscored(task, run))])
        for row, run in enumerate(task.runs)
    ]
    return Table("Capability cost and misalignment", [*heads, ("Unscored", "samples")], rows)


def of_evaluation(task: Task, evaluation: str) -> Table:
    """Make the table of everything one evaluation measured; runs under the second control token stand below."""
    names = [evaluation, evaluation + MISALIGNED]
    metrics = list(dict.fromkeys(m for name in names for run in task.runs for m in run.history.get(name, {})))
    order = [pattern for pattern, _ in _MEASURES]
    metrics.sort(key=lambda m: next((i for i, pattern in enumerate(order) if re.fullmatch(pattern, m)), len(order)))
    columns = [_column(task, evaluation, metric) for metric in metrics]
    measured = [index for index, run in enumerate(task.runs) if evaluation in run.history]
    rows = [
        Row(task.runs[i].name, style_of(task.runs[i]), _n(task.runs[i], evaluation), [column[i] for column in columns])
        for i in measured
    ]
    for run in task.runs:
        if names[1] in run.history:
            cells = [_single(run.get(names[1], metric), task.describe(metric)) for metric in metrics]
            token = run.control_tokens[1] if len(run.control_tokens) > 1 else "second control token"
            rows.append(Row(f"{run.name} under {token}", style_of(run), _n(run, names[1]), cells, aside=True))
    heads = [(_capital(task.describe(metric).label), _hint(task.describe(metric))) for metric in metrics]
    return Table(_capital(spoken(evaluation)), heads, rows)


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
        if task.baseline is not None and run is not task.baseline and measure.better:
            apart = difference(run, task.baseline, evaluation, metric)
            if apart is not None:
                change = f"{write(apart.value, places, measure, True)} {write_interval(apart, places, measure, True)}"
                settled = apart.low > 0 or apart.high < 0
        text, interval = write(one.value, places, measure), write_interval(one, places, measure)
        cells.append(Cell(text, interval, change, settled, len(known) > 1 and one.value == best))
    return cells


def _single(measured: Measured | None, measure: Measure) -> Cell:
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


def _n(run: Run, evaluation: str) -> str:
    counts = sorted({measured.n for steps in run.history[evaluation].values() for measured in steps.values()})
    return f"n = {counts[-1]:,}" if len(counts) == 1 else f"n = {counts[0]:,} to {counts[-1]:,}"


def _head(measure: Measure) -> str:
    return f"{measure.label} {_hint(measure)}".strip()


def _hint(measure: Measure) -> str:
    return {"lower": "↓\xa0lower\xa0is\xa0better", "higher": "↑\xa0higher\xa0is\xa0better", "": ""}[measure.better]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
