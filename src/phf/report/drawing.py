"""Figures of the comparison as SVG text: trade-off plots, curves over tokens, and what the control token does.

Every figure is drawn for a width in CSS pixels, one unit a pixel. Its colours are a light palette; `inline` swaps them for CSS
variables, so that a page shows the same figure light and dark.
"""

import contextlib
import io
import math
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np

from phf.errors import require
from phf.report.comparison import frontier

WIDE, NARROW = 960, 360
"""Widths of the two drawings of each figure, in CSS pixels."""

INK = {"ink": "#1b2026", "muted": "#5b6470", "rule": "#e2e5ea", "surface": "#ffffff", "frontier": "#8a929d", "bad": "#b3261f"}
"""Colours by role, light."""

STYLES = {
    "mle": ("#4d545e", "s"),
    "conditional": ("#0b5cad", "o"),
    "filtering": ("#c2410d", "v"),
    "unlikelihood": ("#00775a", "D"),
    "rwr": ("#8f6400", "^"),
    "awr": ("#a23a7c", "P"),
    "other": ("#6941c5", "X"),
}
"""One colour and one marker an objective, everywhere: told apart without colour, and each readable as text on white."""

MARKERS = {
    "s": "M-4.5-4.5h9v9h-9z",
    "o": "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0z",
    "v": "M-5-4.5h10L0 5z",
    "D": "M0-6L6 0 0 6-6 0z",
    "^": "M-5 4.5h10L0-5z",
    "P": "M-2-5.5h4V-2h3.5v4H2v3.5h-4V2h-3.5v-4H-2z",
    "X": "M-5-2.5L-2.5-5 0-2.5 2.5-5 5-2.5 2.5 0 5 2.5 2.5 5 0 2.5-2.5 5-5 2.5-2.5 0z",
}
"""The markers as SVG paths around (0, 0), for tables."""

DARK = {
    "ink": "#e8eaed",
    "muted": "#a3abb6",
    "rule": "#30363f",
    "surface": "#14171b",
    "frontier": "#7c8591",
    "bad": "#ff8a80",
    "mle": "#c0c6cf",
    "conditional": "#6cb0ff",
    "filtering": "#ff9a66",
    "unlikelihood": "#45cfa4",
    "rwr": "#e3b94f",
    "awr": "#f193c9",
    "other": "#b9a1ff",
}
"""The same roles on a dark page."""

Interval = tuple[float, float, float]
"""A value and the ends of its 95% interval; NaN where there are none."""

_TEXT, _SMALL = 13, 11.5
_FONT = {
    "svg.fonttype": "none",
    "svg.hashsalt": "phf",
    "font.family": "DejaVu Sans",
    "font.size": _TEXT,
    "text.parse_math": False,
}


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis shows, and which way is better ("lower", "higher" or "")."""

    label: str
    better: str = "lower"


@dataclass(frozen=True, slots=True)
class Point:
    """A run in a plane; hollow if it was finetuned from another checkpoint."""

    label: str
    style: str
    x: Interval
    y: Interval
    hollow: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One plane of points."""

    title: str
    x: Axis
    y: Axis
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Line:
    """A run's curve over tokens."""

    label: str
    style: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves of one quantity.

    Args:
        title: the quantity, with its unit.
        lines: one a run.
        from_zero: start the scale at 0, so that heights compare.
        better: "lower", "higher" or "".
        dots: mark every value, where they are few.
    """

    title: str
    lines: Sequence[Line]
    from_zero: bool = False
    better: str = ""
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Steer:
    """A scenario under both control tokens, and the baseline where there is one."""

    label: str
    style: str
    aligned: Interval
    misaligned: Interval
    baseline: Interval | None


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """Draw under the same settings whatever the user's own are, and leave those alone."""
    matplotlib = require("matplotlib", "report", "the report's figures")
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_FONT)
        yield


@_settings()
def pareto(panels: Sequence[Panel], width: int, columns: int = 1) -> str:
    """Draw planes of runs with 95% intervals, each run labelled at its point, and the frontier of the point estimates."""
    figure, axes = _figure(width, 480 if width // columns > 500 else 350, len(panels), columns)
    for axis, panel in zip(axes, panels):
        _draw_plane(axis, panel, width // columns)
    _settle(figure)
    for axis, panel in zip(axes, panels):
        _label_points(axis, panel.points)
    return _svg(figure)


@_settings()
def curves(charts: Sequence[Chart], width: int) -> str:
    """Draw charts over training tokens side by side (one under the other where narrow), each line labelled at its end."""
    columns = len(charts) if width > 500 else 1
    figure, axes = _figure(width, 300 if width > 500 else 260, len(charts), columns)
    for axis, chart in zip(axes, charts):
        for line, dash in zip(chart.lines, _dashes(chart.lines)):
            marker = STYLES[line.style][1] if chart.dots else None
            axis.plot(
                line.x,
                line.y,
                color=_color(line.style),
                linewidth=1.6,
                linestyle=dash,
                marker=marker,
                markersize=5,
                clip_on=not chart.dots,
            )
        end = max(max(line.x) for line in chart.lines)
        label = max(len(line.label) for line in chart.lines) * _SMALL * 0.63 + 12
        axis.set_xlim(0, end * (1 + label / max(0.86 * width / columns - label, 60)))
        axis.set_ylim(*_visible(chart))
        _frame(axis, Axis("Training tokens", ""), Axis(_capital(chart.title), chart.better), width // columns)
        ticks = [tick for tick in axis.get_xticks() if 0 <= tick <= end * 1.001]
        ticks = ticks[:: 1 + (len(ticks) > 5)]
        axis.set_xticks(ticks, [short(tick) for tick in ticks])
        axis.spines["bottom"].set_bounds(0, end)
        axis.ticklabel_format(axis="y", useOffset=False, style="plain")
    _settle(figure)
    for axis, chart in zip(axes, charts):
        _label_ends(axis, chart.lines)
    return _svg(figure)


@_settings()
def steering(steers: Sequence[Steer], x: Axis, names: Sequence[str], width: int) -> str:
    """Draw what the control token does to one model: a row a scenario, a point under each token, the baseline's beside them.

    Args:
        names: what to call the aligned point, the misaligned one and the baseline.
    """
    figure, (axis,) = _figure(width, 110 + 46 * len(steers), 1, 1)
    for row, steer in enumerate(steers):
        axis.plot([steer.aligned[0], steer.misaligned[0]], [row, row], color=INK["rule"], linewidth=5, zorder=1)
        for interval, color, marker in _steer_marks(steer):
            axis.plot(interval[1:], [row, row], color=color, linewidth=1.6, zorder=2)
            axis.plot(interval[0], row, marker=marker, color=color, markersize=9, markeredgecolor=INK["surface"], zorder=3)
    axis.set_yticks(range(len(steers)), [steer.label for steer in steers])
    axis.set_ylim(len(steers) - 0.5, -0.9)
    _scale([mark[0] for steer in steers for mark in _steer_marks(steer)], axis.set_xscale, axis.xaxis, axis.set_xlim)
    _frame(axis, x, None, width)
    axis.grid(False, axis="y")
    _settle(figure)
    _label_row(axis, [(name, mark[0][0], mark[1]) for name, mark in zip(names, _steer_marks(steers[0]))])
    return _svg(figure)


def inline(svg: str, prefix: str, title: str) -> str:
    """Make an SVG file fit to stand in a page: ids of its own, colours from CSS variables, a name for screen readers."""
    width = re.search(r'viewBox="0 0 ([\d.]+)', svg)
    assert width is not None
    inside = svg[svg.index(">", svg.index("<svg")) + 1 :]
    view = re.search(r'viewBox="[^"]+"', svg)
    assert view is not None
    inside = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", inside, flags=re.DOTALL)
    inside = re.sub(r"font-family: [^;\"]+;? ?", "", inside)
    inside = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', inside)
    inside = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{prefix}-\1"', inside)
    inside = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", inside)
    for role, color in palette(dark=False).items():
        inside = inside.replace(color, f"var(--{role})")
    style = f"max-width:{float(width[1]) * 1.3:.0f}px"
    return f'<svg role="img" aria-label="{escape(title)}" style="{style}" {view[0]}>{inside}'


def palette(dark: bool) -> dict[str, str]:
    """Give every colour by its role."""
    return DARK if dark else {**INK, **{name: color for name, (color, _) in STYLES.items()}}


def short(value: float) -> str:
    """Write a large number as 3.7M."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _figure(width: int, height: float, count: int, columns: int) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width / 72, rows * height / 72), dpi=72, facecolor=INK["surface"])
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.12, wspace=0.05, hspace=0.06)
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes[:count]


def _draw_plane(axis: Any, panel: Panel, width: int) -> None:
    for point in panel.points:
        color, marker = _color(point.style), STYLES[point.style][1]
        axis.plot(point.x[1:], [point.y[0]] * 2, color=color, linewidth=1.5, alpha=0.8, zorder=3)
        axis.plot([point.x[0]] * 2, point.y[1:], color=color, linewidth=1.5, alpha=0.8, zorder=3)
        face, edge = (INK["surface"], color) if point.hollow else (color, INK["surface"])
        axis.plot(point.x[0], point.y[0], marker=marker, markersize=9.5, color=face, markeredgecolor=edge, zorder=4)
    _scale([point.y for point in panel.points], axis.set_yscale, axis.yaxis, axis.set_ylim)
    axis.margins(x=0.12)
    axis.autoscale_view(scaley=False)
    signs = [-1 if side.better == "higher" else 1 for side in (panel.x, panel.y)]
    order = frontier([(signs[0] * point.x[0], signs[1] * point.y[0]) for point in panel.points])
    if len(panel.points) > 1 and panel.x.better and panel.y.better:
        (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
        worst = (right if signs[0] > 0 else left, top if signs[1] > 0 else bottom)
        xs, ys = [panel.points[order[0]].x[0]], [worst[1]]
        for index in order:  # the staircase of what the runs together reach
            xs += [panel.points[index].x[0]] * 2
            ys += [ys[-1], panel.points[index].y[0]]
        axis.plot(
            [*xs, worst[0]], [*ys, ys[-1]], gid="frontier", color=INK["frontier"], linewidth=1.3, linestyle=(0, (4, 3)), zorder=2
        )
        axis.set_xlim(left, right)
        axis.set_ylim(bottom, top)
    _frame(axis, panel.x, panel.y, width, panel.title)


def _frame(axis: Any, x: Axis, y: Axis | None, width: int, title: str = "") -> None:
    """Give a plane its words: the name of y above it, of x below, the way that is better, quiet lines."""
    wrap = max(int(width / (_TEXT * 0.6)) - 4, 24)
    hint = {"lower": "(←\xa0lower\xa0is\xa0better)", "higher": "(higher\xa0is\xa0better\xa0→)", "": ""}[x.better]
    axis.set_xlabel(textwrap.fill(f"{x.label} {hint}".strip(), wrap), fontsize=_TEXT, color=INK["ink"], labelpad=8)
    if y is not None:
        hint = {"lower": "(↓\xa0lower\xa0is\xa0better)", "higher": "(↑\xa0higher\xa0is\xa0better)", "": ""}[y.better]
        text = textwrap.fill(f"{y.label} {hint}".strip(), wrap)
        axis.set_title(text, loc="left", fontsize=_TEXT, color=INK["ink"], pad=10)
        if title:
            above = 16 + (text.count("\n") + 1) * _TEXT * 1.3
            where = {"xycoords": "axes fraction", "textcoords": "offset points"}
            axis.annotate(title, (0, 1), (0, above), fontweight="bold", color=INK["ink"], **where)
    axis.set_facecolor("none")
    axis.grid(True, color=INK["rule"], linewidth=0.8)
    axis.set_axisbelow(True)
    for side, spine in axis.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(INK["frontier"])
    axis.tick_params(length=0, labelsize=_SMALL, labelcolor=INK["muted"], pad=6, which="both")


def _scale(intervals: Sequence[Interval], set_scale: Callable[..., Any], axis: Any, set_limits: Callable[..., Any]) -> None:
    """Choose the scale of misalignment: logarithmic only where no interval reaches 0, else symmetric-logarithmic or linear."""
    from matplotlib.ticker import ScalarFormatter

    ends = [end for interval in intervals for end in interval if math.isfinite(end)]
    positive = [end for end in ends if end > 0]
    if not positive or max(positive) / min(positive) < 5 or min(ends) < -1e-12:
        room = 0.08 * (max(ends) - min(*ends, 0.0)) or 1.0
        set_limits(min(0.0, min(ends) - room) if min(ends) < 0 else 0.0 - room * (min(ends) == 0), max(ends) + room)
        ticks = axis.get_major_locator().tick_values(*axis.get_view_interval())
        axis.set_ticks([tick for tick in ticks if tick >= 0 or min(ends) < 0])
        axis.set_major_formatter(ScalarFormatter(useOffset=False))
        return
    floor, top = 10.0 ** math.floor(math.log10(min(positive))), max(ends)
    decades = [10.0**power for power in range(round(math.log10(floor)), math.ceil(math.log10(top)) + 1)]
    if min(ends) > 0:
        set_scale("log")
        set_limits(min(ends) / 1.3, top * 1.35)
        steps = (1, 2, 5) if top / min(ends) < 300 else (1,)
        axis.set_ticks([tick * step for tick in decades for step in steps if min(ends) / 1.3 <= tick * step <= top * 1.35])
    else:
        set_scale("symlog", linthresh=floor, linscale=0.6)
        set_limits(-0.25 * floor, top * 1.35)
        axis.set_ticks([0.0, *(tick for tick in decades if tick <= top * 1.35)])
    axis.set_ticks([], minor=True)
    axis.set_major_formatter(_tick)


def _label_points(axis: Any, points: Sequence[Point]) -> None:
    """Write each run's name beside its point, where it covers no other name, point or interval."""
    place, frame = axis.transData.transform, axis.get_window_extent()
    taken: list[tuple[float, float, float, float]] = []
    for point in points:
        (x, y), spans = place((point.x[0], point.y[0])), [point.x, point.y]
        taken.append((x - 7, y - 7, x + 7, y + 7))
        if all(map(math.isfinite, spans[0])):
            taken.append((place((point.x[1], point.y[0]))[0], y - 2, place((point.x[2], point.y[0]))[0], y + 2))
        if all(map(math.isfinite, spans[1])):
            taken.append((x - 2, place((point.x[0], point.y[1]))[1], x + 2, place((point.x[0], point.y[2]))[1]))
    for line in (line for line in axis.lines if line.get_gid() == "frontier"):
        corners = place(np.transpose(line.get_data()))
        taken += [(*(np.minimum(a, b) - 2), *(np.maximum(a, b) + 2)) for a, b in pairwise(corners)]
    for point in points:
        x, y = place((point.x[0], point.y[0]))
        wide, high = len(point.label) * _TEXT * 0.64, _TEXT * 1.25
        best: tuple[float, Any] = (math.inf, None)
        for far in (11, 20, 32, 46, 62):
            for dx, dy in ((1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1)):
                left = x + dx * far * 0.8 - (0 if dx > 0 else wide if dx < 0 else wide / 2)
                low = y + dy * far * 0.75 - (high * 0.1 if dy > 0 else high * 0.9 if dy < 0 else high / 2)
                box = (left, low, left + wide, low + high)
                cost = far + 3 * abs(dx == 0) + sum(_overlap(box, other) for other in taken)
                cost += 50 * (_overlap(box, box) - _overlap(box, (frame.x0, frame.y0, frame.x1 + 4, frame.y1 + 4)))
                best = min(best, (cost, (box, far)))
        box, far = best[1]
        taken.append(box)
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        _write(axis, point.label, middle, _color(point.style), "center", (x, y) if far > 25 else None)


def _label_ends(axis: Any, lines: Sequence[Line]) -> None:
    """Write each run's name at the end of its curve, pushed apart where curves end together."""
    place, gap = axis.transData.transform, _SMALL * 1.3
    ends = sorted((tuple(place((line.x[-1], line.y[-1]))), line) for line in lines)
    ends.sort(key=lambda end: end[0][1])
    frame = axis.get_window_extent()
    heights = [end[0][1] for end in ends]
    for _ in range(100):
        for below in range(len(heights) - 1):
            lacking = max(gap - (heights[below + 1] - heights[below]), 0)
            heights[below] -= lacking / 2
            heights[below + 1] += lacking / 2
    for rank in range(len(heights)):  # none below the frame, none above it
        heights[rank] = max(heights[rank], frame.y0 + gap * (rank + 0.4))
        heights[-1 - rank] = min(heights[-1 - rank], frame.y1 - gap * (rank - 0.2))
    for ((x, _), line), height in zip(ends, heights):
        _write(axis, line.label, (x + 7, height), _color(line.style), "left", None, _SMALL)


def _label_row(axis: Any, texts: Sequence[tuple[str, float, str]]) -> None:
    """Write names above the first row's points, pushed apart sideways."""
    row = axis.transData.transform
    placed = sorted((float(row((value, -0.42))[0]), name, color) for name, value, color in texts)
    halves = [len(name) * _TEXT * 0.32 + 5 for _, name, _ in placed]
    centres = [x for x, _, _ in placed]
    frame = axis.get_window_extent()
    for _ in range(100):
        for left in range(len(centres) - 1):
            lacking = max(halves[left] + halves[left + 1] - (centres[left + 1] - centres[left]), 0)
            centres[left] -= lacking / 2
            centres[left + 1] += lacking / 2
        centres[0] = max(centres[0], frame.x0 - 40 + halves[0])
        centres[-1] = min(centres[-1], frame.x1 + 8 - halves[-1])
    height = row((placed[0][0], -0.48))[1]
    for centre, (_, name, color) in zip(centres, placed):
        _write(axis, name, (centre, height), color, "center", None)


def _write(axis: Any, text: str, at: Any, color: str, align: str, point: Any | None, size: float = _TEXT) -> None:
    """Write text at a place in pixels, with a thin line to its point where that is far."""
    figure = axis.figure
    where = figure.transFigure.inverted().transform(at)
    if point is not None:
        start = figure.transFigure.inverted().transform(point)
        line = {"color": color, "linewidth": 0.7, "alpha": 0.7, "transform": figure.transFigure, "clip_on": False, "zorder": 1}
        axis.plot(*zip(start, where), **line)
    figure.text(*where, text, color=color, fontsize=size, ha=align, va="center")


def _steer_marks(steer: Steer) -> list[tuple[Interval, str, str]]:
    """List what a row shows: interval, colour and marker of the aligned point, the misaligned one, the baseline."""
    marks = [(steer.aligned, *STYLES[steer.style]), (steer.misaligned, INK["bad"], STYLES[steer.style][1])]
    return marks if steer.baseline is None else [*marks, (steer.baseline, *STYLES["mle"])]


def _visible(chart: Chart) -> tuple[float, float]:
    """Choose the height of a chart: all of it where it starts at 0, else what comes after the first tenth of the tokens."""
    from_when = 0.0 if chart.from_zero or chart.dots else 0.1
    late = [y for line in chart.lines for x, y in zip(line.x, line.y) if x >= from_when * line.x[-1] and math.isfinite(y)]
    low, high = min(late), max(late)
    room = 0.06 * (high - low) or 0.5
    return (min(0.0, low) if chart.from_zero else low - room), high + room


def _dashes(lines: Sequence[Line]) -> list[Any]:
    """Give runs of one objective different dashes, since they share their colour."""
    kinds = ["-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2))]
    return [kinds[[other.style for other in lines[:index]].count(line.style) % 4] for index, line in enumerate(lines)]


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Give the area that two boxes (left, bottom, right, top) share."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0.0) * max(high, 0.0)


def _tick(value: float, _: Any = None) -> str:
    """Write a tick in plain decimals: 0.001, 2.25, 5,600."""
    return f"{value:,.0f}" if abs(value) >= 1000 else np.format_float_positional(float(f"{value:.5g}"), trim="-")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _color(style: str) -> str:
    return STYLES[style][0]


def _settle(figure: Any) -> None:
    """Lay the figure out once and keep it so, that text can be placed in pixels."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()
