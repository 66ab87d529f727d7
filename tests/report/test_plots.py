"""Plots: with many runs of long names a panel keeps its height."""

import re

import pytest

from phf.report.palette import STYLES
from phf.report.plots import NARROW, WIDE, pareto
from phf.report.shapes import Axis, Panel, Point

pytest.importorskip("matplotlib")


def panel_height(svg):
    """Return the height of the first panel in pixels: that of its lines of the grid."""
    lines = re.findall(r'M [\d.]+ ([\d.]+) \nL [\d.]+ ([\d.]+) \n" clip-path', svg)
    return max(abs(float(one) - float(other)) for one, other in lines)


@pytest.mark.parametrize(("width", "columns"), [(WIDE, 1), (WIDE, 2), (NARROW, 1)])
def test_a_panel_keeps_its_height_however_many_runs_there_are(width, columns):
    def panels(runs):
        points = [
            Point(
                f"a-long-name-of-a-folder/run-{run}",
                style,
                (run / 9, run / 9 - 0.1, run / 9 + 0.1),
                (1 + run, 0.9 + run, 1.2 + run),
            )
            for run, style in zip(range(runs), [*STYLES] * 9)
        ]
        axes = (
            Axis("Capability cost: bits per byte, minus that of MLE (above: absolute)", "lower"),
            Axis("Misalignment", "lower"),
        )
        return [Panel("No prompt", *axes, points, (), 2.0)] * columns

    few, many = (panel_height(pareto(panels(runs), width, columns)) for runs in (3, 22))
    assert few > 100
    assert many > 0.9 * few
