"""What the figures show, as data: points in planes, curves in charts, and rows of control tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

Interval = tuple[float, float, float]
"""A value and the ends of its 95% interval; NaN where there are none."""


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
        origin: what x is a difference to; its own value stands on a second axis.
    """

    title: str
    x: Axis
    y: Axis
    points: Sequence[Point]
    paths: Sequence[Path] = ()
    origin: float | None = None


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
