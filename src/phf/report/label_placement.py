"""Labels placed beside the points they belong to, without overlap. Positions are in pixels."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

TEXT, SMALL = 13, 11.5
"""Sizes of letters."""

LETTER = 0.64
"""Width of a letter by its size, in the widest font a page may use."""

_NEAR_TO_FAR = (11, 20, 32, 46, 62)
_AROUND = ((1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))

Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""


def label_points(
    axis: Any, points: Sequence[tuple[str, str, Sequence[float], Sequence[float]]], lines: Sequence[Sequence[Any]]
) -> None:
    """Write each name beside its point, off other names, points, intervals and lines where there is space.

    Args:
        axis: laid out.
        points: name, colour, (x, low, high), (y, low, high) of each; "" is not written.
        lines: corners of each, in data.
    """
    place, frame = axis.transData.transform, axis.get_window_extent()
    taken: list[Box] = []
    for _, _, (x, left, right), (y, low, high) in points:
        (column, row), marker = place((x, y)), 7
        taken.append((column - marker, row - marker, column + marker, row + marker))
        taken.append((place((left, y))[0], row - 2, place((right, y))[0], row + 2))
        taken.append((column - 2, place((x, low))[1], column + 2, place((x, high))[1]))
    for a, b in (ends for line in lines for ends in pairwise(map(place, line))):
        steps = np.linspace(a, b, 2 + int(np.abs(b - a).max() / 6) if np.isfinite(b - a).all() else 2)
        taken += [(*np.minimum(one, other) - 2, *np.maximum(one, other) + 2) for one, other in pairwise(steps)]
    taken = [box for box in taken if all(map(math.isfinite, box))]
    for name, color, (x, *_), (y, *_) in points:
        if not name:
            continue
        at = place((x, y))
        choices = [(_cost(box, far, taken, frame), far, box) for far, box in _boxes(at, len(name) * TEXT * LETTER)]
        _, far, box = min(choices)
        taken.append(box)
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        _write(axis, name, middle, color, "center", at if far > 25 else None)


def label_ends(axis: Any, ends: Sequence[tuple[str, str, Sequence[float]]]) -> None:
    """Write each run's name at the end of its curve, pushed apart where curves end together.

    Args:
        axis: laid out.
        ends: name, colour and (x, y) in data of each.
    """
    placed = sorted((tuple(axis.transData.transform(end))[::-1], name, color) for name, color, end in ends)
    frame, gap = axis.get_window_extent(), SMALL * 1.3
    heights = _spread([y for (y, _), _, _ in placed], [gap] * len(placed), frame.y0 + gap * 0.4, frame.y1 - gap * 0.2)
    for ((_, x), name, color), height in zip(placed, heights):
        _write(axis, name, (x + 8, height), color, "left", None, SMALL)


def label_row(axis: Any, names: Sequence[tuple[str, str, float]]) -> None:
    """Write names above the points of the first row, pushed apart sideways.

    Args:
        axis: laid out, rows at y = 0, 1, ... downwards.
        names: name, colour and x in data of each.
    """
    place, frame = axis.transData.transform, axis.get_window_extent()
    placed = sorted((float(place((x, 0))[0]), name, color) for name, color, x in names)
    widths = [len(name) * TEXT * LETTER + 10 for _, name, _ in placed]
    height = float(place((names[0][2], -0.48))[1])
    centres = _spread([x for x, _, _ in placed], widths, frame.x0 - 40 + widths[0] / 2, frame.x1 + 8 - widths[-1] / 2)
    for centre, (_, name, color) in zip(centres, placed):
        _write(axis, name, (centre, height), color, "center", None)


def _boxes(at: Sequence[float], wide: float) -> list[tuple[int, Box]]:
    """Return the places where a label can be put around a point, each with its distance."""
    high, found = TEXT * 1.25, []
    for far in _NEAR_TO_FAR:
        for dx, dy in _AROUND:
            left = at[0] + dx * far * 0.8 - (0 if dx > 0 else wide if dx < 0 else wide / 2)
            low = at[1] + dy * far * 0.75 - (high * 0.1 if dy > 0 else high * 0.9 if dy < 0 else high / 2)
            found.append((far, (left, low, left + wide, low + high)))
    return found


def _cost(box: Box, far: int, taken: Sequence[Box], frame: Any) -> float:
    """Weigh a place: what it covers, what of it is outside the frame, how far it is."""
    outside = _shared(box, box) - _shared(box, (frame.x0, frame.y0, frame.x1 + 4, frame.y1 + 4))
    return far + sum(_shared(box, other) for other in taken) + 50 * outside


def _shared(one: Box, other: Box) -> float:
    """Return the area that two boxes share."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0.0) * max(high, 0.0)


def _spread(centres: Sequence[float], sizes: Sequence[float], lowest: float, highest: float) -> list[float]:
    """Push apart what overlaps along a line, as little as it takes, and keep it between two ends."""
    spread = list(centres)
    for _ in range(100):
        for low in range(len(spread) - 1):
            lacking = max((sizes[low] + sizes[low + 1]) / 2 - (spread[low + 1] - spread[low]), 0.0)
            spread[low] -= lacking / 2
            spread[low + 1] += lacking / 2
    for first, towards in ((lowest, 1), (highest, -1)):
        edge, order = first, list(range(len(spread)))[::towards]
        for index, following in zip(order, [*order[1:], order[-1]]):
            spread[index] = max(spread[index], edge) if towards > 0 else min(spread[index], edge)
            edge += towards * (sizes[index] + sizes[following]) / 2
    return spread


def _write(axis: Any, text: str, at: Sequence[float], color: str, align: str, point: Any, size: float = TEXT) -> None:
    """Write text, with a thin line to its point where that is far."""
    from matplotlib.lines import Line2D

    to_figure = axis.figure.transFigure.inverted().transform
    if point is not None:
        (x0, y0), (x1, y1) = to_figure(point), to_figure(at)
        axis.figure.add_artist(Line2D([x0, x1], [y0, y1], color=color, linewidth=0.7, alpha=0.6, zorder=0.5))
    axis.figure.text(*to_figure(at), text, color=color, fontsize=size, ha=align, va="center")
