"""The canvas of every figure: matplotlib's settings, frames, scales and ticks, and SVG that can stand in a page."""

import contextlib
import io
import math
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Any

import numpy as np

from phf.errors import require
from phf.report.label_placement import SMALL, TEXT
from phf.report.palette import INK, colours
from phf.report.shapes import Axis, Interval

_FONT = {
    "svg.fonttype": "none",
    "svg.hashsalt": "phf",
    "font.family": "DejaVu Sans",
    "font.size": TEXT,
    "text.parse_math": False,
}


@contextlib.contextmanager
def settings() -> Iterator[None]:
    """Plot under the same settings whatever the user's own are, and leave those alone."""
    matplotlib = require("matplotlib", "report", "the report's figures")
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_FONT)
        yield


def inline(svg: str, prefix: str, title: str) -> str:
    """Return an SVG file as it can be embedded in a page: unique ids, colours from CSS variables, a label for screen readers."""
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


def new_figure(width: int, height: float, count: int, columns: int, above: float = 0.0) -> tuple[Any, list[Any]]:
    """Return a figure of `count` axes in rows of `columns`, each `height` high, and `above` for a legend; and the axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width / 72, (rows * height + above) / 72), dpi=72, facecolor=INK["surface"])
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.12, wspace=0.05, hspace=0.06)
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes[:count]


def frame(axis: Any, x: Axis, y: Axis | None, width: int, title: str = "", raised: float = 0.0) -> None:
    """Label the axes: y above the plane, x below it, each with the direction that is better; and set a light grid."""
    wrap = max(int(width / (TEXT * 0.6)) - 4, 24)
    hint = {"lower": "(←\xa0lower\xa0is\xa0better)", "higher": "(higher\xa0is\xa0better\xa0→)", "": ""}[x.better]
    axis.set_xlabel(textwrap.fill(f"{x.label} {hint}".strip(), wrap), fontsize=TEXT, color=INK["ink"], labelpad=8)
    if y is not None:
        hint = {"lower": "(↓\xa0lower\xa0is\xa0better)", "higher": "(↑\xa0higher\xa0is\xa0better)", "": ""}[y.better]
        text = textwrap.fill(f"{y.label} {hint}".strip(), wrap)
        axis.set_title(text, loc="left", fontsize=TEXT, color=INK["ink"], pad=10)
        if title:
            above = 16 + raised + (text.count("\n") + 1) * TEXT * 1.3
            where = {"xycoords": "axes fraction", "textcoords": "offset points"}
            axis.annotate(title, (0, 1), (0, above), fontweight="bold", color=INK["ink"], **where)
    axis.set_facecolor("none")
    axis.grid(True, color=INK["rule"], linewidth=0.8)
    axis.set_axisbelow(True)
    for side, spine in axis.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(INK["frontier"])
    axis.tick_params(length=0, labelsize=SMALL, labelcolor=INK["muted"], pad=6, which="both")


def scale_misalignment(
    intervals: Sequence[Interval], set_scale: Callable[..., Any], axis: Any, set_limits: Callable[..., Any]
) -> None:
    """Choose the scale of misalignment: logarithmic only where no interval reaches 0, else symmetric-logarithmic or linear."""
    from matplotlib.ticker import ScalarFormatter

    ends = [end for interval in intervals for end in interval if math.isfinite(end)]
    positive = [end for end in ends if end > 0]
    if not any(ends):
        set_limits(-1, 1)
        axis.set_ticks([0.0], ["0"])
        return
    if not positive or max(positive) / min(positive) < 5 or min(ends) < -1e-12:
        margin = 0.08 * (max(ends) - min(*ends, 0.0))
        set_limits(min(0.0, min(ends) - margin) if min(ends) < 0 else 0.0 - margin * (min(ends) == 0), max(ends) + margin)
        ticks = axis.get_major_locator().tick_values(*axis.get_view_interval())
        axis.set_ticks([tick for tick in ticks if tick >= 0 or min(ends) < 0])
        axis.set_major_formatter(ScalarFormatter(useOffset=False))
        return
    decade, top = 10.0 ** math.floor(math.log10(min(positive))), max(ends)
    decades = [10.0**power for power in range(round(math.log10(decade)), math.ceil(math.log10(top)) + 1)]
    if min(ends) > 0:
        set_scale("log")
        set_limits(min(ends) / 1.3, top * 1.35)
        steps = (1, 2, 5) if top / min(ends) < 300 else (1,)
        axis.set_ticks([tick * step for tick in decades for step in steps if min(ends) / 1.3 <= tick * step <= top * 1.35])
    else:
        set_scale("symlog", linthresh=decade, linscale=0.6)
        set_limits(-0.25 * decade, top * 1.35)
        axis.set_ticks([0.0, *(tick for tick in decades if tick <= top * 1.35)])
    axis.set_ticks([], minor=True)
    axis.set_major_formatter(_tick)


def _tick(value: float, _: Any = None) -> str:
    """Write a tick in plain decimals: 0.001, 2.25, 5,600."""
    return f"{value:,.0f}" if abs(value) >= 1000 else np.format_float_positional(float(f"{value:.5g}"), trim="-")


def settle(figure: Any) -> None:
    """Compute the layout once and freeze it, so that text can be placed in pixels."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def to_svg(figure: Any) -> str:
    """Return the figure as an SVG file, the same bytes for the same figure."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()
