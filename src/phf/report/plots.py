"""Drawings of the comparison as SVG text: trade-off planes, curves over tokens, and what the control token does.

Every figure is drawn for a width in CSS pixels, one unit a pixel. Its colours are the light palette's; `inline` swaps them for
CSS variables, so that a page shows the same figure light and dark.
"""

import contextlib
import io
import math
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from phf.errors import require
from phf.report.comparison import frontier
from phf.report.label_placement import LETTER, SMALL, TEXT, label_ends, label_points, label_row
from phf.report.metrics import capital, short
from phf.report.palette import INK, STYLES, colours

WIDE, NARROW = 960, 360
"""Widths of the two drawings of each figure, in CSS pixels."""

Interval = tuple[float, float, float]
"""A value and the ends of its 95% interval; NaN where there are none."""

_FONT = {
    "svg.fonttype": "none",
    "svg.hashsalt": "phf",
    "font.family": "DejaVu Sans",
    "font.size": TEXT,
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
class Path:
    """A run under guidance: points in order; the label of one that needs none is ""."""

    style: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Panel:
    """One plane of points.

    Args:
        title: "" for none.
        x, y: what it shows.
        points: one a run.
        paths: what leads away from them.
    """

    title: str
    x: Axis
    y: Axis
    points: Sequence[Point]
    paths: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """A run's curve over tokens, with the ends of each value's interval if there are any."""

    label: str
    style: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves of one quantity.

    Args:
        title: the quantity, with its unit.
        lines: one a run.
        from_zero: start the scale at 0, so that heights compare.
        better: "lower", "higher" or "".
        dots: mark every value, where they are few.
        across: what the values are over.
    """

    title: str
    lines: Sequence[Line]
    from_zero: bool = False
    better: str = ""
    dots: bool = False
    across: str = "Training tokens"


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
    """Draw planes of runs with 95% intervals, each run labelled at its point, and the frontier of their point estimates."""
    figure, axes = _figure(width, 480 if width // columns > 500 else 350, len(panels), columns)
    stairs = [_draw_plane(axis, panel, width // columns) for axis, panel in zip(axes, panels)]
    _settle(figure)
    for axis, panel, staircase in zip(axes, panels, stairs):
        points = [*panel.points, *(point for path in panel.paths for point in path.points)]
        lines = [[(point.x[0], point.y[0]) for point in path.points] for path in panel.paths]
        label_points(axis, [(point.label, _color(point.style), point.x, point.y) for point in points], [staircase, *lines])
    return _svg(figure)


@_settings()
def curves(charts: Sequence[Chart], width: int) -> str:
    """Draw charts side by side (one under the other where narrow), each line labelled at its end."""
    longest = max(len(line.label) for chart in charts for line in chart.lines) * SMALL * LETTER
    columns = min(len(charts), 3 if len(charts) != 4 else 2)
    columns = columns if longest < 0.4 * width / columns else 1
    letters = int(0.4 * width / columns / SMALL / LETTER)  # longer names are cut short, and are whole in the tables
    figure, axes = _figure(width, 300 if width > 500 else 260, len(charts), columns)
    for axis, chart in zip(axes, charts):
        for line, dash in zip(chart.lines, _dashes(chart.lines)):
            marker = STYLES[line.style][1] if chart.dots else None
            style = {"color": _color(line.style), "linestyle": dash, "marker": marker, "markersize": 5}
            axis.plot(line.x, line.y, linewidth=1.6, clip_on=not chart.dots, **style)
            axis.vlines(line.x[: len(line.low)], line.low, line.high, color=style["color"], linewidth=1.2, alpha=0.5)
        end = max(max(line.x) for line in chart.lines)
        room = min(longest, 0.4 * width / columns) + 14
        axis.set_xlim(0, end * (1 + room / (0.88 * width / columns - room)))
        axis.set_ylim(*_visible(chart))
        _frame(axis, Axis(chart.across, ""), Axis(capital(chart.title), chart.better), width // columns)
        ticks = [tick for tick in axis.get_xticks() if 0 <= tick <= end * 1.001 and tick == round(tick)]
        ticks = ticks[:: 1 + (len(ticks) > 5)]
        axis.set_xticks(ticks, [short(tick) for tick in ticks])
        axis.spines["bottom"].set_bounds(0, end)
        axis.set_xlabel(axis.get_xlabel(), loc="left")
        axis.ticklabel_format(axis="y", useOffset=False, style="plain")
    _settle(figure)
    for axis, chart in zip(axes, charts):
        names = [line.label if len(line.label) <= letters else f"{line.label[: letters - 1]}…" for line in chart.lines]
        ends = [(line.x[-1], line.y[-1]) for line in chart.lines]
        label_ends(axis, [(name, _color(line.style), end) for name, line, end in zip(names, chart.lines, ends)])
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
    label_row(axis, [(name, color, interval[0]) for name, (interval, color, _) in zip(names, _steer_marks(steers[0]))])
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
    for role, color in colours(dark=False).items():
        inside = inside.replace(color, f"var(--{role})")
    style = f"max-width:{float(width[1]) * 1.3:.0f}px"
    return f'<svg role="img" aria-label="{escape(title)}" style="{style}" {view[0]}>{inside}'


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


def _draw_plane(axis: Any, panel: Panel, width: int) -> list[tuple[float, float]]:
    """Draw points, intervals and the frontier, and give the corners of the frontier's staircase."""
    for point in panel.points:
        _draw_point(axis, point, 9.5, 0.8)
    on_the_way = [point for path in panel.paths for point in path.points]
    for point in on_the_way:
        _draw_point(axis, point, 6.5, 0.5)
    for path in panel.paths:
        xs, ys = zip(*((point.x[0], point.y[0]) for point in path.points))
        axis.plot(xs, ys, color=_color(path.style), linewidth=1.2, linestyle=(0, (1.5, 1.5)), zorder=2.5)
    _scale([point.y for point in [*panel.points, *on_the_way]], axis.set_yscale, axis.yaxis, axis.set_ylim)
    axis.margins(x=0.12)
    axis.set_xlim(axis.get_xlim())
    stairs = _staircase(axis, panel) if len(panel.points) > 1 and panel.x.better and panel.y.better else []
    axis.plot(
        [x for x, _ in stairs], [y for _, y in stairs], color=INK["frontier"], linewidth=1.3, linestyle=(0, (4, 3)), zorder=2
    )
    _frame(axis, panel.x, panel.y, width, panel.title)
    return stairs


def _draw_point(axis: Any, point: Point, size: float, alpha: float) -> None:
    """Draw a point with its two intervals."""
    color, marker = STYLES[point.style]
    axis.plot(point.x[1:], [point.y[0]] * 2, color=color, linewidth=1.5, alpha=alpha, zorder=3)
    axis.plot([point.x[0]] * 2, point.y[1:], color=color, linewidth=1.5, alpha=alpha, zorder=3)
    face, edge = (INK["surface"], color) if point.hollow else (color, INK["surface"])
    # Large points above small ones: where plain sampling is one step of a path, it is the run's own point that shows.
    axis.plot(point.x[0], point.y[0], marker=marker, markersize=size, color=face, markeredgecolor=edge, zorder=3 + size / 10)


def _staircase(axis: Any, panel: Panel) -> list[tuple[float, float]]:
    """Give the corners of what the runs reach together, from edge to edge of the plane."""
    flip = [-1 if side.better == "higher" else 1 for side in (panel.x, panel.y)]
    best = frontier([(flip[0] * point.x[0], flip[1] * point.y[0]) for point in panel.points])
    x, y = axis.get_xlim()[flip[0] > 0], axis.get_ylim()[flip[1] > 0]  # the worse ends
    corners = []
    for index in best:
        point = panel.points[index]
        corners += [(point.x[0], y), (point.x[0], point.y[0])]
        y = point.y[0]
    return [*corners, (x, y)]


def _frame(axis: Any, x: Axis, y: Axis | None, width: int, title: str = "") -> None:
    """Give a plane its words: the name of y above it, of x below, the way that is better, quiet lines."""
    wrap = max(int(width / (TEXT * 0.6)) - 4, 24)
    hint = {"lower": "(←\xa0lower\xa0is\xa0better)", "higher": "(higher\xa0is\xa0better\xa0→)", "": ""}[x.better]
    axis.set_xlabel(textwrap.fill(f"{x.label} {hint}".strip(), wrap), fontsize=TEXT, color=INK["ink"], labelpad=8)
    if y is not None:
        hint = {"lower": "(↓\xa0lower\xa0is\xa0better)", "higher": "(↑\xa0higher\xa0is\xa0better)", "": ""}[y.better]
        text = textwrap.fill(f"{y.label} {hint}".strip(), wrap)
        axis.set_title(text, loc="left", fontsize=TEXT, color=INK["ink"], pad=10)
        if title:
            above = 16 + (text.count("\n") + 1) * TEXT * 1.3
            where = {"xycoords": "axes fraction", "textcoords": "offset points"}
            axis.annotate(title, (0, 1), (0, above), fontweight="bold", color=INK["ink"], **where)
    axis.set_facecolor("none")
    axis.grid(True, color=INK["rule"], linewidth=0.8)
    axis.set_axisbelow(True)
    for side, spine in axis.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(INK["frontier"])
    axis.tick_params(length=0, labelsize=SMALL, labelcolor=INK["muted"], pad=6, which="both")


def _scale(intervals: Sequence[Interval], set_scale: Callable[..., Any], axis: Any, set_limits: Callable[..., Any]) -> None:
    """Choose the scale of misalignment: logarithmic only where no interval reaches 0, else symmetric-logarithmic or linear."""
    from matplotlib.ticker import ScalarFormatter

    ends = [end for interval in intervals for end in interval if math.isfinite(end)]
    positive = [end for end in ends if end > 0]
    if not any(ends):
        set_limits(-1, 1)
        axis.set_ticks([0.0], ["0"])
        return
    if not positive or max(positive) / min(positive) < 5 or min(ends) < -1e-12:
        room = 0.08 * (max(ends) - min(*ends, 0.0))
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


def _steer_marks(steer: Steer) -> list[tuple[Interval, str, str]]:
    """List what a row shows: interval, colour and marker of the aligned point, the misaligned one, the baseline."""
    marks = [(steer.aligned, *STYLES[steer.style]), (steer.misaligned, INK["bad"], STYLES[steer.style][1])]
    return marks if steer.baseline is None else [*marks, (steer.baseline, *STYLES["mle"])]


def _visible(chart: Chart) -> tuple[float, float]:
    """Choose the height of a chart: all of it where it starts at 0, else what comes after the first tenth of the tokens."""
    from_when = 0.0 if chart.from_zero or chart.dots else 0.1
    late = [y for line in chart.lines for x, y in zip(line.x, line.y) if x >= from_when * line.x[-1] and math.isfinite(y)]
    late += [end for line in chart.lines for end in (*line.low, *line.high) if math.isfinite(end)]
    low, high = min(late), max(late)
    room = 0.06 * (high - low) or 0.5
    return (min(0.0, low) if chart.from_zero else low - room), high + room


def _dashes(lines: Sequence[Line]) -> list[Any]:
    """Give runs of one objective different dashes, since they share their colour."""
    kinds = ["-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2))]
    return [kinds[[other.style for other in lines[:index]].count(line.style) % 4] for index, line in enumerate(lines)]


def _tick(value: float, _: Any = None) -> str:
    """Write a tick in plain decimals: 0.001, 2.25, 5,600."""
    return f"{value:,.0f}" if abs(value) >= 1000 else np.format_float_positional(float(f"{value:.5g}"), trim="-")


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
