"""The figures of a task: which runs and numbers each one shows, and the caption that says how to read it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from phf.report.comparison import MISALIGNED, Measured, Run
from phf.report.drawing import (
    NARROW,
    WIDE,
    Axis,
    Chart,
    Interval,
    Line,
    Panel,
    Point,
    Steer,
    curves,
    inline,
    pareto,
    steering,
)
from phf.report.tables import Measure, Task, describe, spoken, style_of

_CURVE_POINTS, _SPEED_POINTS = 200, 40
_INTERVALS = "Bars are 95% intervals: of misalignment by bootstrap over samples, of capability by 1.96 standard errors."


@dataclass(frozen=True)
class Figure:
    """A drawing at two widths, with its words.

    Args:
        name: of its file.
        title: what it shows, in a few words.
        caption: how to read it, what n is and how intervals were made.
        wide, narrow: SVG files, for wide and narrow screens.
    """

    name: str
    title: str
    caption: str
    wide: str
    narrow: str

    @property
    def drawings(self) -> list[tuple[str, str]]:
        """Both drawings as they stand in a page, each with its class."""
        return [(width, inline(getattr(self, width), f"{self.name}-{width}", self.title)) for width in ("wide", "narrow")]


def draw(task: Task, prefix: str) -> dict[str, Figure]:
    """Draw every figure that the task has numbers for."""
    made = {
        "pareto": _pareto(task),
        "scenarios": _scenarios(task),
        "training": _training(task),
        "course": _course(task),
        "control": _control(task),
    }
    return {
        slot: Figure(prefix + slot, title, caption, drawing(WIDE), drawing(NARROW))
        for slot, figure in made.items()
        if figure
        for title, caption, drawing in [figure]
    }


_Drawn = tuple[str, str, Callable[[int], str]] | None


def _pareto(task: Task) -> _Drawn:
    panel, left_out = _panel(task, task.split(task.x), task.split(task.y), "")
    if not panel.points:
        return None
    caption = (
        "Each point is a run; down and to the left is better. The dashed line is the frontier of the point estimates: no run "
        f"is both cheaper and better aligned. {_counts(task, [task.y, task.x])} {_INTERVALS} "
        "Runs whose bars overlap may trade places."
    )
    if any(point.hollow for point in panel.points):
        caption += " Hollow: finetuned from another checkpoint."
    if left_out:
        caption += f" Not shown, for want of a measurement: {', '.join(left_out)}."
    return "Misalignment against capability cost", caption, lambda width: pareto([panel], width)


def _scenarios(task: Task) -> _Drawn:
    """Draw the other scenarios against the same cost, and the same scenario against the other costs."""
    x, y = task.split(task.x), task.split(task.y)
    planes = [(x, (scenario, y[1]), _title(scenario)) for scenario in task.scenarios if scenario != y[0]]
    costs = dict.fromkeys(pair for run in task.runs for pair in run.measured)
    for cost in costs:
        if cost != x and _is_cost(*cost):
            planes.append((cost, y, f"{_title(y[0])}, other cost"))
    panels = [panel for plane in planes if (panel := _panel(task, *plane)[0]).points]
    if not panels:
        return None
    caption = f"Read as the figure above. {_counts(task, ['.'.join(plane[1]) for plane in planes])} {_INTERVALS}"
    return (
        "Other scenarios and other costs",
        caption,
        lambda width: pareto(panels, width, 2 if width > 500 and len(panels) > 1 else 1),
    )


def _training(task: Task) -> _Drawn:
    charts = []
    for title, field in (
        ("loss, as each objective defines it", "loss"),
        ("negative log-likelihood, nats per token", "nll"),
        ("tokens per second", "tokens_per_second"),
    ):
        speed = field == "tokens_per_second"
        lines = [line for run in task.runs if (line := _line(run, field, _SPEED_POINTS if speed else _CURVE_POINTS))]
        if lines:
            charts.append(Chart(title, lines, from_zero=speed))
    if not charts:
        return None
    caption = (
        "Means over stretches of training, of one run each, without intervals. Losses of different objectives are not "
        "comparable; negative log-likelihood is, up to the control tokens that conditional training predicts besides. The "
        "first tenth of training runs off the top. Speed also depends on what else the machine did."
    )
    return "Loss, likelihood and speed", caption, lambda width: curves(charts, width)


def _course(task: Task) -> _Drawn:
    """Draw the two axes of the trade-off over training, where several checkpoints were measured."""
    charts = []
    for key in (task.y, task.x):
        evaluation, metric = task.split(key)
        measure, lines = task.describe(metric), []
        for run in task.runs:
            steps = run.history.get(evaluation, {}).get(metric, {})
            known = sorted(
                (run.tokens_at[s], m.value * measure.scale)
                for s, m in steps.items()
                if s in run.tokens_at and not math.isnan(m.value)
            )
            if len(known) > 1:
                lines.append(Line(run.name, style_of(run), *zip(*known)))
        if lines:
            charts.append(Chart(f"{_title(evaluation)}: {measure.label}", lines, key == task.y, measure.better, dots=True))
    if not charts:
        return None
    caption = "Every measured checkpoint; point estimates without intervals, which the table gives for the last one."
    return "Misalignment and capability cost over training", caption, lambda width: curves(charts, width)


def _control(task: Task) -> _Drawn:
    kind, steers = task.describe(task.y_metric), []
    names: Sequence[str] = ("own token", "misaligned token")
    for run in task.runs:
        for scenario in task.scenarios:
            pair = [run.get(name, task.y_metric) for name in (scenario, scenario + MISALIGNED)]
            if pair[0] is None or pair[1] is None or math.isnan(pair[0].value + pair[1].value):
                continue
            base = task.baseline.get(scenario, task.y_metric) if task.baseline else None
            label = _title(scenario) if sum(bool(r.control_tokens) for r in task.runs) < 2 else f"{run.name}: {spoken(scenario)}"
            steers.append(
                Steer(label, style_of(run), _ends(pair[0], kind), _ends(pair[1], kind), _ends(base, kind) if base else None)
            )
            names = run.control_tokens[:2] if len(run.control_tokens) > 1 else names
    if not steers:
        return None
    axis = Axis(_capital(kind.label), kind.better)
    names = [*names, *([task.baseline.name] if task.baseline else [])]
    caption = (
        f"The same model, asked under each of its control tokens ({names[0]} and {names[1]})"
        + (f", beside {task.baseline.name}" if task.baseline else "")
        + ". Bars are 95% bootstrap intervals over samples"
        + (" (narrower than the point where not seen)." if steers else ".")
    )
    return "The same model under each control token", caption, lambda width: steering(steers, axis, names, width)


def _panel(task: Task, x: tuple[str, str], y: tuple[str, str], title: str) -> tuple[Panel, list[str]]:
    """Place the runs that have both measures, and name those that do not."""
    points, left_out = [], []
    sides = [task.describe(metric) for _, metric in (x, y)]
    for run in task.runs:
        across, up = run.get(*x), run.get(*y)
        if across is None or up is None or math.isnan(across.value + up.value):
            left_out.append(run.name)
        else:
            points.append(Point(run.name, style_of(run), _ends(across, sides[0]), _ends(up, sides[1]), run.finetuned))
    across_label = f"Capability cost: {sides[0].label}" if sides[0].better == "lower" else f"Capability: {sides[0].label}"
    up_label = f"{sides[1].label}" + ("" if title else f", {spoken(y[0])}")
    return Panel(title, Axis(across_label, sides[0].better), Axis(_capital(up_label), sides[1].better), points), left_out


def _line(run: Run, field: str, points: int) -> Line | None:
    """Give a logged quantity over tokens, in means of equal stretches of the log."""
    known = [
        (line["tokens"], line[field])
        for line in run.metrics
        if isinstance(line.get(field), int | float) and math.isfinite(line[field]) and "tokens" in line
    ]
    if len(known) < 2:
        return None
    stretches = np.array_split(np.array(known, float), min(len(known), points))
    means = np.array([stretch.mean(0) for stretch in stretches])
    return Line(run.name, style_of(run), means[:, 0].tolist(), means[:, 1].tolist())


def _is_cost(evaluation: str, metric: str) -> bool:
    """Tell whether a measure says what alignment cost: likelihood of held-out text, or a task's score."""
    if evaluation.endswith(MISALIGNED):
        return False
    kind = describe(metric)
    return bool(kind.better) and metric.startswith(("bits_per_byte", "kl", "acc", "pass@", "f1", "mcc", "perplexity"))


def _counts(task: Task, keys: Sequence[str]) -> str:
    """Say how many samples or documents stand behind the measures."""
    said: dict[str, None] = {}
    for key in keys:
        evaluation, metric = task.split(key)
        counts = sorted({m.n for run in task.runs if (m := run.get(evaluation, metric))})
        if counts:
            count = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
            said[f"n = {count} ({spoken(evaluation)})"] = None
    return ", ".join(said) + "." if said else ""


def _ends(measured: Measured, measure: Measure) -> Interval:
    return measured.value * measure.scale, measured.low * measure.scale, measured.high * measure.scale


def _title(evaluation: str) -> str:
    return _capital(spoken(evaluation))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
