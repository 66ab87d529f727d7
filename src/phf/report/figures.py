"""The figures of a task: which runs and numbers each one shows, and the caption that says how to read it."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from phf.report import guidance, redteam
from phf.report.canvas import inline
from phf.report.comparison import Task
from phf.report.metrics import MISALIGNED, capital, describe, ends, span, spoken
from phf.report.palette import style_of
from phf.report.plots import NARROW, WIDE, curves, pareto, steering
from phf.report.runs import Run
from phf.report.shapes import Axis, Chart, Line, Panel, Point, Steer

_CURVE_POINTS, _SPEED_POINTS = 200, 40
_CAPABILITY = re.compile(r"bits_per_byte(_aligned)?|kl_per_token|pass@1|(.+\.)?(acc\w*|f1|mcc|exact_match|\w*perplexity)")
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


def draw(task: Task, prefix: str) -> dict[str, Figure | None]:
    """Plot every figure that the task has numbers for; None for the others."""
    made = {
        "pareto": _pareto,
        "scenarios": _scenarios,
        "training": _training,
        "course": _course,
        "guided": _guided,
        "attack": _attack,
        "control": _control,
    }
    figures: dict[str, Figure | None] = {}
    for slot, plan in made.items():
        planned = plan(task)
        if planned is None:
            figures[slot] = None
        else:
            title, caption, drawing = planned
            figures[slot] = Figure(prefix + slot, title, caption, drawing(WIDE), drawing(NARROW))
    return figures


_Drawn = tuple[str, str, Callable[[int], str]] | None


def _pareto(task: Task) -> _Drawn:
    panel, left_out = _panel(task, task.split(task.x), task.split(task.y), "")
    if not panel.points:
        return None
    if guidance.cost_of(task) == task.split(task.x)[1]:
        near, cut = guidance.near(guidance.paths(task), panel.points)
        panel = replace(panel, paths=near)
    caption = (
        "Each point is a run; down and to the left is better. The dashed line is the frontier of the point estimates: no run "
        f"is both cheaper and better aligned. {_counts(task, [task.y, task.x])} {_INTERVALS} "
        "Runs whose bars overlap may trade places."
    )
    if any(point.hollow for point in panel.points):
        caption += " Hollow: finetuned with feedback from another checkpoint; the others are trained with it from the start."
    if panel.paths:
        caption += (
            f" Small points on a dotted line: the same model under guided decoding, {guidance.names(task)}, "
            "no part of the frontier" + (f"; far off to the side, and shown under “Steering”: {', '.join(cut)}." if cut else ".")
        )
    if left_out:
        caption += f" Not shown, not measured: {', '.join(left_out)}."
    return "Misalignment against capability cost", caption, lambda width: pareto([panel], width)


def _scenarios(task: Task) -> _Drawn:
    """Plot the other scenarios against the same cost, and the same scenario against the other costs."""
    x, y = task.split(task.x), task.split(task.y)
    planes = [(x, (scenario, y[1]), _title(scenario)) for scenario in task.scenarios if scenario != y[0]]
    planes += [(cost, y, f"{_title(y[0])}, by {spoken(cost[0])}") for cost in _costs(task) if cost != x]
    several = min(len(task.runs), 2)  # a plane of one run among several compares nothing
    panels = [panel for plane in planes if len((panel := _panel(task, *plane)[0]).points) >= several]
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
    """Plot every scenario and capability measure over training, where several checkpoints were measured."""
    charts = []
    scenarios = [(scenario, task.y_metric) for scenario in task.scenarios]
    for evaluation, metric in dict.fromkeys([*scenarios, task.split(task.x), *_costs(task)]):
        measure, lines = task.describe(metric), []
        for run in task.runs:
            steps = run.history.get(evaluation, {}).get(metric, {})
            known = sorted(
                (run.tokens_at[s], *ends(m, measure)) for s, m in steps.items() if s in run.tokens_at and not math.isnan(m.value)
            )
            if len(known) > 1:
                lines.append(Line(run.name, style_of(run.objective), *zip(*known)))
        if lines:
            from_zero = metric == task.y_metric
            title = f"{_title(evaluation)}: {measure.words}" if from_zero else capital(measure.words)
            charts.append(Chart(title, lines, from_zero, measure.better, dots=True))
    if not charts:
        return None
    caption = f"Every measured checkpoint. {_INTERVALS}"
    return "Misalignment and capability over training", caption, lambda width: curves(charts, width)


def _attack(task: Task) -> _Drawn:
    """Plot how far an attacker got with each run, round by round."""
    charts = redteam.charts(task)
    if not charts:
        return None
    caption = (
        "An attacker samples prompts that were successful against this run and writes new ones in their style; round 0 is the "
        f"initial pool. Points are means over n\xa0=\xa0{span(redteam.counts(task))} trials, bars 95% bootstrap intervals over "
        "trials. The worst prompts are chosen by the scores shown, which flatters the attacker; the table has what they gave "
        "when tried again."
    )
    return "Under attack", caption, lambda width: curves(charts, width)


def _guided(task: Task) -> _Drawn:
    """Plot where guidance takes each run that was measured under it."""
    panel = guidance.plane(task)
    if panel is None:
        return None
    first = next(run for run, _ in task.guided)
    tokens = first.control_tokens if len(first.control_tokens) > 1 else ["the run's own token", "the other"]
    counts = [one.n for run, steps in task.guided for _, evaluation in steps if (one := run.get(evaluation, task.y_metric))]
    caption = (
        f"Logits are those under {tokens[1]} plus γ times the step from there to those under {tokens[0]}: γ\xa0=\xa01 is plain "
        "sampling, and above it what tells the two apart is exaggerated. Bits per byte are those of the guided distribution. "
        f"The dashed line is the frontier of the runs. n\xa0=\xa0{span(sorted(counts))} samples a point. {_INTERVALS}"
    )
    return "Guided decoding: further along the trade-off", caption, lambda width: pareto([panel], width)


def _control(task: Task) -> _Drawn:
    """Plot misalignment under both control tokens, of every run and scenario that was measured under both."""
    kind, base, steers, counts = task.describe(task.y_metric), task.baseline, [], []
    steerable = [run for run in task.runs if any(evaluation.endswith(MISALIGNED) for evaluation in run.history)]
    for run in steerable:
        for scenario in task.scenarios:
            own, other = (run.get(name, task.y_metric) for name in (scenario, scenario + MISALIGNED))
            if own is None or other is None or math.isnan(own.value + other.value):
                continue
            counts += [own.n, other.n]
            label = _title(scenario) if len(steerable) == 1 else f"{run.name}, {spoken(scenario)}"
            beside = base.get(scenario, task.y_metric) if base else None
            third = ends(beside, kind) if beside and not math.isnan(beside.value) else None
            steers.append(Steer(label, style_of(run.objective), ends(own, kind), ends(other, kind), third))
    if not steers:
        return None
    tokens = next((run.control_tokens for run in steerable if len(run.control_tokens) > 1), ["own token", "misaligned token"])
    names = [*tokens[:2], *([base.name] if base else [])]
    caption = (
        f"The same model, asked under each of its control tokens ({names[0]} and {names[1]})"
        f"{f', beside {base.name}' if base else ''}. n\xa0=\xa0{span(sorted(counts))} samples a point. "
        "Bars are 95% bootstrap intervals over samples; one that does not show is narrower than its point."
    )
    axis = Axis(capital(kind.words), kind.better)
    return "The same model under each control token", caption, lambda width: steering(steers, axis, names, width)


def _panel(task: Task, x: tuple[str, str], y: tuple[str, str], title: str) -> tuple[Panel, list[str]]:
    """Return the plane of the runs that have both metrics, and the names of those that do not."""
    points, left_out = [], []
    sides = [task.describe(metric) for _, metric in (x, y)]
    for run in task.runs:
        across, up = run.get(*x), run.get(*y)
        if across is None or up is None or math.isnan(across.value + up.value):
            left_out.append(run.name)
        else:
            points.append(Point(run.name, style_of(run.objective), ends(across, sides[0]), ends(up, sides[1]), run.finetuned))
    across_label = f"Capability cost: {sides[0].words}" if sides[0].better == "lower" else f"Capability: {sides[0].words}"
    up_label = f"{sides[1].words}" + ("" if title else f", {spoken(y[0])}")
    return Panel(title, Axis(across_label, sides[0].better), Axis(capital(up_label), sides[1].better), points), left_out


def _line(run: Run, field: str, points: int) -> Line | None:
    """Return a logged quantity over tokens, in means of equal stretches of the log."""
    known = [
        (line["tokens"], line[field])
        for line in run.metrics
        if isinstance(line.get(field), int | float) and math.isfinite(line[field]) and "tokens" in line
    ]
    if len(known) < 2:
        return None
    stretches = np.array_split(np.array(known, float), min(len(known), points))
    means = np.array([stretch.mean(0) for stretch in stretches])
    return Line(run.name, style_of(run.objective), means[:, 0].tolist(), means[:, 1].tolist())


def _costs(task: Task) -> list[tuple[str, str]]:
    """Return the metrics of capability cost: likelihood of held-out text, KL, task scores; of finetuning only the mean."""
    found = []
    for evaluation in task.evaluations:
        metrics = dict.fromkeys(metric for run in task.runs for metric in run.history.get(evaluation, {}))
        if "score" in metrics:
            found.append((evaluation, "score"))
        else:
            found += [(evaluation, metric) for metric in metrics if describe(metric).better and _CAPABILITY.fullmatch(metric)]
    return found


def _counts(task: Task, keys: Sequence[str]) -> str:
    """Return how many samples or documents stand behind the measures."""
    said: dict[str, dict[str, None]] = {}
    for evaluation, metric in map(task.split, keys):
        counts = sorted({m.n for run in task.runs if (m := run.get(evaluation, metric))})
        if counts:
            said.setdefault(span(counts), {})[spoken(evaluation)] = None
    return "; ".join(f"n\xa0=\xa0{count} ({', '.join(names)})" for count, names in said.items()) + "." * bool(said)


def _title(evaluation: str) -> str:
    return capital(spoken(evaluation))
