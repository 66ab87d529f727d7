"""Plots of the comparison as SVG text: trade-off planes, curves over tokens, and the effect of the control token.

Every plot is made for a width in CSS pixels, one unit a pixel, in the light palette; `canvas.inline` swaps its colours for
CSS variables, so that a page shows the same figure light and dark.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from phf.report.canvas import frame, new_figure, scale_misalignment, settings, settle, to_svg
from phf.report.comparison import frontier
from phf.report.label_placement import LETTER, SMALL, TEXT, label_ends, label_points, label_row
from phf.report.metrics import capital, short
from phf.report.palette import INK, STYLES
from phf.report.shapes import Axis, Chart, Interval, Line, Panel, Point, Steer

WIDE, NARROW = 960, 360
"""Widths of the two plots of each figure, in CSS pixels."""
_LEGEND_ROW = 2 * TEXT
"""Height of a row of the legend, in CSS pixels; a figure is higher by it, so that many runs leave the panels their height."""


@settings()
def pareto(panels: Sequence[Panel], width: int, columns: int = 1) -> str:
    """Plot planes of runs with 95% intervals, each run labelled at its point, and the frontier of their point estimates."""
    small = width // columns < 500
    points = {point.label: point for panel in panels for point in panel.points}
    legend_columns = _legend_columns(points, width)
    legend_height = math.ceil(len(points) / legend_columns) * _LEGEND_ROW if small else 0.0
    figure, axes = new_figure(width, 350 if small else 480, len(panels), columns, legend_height)
    stairs = [_draw_plane(axis, panel, width // columns) for axis, panel in zip(axes, panels)]
    if small:
        _legend(figure, points, legend_columns)
    settle(figure)
    for axis, panel, staircase in zip(axes, panels, stairs):
        # Where the plot is small, names would stray to other points: the legend has them.
        runs = [replace(point, label="") for point in panel.points] if small else panel.points
        labelled = [*runs, *(point for path in panel.paths for point in path.points)]
        lines = [[(point.x[0], point.y[0]) for point in path.points] for path in panel.paths]
        label_points(axis, [(point.label, _color(point.style), point.x, point.y) for point in labelled], [staircase, *lines])
    return to_svg(figure)


@settings()
def curves(charts: Sequence[Chart], width: int) -> str:
    """Plot charts side by side (one under the other where narrow), each line labelled at its end."""
    longest = max(len(line.label) for chart in charts for line in chart.lines) * SMALL * LETTER
    columns = min(len(charts), 3 if len(charts) != 4 else 2)
    columns = columns if longest < 0.4 * width / columns else 1
    letters = int(0.4 * width / columns / SMALL / LETTER)  # longer names are cut short, and are whole in the tables
    figure, axes = new_figure(width, 300 if width > 500 else 260, len(charts), columns)
    for axis, chart in zip(axes, charts):
        for line, dash in zip(chart.lines, _dashes(chart.lines)):
            marker = STYLES[line.style][1] if chart.dots else None
            style = {"color": _color(line.style), "linestyle": dash, "marker": marker, "markersize": 5}
            axis.plot(line.x, line.y, linewidth=1.6, clip_on=not chart.dots, **style)
            axis.vlines(line.x[: len(line.low)], line.low, line.high, color=style["color"], linewidth=1.2, alpha=0.5)
        end = max(max(line.x) for line in chart.lines)
        margin = min(longest, 0.4 * width / columns) + 14
        axis.set_xlim(0, end * (1 + margin / (0.88 * width / columns - margin)))
        axis.set_ylim(*_visible(chart))
        frame(axis, Axis(chart.across, ""), Axis(capital(chart.title), chart.better), width // columns)
        ticks = [tick for tick in axis.get_xticks() if 0 <= tick <= end * 1.001 and tick == round(tick)]
        ticks = ticks[:: 1 + (len(ticks) > 5)]
        axis.set_xticks(ticks, [short(tick) for tick in ticks])
        axis.spines["bottom"].set_bounds(0, end)
        axis.set_xlabel(axis.get_xlabel(), loc="left")
        axis.ticklabel_format(axis="y", useOffset=False, style="plain")
    settle(figure)
    for axis, chart in zip(axes, charts):
        names = [line.label if len(line.label) <= letters else f"{line.label[: letters - 1]}…" for line in chart.lines]
        ends = [(line.x[-1], line.y[-1]) for line in chart.lines]
        label_ends(axis, [(name, _color(line.style), end) for name, line, end in zip(names, chart.lines, ends)])
    return to_svg(figure)


@settings()
def steering(steers: Sequence[Steer], x: Axis, names: Sequence[str], width: int) -> str:
    """Plot the effect of the control token on one model: a row per scenario, a point under each token, and the baseline.

    Args:
        names: labels of the aligned point, the misaligned one and the baseline.
    """
    figure, (axis,) = new_figure(width, 110 + 46 * len(steers), 1, 1)
    for row, steer in enumerate(steers):
        axis.plot([steer.aligned[0], steer.misaligned[0]], [row, row], color=INK["rule"], linewidth=5, zorder=1)
        for interval, color, marker in _steer_marks(steer):
            axis.plot(interval[1:], [row, row], color=color, linewidth=1.6, zorder=2)
            axis.plot(interval[0], row, marker=marker, color=color, markersize=9, markeredgecolor=INK["surface"], zorder=3)
    axis.set_yticks(range(len(steers)), [steer.label for steer in steers])
    axis.set_ylim(len(steers) - 0.5, -0.9)
    scale_misalignment([mark[0] for steer in steers for mark in _steer_marks(steer)], axis.set_xscale, axis.xaxis, axis.set_xlim)
    frame(axis, x, None, width)
    axis.grid(False, axis="y")
    settle(figure)
    label_row(axis, [(name, color, interval[0]) for name, (interval, color, _) in zip(names, _steer_marks(steers[0]))])
    return to_svg(figure)


def _draw_plane(axis: Any, panel: Panel, width: int) -> list[tuple[float, float]]:
    """Plot points, intervals and the frontier; return the corners of the frontier's staircase."""
    for point in panel.points:
        _draw_point(axis, point, 9.5, 0.8)
    on_the_way = [point for path in panel.paths for point in path.points]
    for point in on_the_way:
        _draw_point(axis, point, 6.5, 0.5)
    for path in panel.paths:
        xs, ys = zip(*((point.x[0], point.y[0]) for point in path.points))
        axis.plot(xs, ys, color=_color(path.style), linewidth=1.2, linestyle=(0, (1.5, 1.5)), zorder=2.5)
    scale_misalignment([point.y for point in [*panel.points, *on_the_way]], axis.set_yscale, axis.yaxis, axis.set_ylim)
    axis.margins(x=0.12)
    axis.set_xlim(axis.get_xlim())
    stairs = _staircase(panel) if len(panel.points) > 1 and panel.x.better and panel.y.better else []
    axis.plot(
        [x for x, _ in stairs], [y for _, y in stairs], color=INK["frontier"], linewidth=1.3, linestyle=(0, (4, 3)), zorder=2
    )
    if panel.origin is not None:
        _second_axis(axis, panel.origin)
    frame(axis, panel.x, panel.y, width, panel.title, 0.0 if panel.origin is None else SMALL * 1.4)
    return stairs


def _legend_columns(points: Mapping[str, Point], width: int) -> int:
    """Return how many columns of the legend fit into a width in pixels."""
    longest = max(map(len, points), default=0) * TEXT * LETTER + 40
    return max(1, min(len(points), int(width / longest)))


def _legend(figure: Any, points: Mapping[str, Point], columns: int) -> None:
    """Add a legend of the runs above all panels, by colour and marker."""
    from matplotlib.lines import Line2D

    handles = []
    for label, point in points.items():
        color, marker = STYLES[point.style]
        face, edge = (INK["surface"], color) if point.hollow else (color, INK["surface"])
        handles.append(Line2D([], [], linestyle="", marker=marker, markersize=9, color=face, markeredgecolor=edge, label=label))
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, frameon=False, fontsize=TEXT, labelcolor=INK["ink"])


def _second_axis(axis: Any, origin: float) -> None:
    """Add the absolute value of x above the plane."""
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    absolute = axis.secondary_xaxis("top", functions=(lambda x: x + origin, lambda x: x - origin))
    absolute.xaxis.set_major_locator(MaxNLocator(5))
    absolute.xaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    absolute.tick_params(length=0, labelsize=SMALL, labelcolor=INK["muted"], pad=2)
    absolute.spines["top"].set_visible(False)


def _draw_point(axis: Any, point: Point, size: float, alpha: float) -> None:
    """Plot a point with its two intervals."""
    color, marker = STYLES[point.style]
    axis.plot(point.x[1:], [point.y[0]] * 2, color=color, linewidth=1.5, alpha=alpha, zorder=3)
    axis.plot([point.x[0]] * 2, point.y[1:], color=color, linewidth=1.5, alpha=alpha, zorder=3)
    face, edge = (INK["surface"], color) if point.hollow else (color, INK["surface"])
    # Large points above small ones: where plain sampling is one step of a path, it is the run's own point that shows.
    axis.plot(point.x[0], point.y[0], marker=marker, markersize=size, color=face, markeredgecolor=edge, zorder=3 + size / 10)


def _staircase(panel: Panel) -> list[tuple[float, float]]:
    """Return the corners of the frontier, from its first point to its last."""
    flip = [-1 if side.better == "higher" else 1 for side in (panel.x, panel.y)]
    best = frontier([(flip[0] * point.x[0], flip[1] * point.y[0]) for point in panel.points])
    corners: list[tuple[float, float]] = []
    for index in best:
        x, y = panel.points[index].x[0], panel.points[index].y[0]
        corners += [(x, corners[-1][1]), (x, y)] if corners else [(x, y)]
    return corners


def _steer_marks(steer: Steer) -> list[tuple[Interval, str, str]]:
    """Return what a row shows: interval, colour and marker of the aligned point, the misaligned one, the baseline."""
    marks = [(steer.aligned, *STYLES[steer.style]), (steer.misaligned, INK["bad"], STYLES[steer.style][1])]
    return marks if steer.baseline is None else [*marks, (steer.baseline, *STYLES["mle"])]


def _visible(chart: Chart) -> tuple[float, float]:
    """Choose the height of a chart: all of it where it starts at 0, else what comes after the first tenth of the tokens."""
    from_when = 0.0 if chart.from_zero or chart.dots else 0.1
    late = [y for line in chart.lines for x, y in zip(line.x, line.y) if x >= from_when * line.x[-1] and math.isfinite(y)]
    late += [end for line in chart.lines for end in (*line.low, *line.high) if math.isfinite(end)]
    low, high = min(late), max(late)
    margin = 0.06 * (high - low) or 0.5
    return (min(0.0, low) if chart.from_zero else low - margin), high + margin


def _dashes(lines: Sequence[Line]) -> list[Any]:
    """Return a line style per run; runs of one objective share their colour and differ by dashes."""
    kinds = ["-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2))]
    return [kinds[[other.style for other in lines[:index]].count(line.style) % 4] for index, line in enumerate(lines)]


def _color(style: str) -> str:
    return STYLES[style][0]
