"""The trade-off figures: misalignment against capability cost, for the scenario and cost asked for and for all others."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from phf.report import guidance
from phf.report.comparison import Task
from phf.report.metrics import capital, describe, ends, span, spoken
from phf.report.palette import style_of
from phf.report.plots import pareto
from phf.report.shapes import Axis, Panel, Point

_CAPABILITY = re.compile(r"bits_per_byte(_aligned)?|kl_per_token|pass@1|(.+\.)?(acc\w*|f1|mcc|exact_match|\w*perplexity)")

Planned = tuple[str, str, Callable[[int], str]] | None
"""Title, caption, and a function that plots at a width; None where there is nothing to plot."""


def trade_off(task: Task) -> Planned:
    """Plan the figure of the two axes that the report was asked for."""
    panel, left_out = _panel(task, task.split(task.x), task.split(task.y), "")
    if not panel.points:
        return None
    if guidance.cost_of(task) == task.split(task.x)[1]:
        near, cut = guidance.near(guidance.paths(task, panel.origin or 0.0), panel.points)
        panel = replace(panel, paths=near)
    caption = (
        "Each point is a run; down and to the left is better. The dashed line is the frontier of the point estimates: no run "
        f"is both cheaper and better aligned. {counts(task, [task.y, task.x])} {intervals(task)} "
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


def effects(task: Task) -> Planned:
    """Plan the figure of differences to MLE on both axes, over pairs of seeds where there are any."""
    if task.baseline is None:
        return None
    x, y = task.split(task.x), task.split(task.y)
    sides = [task.describe(metric) for _, metric in (x, y)]
    points = []
    for run in task.runs:
        apart = [task.difference(run, *key) for key in (x, y)]
        if apart[0] is not None and apart[1] is not None:
            across, up = (ends(one, side) for one, side in zip((apart[0], apart[1]), sides, strict=True))
            (name,) = task.without_folders([run.name])
            points.append(Point(name, style_of(run.objective), across, up, run.finetuned))
    if not points:
        return None
    (base,) = task.without_folders([task.baseline.name])
    origin = (0.0, math.nan, math.nan)
    points.insert(0, Point(base, style_of(task.baseline.objective), origin, origin))
    names = [f"{capital(side.words)}, minus that of {base}" for side in sides]
    panel = Panel("", Axis(names[0], sides[0].better), Axis(names[1], sides[1].better), points)
    caption = (
        f"Each point is a run, as its difference to {base}; down and to the left is better. Bars are 95% intervals "
        "of the difference: over pairs of seeds by Student's t where both have several, else over what both were measured on."
    )
    return "Differences to MLE", caption, lambda width: pareto([panel], width)


def other_planes(task: Task) -> Planned:
    """Plot the other scenarios against the same cost, and the same scenario against the other costs."""
    x, y = task.split(task.x), task.split(task.y)
    planes = [(x, (scenario, y[1]), title_of(scenario)) for scenario in task.scenarios if scenario != y[0]]
    planes += [(cost, y, f"{title_of(y[0])}, by {spoken(cost[0])}") for cost in costs(task) if cost != x]
    several = min(len(task.runs), 2)  # a plane of one run among several compares nothing
    panels = [panel for plane in planes if len((panel := _panel(task, *plane)[0]).points) >= several]
    if not panels:
        return None
    caption = f"Read as the figure above. {counts(task, ['.'.join(plane[1]) for plane in planes])} {intervals(task)}"
    return (
        "Other scenarios and other costs",
        caption,
        lambda width: pareto(panels, width, 2 if width > 500 and len(panels) > 1 else 1),
    )


def _panel(task: Task, x: tuple[str, str], y: tuple[str, str], title: str) -> tuple[Panel, list[str]]:
    """Return the plane of the runs that have both metrics, and the names of those that do not.

    Where the baseline has the capability metric, x is the difference to it.
    """
    points, left_out = [], []
    sides = [task.describe(metric) for _, metric in (x, y)]
    base = task.baseline.get(*x) if task.baseline else None
    origin = None if base is None or math.isnan(base.value) or len(task.runs) < 2 else base.value * sides[0].scale
    for run in task.runs:
        across, up = run.get(*x), run.get(*y)
        if across is None or up is None or math.isnan(across.value + up.value):
            left_out.append(run.name)
            continue
        left_to_right = ends(across, sides[0])
        if origin is not None:
            apart = task.difference(run, *x)
            left_to_right = ends(apart, sides[0]) if apart else (0.0, math.nan, math.nan)
        points.append(Point(run.name, style_of(run.objective), left_to_right, ends(up, sides[1]), run.finetuned))
    label = f"Capability cost: {sides[0].words}" if sides[0].better == "lower" else f"Capability: {sides[0].words}"
    if origin is not None and task.baseline:
        label += f", minus that of {task.baseline.name} (above: absolute)"
    up_label = f"{sides[1].words}" + ("" if title else f", {spoken(y[0])}")
    return Panel(title, Axis(label, sides[0].better), Axis(capital(up_label), sides[1].better), points, (), origin), left_out


def costs(task: Task) -> list[tuple[str, str]]:
    """Return the metrics of capability cost: likelihood of held-out text, KL, task scores; of finetuning only the mean."""
    found = []
    for evaluation in task.evaluations:
        metrics = dict.fromkeys(metric for run in task.runs for metric in run.history.get(evaluation, {}))
        if "score" in metrics:
            found.append((evaluation, "score"))
        else:
            found += [(evaluation, metric) for metric in metrics if describe(metric).better and _CAPABILITY.fullmatch(metric)]
    return found


def intervals(task: Task) -> str:
    """Return what the bars of a trade-off plane are."""
    seeds = sorted({len(run.seeds) or 1 for run in task.runs})
    of_runs = "of misalignment over samples (over prompts where there are 10 or more)" if seeds[0] == 1 else ""
    of_seeds = "over seeds by Student's t where a run has several" if seeds[-1] > 1 else ""
    words = f"Bars are 95% intervals: {', '.join(filter(None, (of_runs, of_seeds)))}"
    if task.baseline is not None and len(task.runs) > 1:
        pairs = "seeds or documents" if seeds[-1] > 1 else "documents"
        words += f"; of capability those of the difference to {task.baseline.name}, over {pairs} as pairs"
    return words + "."


def counts(task: Task, keys: Sequence[str]) -> str:
    """Return how many samples or documents stand behind the measures."""
    said: dict[str, dict[str, None]] = {}
    for evaluation, metric in map(task.split, keys):
        counts = sorted({m.n for run in task.runs if (m := run.get(evaluation, metric))})
        if counts:
            said.setdefault(span(counts), {})[spoken(evaluation)] = None
    return "; ".join(f"n\xa0=\xa0{count} ({', '.join(names)})" for count, names in said.items()) + "." * bool(said)


def title_of(evaluation: str) -> str:
    """Return the name of an evaluation as a title."""
    return capital(spoken(evaluation))
