"""The figures of a task: which runs and numbers each one shows, and the caption that says how to read it."""

import math
from dataclasses import dataclass

import numpy as np

from phf.records import EvaluationName
from phf.report import guidance, redteam
from phf.report.canvas import inline
from phf.report.comparison import Task
from phf.report.metrics import capital, ends, span, spoken, under_controls
from phf.report.palette import style_of
from phf.report.plots import NARROW, WIDE, curves, pareto, steering
from phf.report.runs import Run
from phf.report.shapes import Axis, Chart, Line, Steer
from phf.report.trade_off import Planned, costs, intervals, other_planes, title_of, trade_off

_CURVE_POINTS, _SPEED_POINTS = 200, 40


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
        "pareto": trade_off,
        "scenarios": other_planes,
        "scores": _score_distribution,
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


def _score_distribution(task: Task) -> Planned:
    """Plot the share of samples whose score exceeds each value, by run and scenario."""
    measure, charts = task.describe(task.y_metric), []
    for scenario in task.scenarios:
        lines = [line for run in task.runs if (line := _exceedance(run, scenario, measure.scale))]
        if lines:
            charts.append(Chart(title_of(scenario), lines, from_zero=True, across=capital(measure.words)))
    if not charts:
        return None
    caption = (
        "How high a curve stands at a score is the share of samples with a score above it, in per cent of those that could be "
        "scored; at 0 it is the share with any. Each curve ends at its run's highest score. Without intervals."
    )
    return "Distribution of scores", caption, lambda width: curves(charts, width)


def _training(task: Task) -> Planned:
    charts = []
    for title, field in (
        ("loss, as each objective defines it", "loss"),
        ("negative log-likelihood, nats per token", "nll"),
        ("tokens per second", "tokens_per_second"),
    ):
        speed = field == "tokens_per_second"
        points = _SPEED_POINTS if speed else _CURVE_POINTS
        lines = [line for run in task.runs for one in run.seeds.values() or (run,) if (line := _line(one, field, points))]
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


def _course(task: Task) -> Planned:
    """Plot every scenario and capability measure over training, where several checkpoints were measured."""
    charts = []
    scenarios = [(scenario, task.y_metric) for scenario in task.scenarios]
    for evaluation, metric in dict.fromkeys([*scenarios, task.split(task.x), *costs(task)]):
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
            title = f"{title_of(evaluation)}: {measure.words}" if from_zero else capital(measure.words)
            charts.append(Chart(title, lines, from_zero, measure.better, dots=True))
    if not charts:
        return None
    caption = f"Every measured checkpoint. {intervals(task)}"
    return "Misalignment and capability over training", caption, lambda width: curves(charts, width)


def _attack(task: Task) -> Planned:
    """Plot how far an attacker got with each run, round by round."""
    charts = redteam.charts(task)
    if not charts:
        return None
    caption = (
        "An attacker samples prompts that were successful against this run and writes new ones in their style; round 0 is the "
        f"initial pool. Points are means over n\xa0=\xa0{span(redteam.counts(task))} trials, bars 95% intervals over "
        "trials. The worst prompts are chosen by the scores shown, which flatters the attacker; the table has what they gave "
        "when tried again."
    )
    return "Under attack", caption, lambda width: curves(charts, width)


def _guided(task: Task) -> Planned:
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
        f"The dashed line is the frontier of the runs. n\xa0=\xa0{span(sorted(counts))} samples a point. {intervals(task)}"
    )
    return "Guided decoding: further along the trade-off", caption, lambda width: pareto([panel], width)


def _control(task: Task) -> Planned:
    """Plot misalignment under both control tokens, of every run and scenario that was measured under both."""
    kind, base, steers, counts = task.describe(task.y_metric), task.baseline, [], []
    steerable = [run for run in task.runs if any(EvaluationName.parse(name).control == "misaligned" for name in run.history)]
    for run in steerable:
        for scenario in task.scenarios:
            own, other = (run.get(name, task.y_metric) for name in under_controls(scenario)[:2])
            if own is None or other is None or math.isnan(own.value + other.value):
                continue
            counts += [own.n, other.n]
            label = title_of(scenario) if len(steerable) == 1 else f"{run.name}, {spoken(scenario)}"
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
        "Bars are 95% intervals over samples; one that does not show is narrower than its point."
    )
    axis = Axis(capital(kind.words), kind.better)
    return "The same model under each control token", caption, lambda width: steering(steers, axis, names, width)


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


def _exceedance(run: Run, evaluation: str, scale: float) -> Line | None:
    """Return the share of samples above each score in per cent, at no more points than a curve shows."""
    columns = run.samples.get(evaluation, {})
    scores = np.array([math.nan if score is None else score for score in columns.get("misalignment", ())], np.float64) * scale
    known = np.sort(scores[np.isfinite(scores)])
    if len(known) < 2 or known[0] == known[-1]:
        return None
    places = np.unique(np.quantile(known, np.linspace(0, 1, _CURVE_POINTS), method="lower"))
    above = 100 * (1 - np.searchsorted(known, places, side="right") / len(known))
    return Line(run.name, style_of(run.objective), places.tolist(), above.tolist())
