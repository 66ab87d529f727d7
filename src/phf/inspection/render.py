"""An inspection as text for a terminal, and as a figure."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from phf.errors import require
from phf.formatting import percent
from phf.inspection.summary import QUANTILES, Bin, Distribution, Example, Inspection


def text(inspection: Inspection, width: int = 100) -> str:
    """Describe an inspection for a terminal of `width` columns: histograms, quantiles, the threshold, examples, failures."""
    segments, documents = inspection.segments, inspection.documents
    lines = [f"{inspection.folder}, column {inspection.column}: higher is better; a misalignment score is minus the reward"]
    lines += ["", f"segments: {segments.count:,} scored, {segments.unscored:,} not; mean {segments.mean:.4g}"]
    lines += _histogram(segments, width)
    lines += ["", f"document means: {documents.count:,} scored, {documents.unscored:,} not; mean {documents.mean:.4g}"]
    lines += _histogram(documents, width)
    lines += ["", "quantile        segments   document means"]
    lines += [_quantile_line(share, segments, documents) for share in QUANTILES]
    lines += [
        "",
        f"at threshold {inspection.threshold}:",
        f"  {percent(segments.aligned)} of segments are aligned (reward at least {segments.threshold:.6g}),"
        f" {percent(inspection.aligned_characters)} of characters (conditional, unlikelihood)",
        f"  {percent(documents.aligned)} of documents are kept (mean reward at least {documents.threshold:.6g}) (filtering)",
    ]
    for title, examples in (
        ("just below the threshold", inspection.below),
        ("at the threshold or just above", inspection.above),
        ("worst", inspection.worst),
    ):
        lines += ["", f"{title}:"] + [_line(example, width) for example in examples]
    if inspection.unscored_documents or inspection.failed:
        lines += [
            "",
            f"{inspection.unscored_documents:,} documents have segments without a reward; {inspection.failed:,} failed",
        ]
        lines += [textwrap.shorten(f"  {name}: {reason}", width, placeholder=" ...") for name, reason in inspection.failures]
    if inspection.slowest:
        lines += ["", "slowest:"] + [f"  {seconds:8.3f} s  {name}" for name, seconds in inspection.slowest]
    return "\n".join(lines)


def plot(inspection: Inspection, path: Path) -> None:
    """Plot both histograms, with the threshold, as SVG."""
    matplotlib = require("matplotlib", "report", "phf inspect --svg")
    figures = require("matplotlib.figure", "report", "phf inspect --svg")
    with matplotlib.rc_context({"svg.hashsalt": "phf", "svg.fonttype": "none"}):
        figure = figures.Figure(figsize=(8, 6), layout="constrained")
        both = zip(figure.subplots(2), ("segments", "document means"), (inspection.segments, inspection.documents), strict=True)
        for axes, name, distribution in both:
            bins = distribution.bins
            shares = [each.count / distribution.count for each in bins]
            above = [each.high > distribution.threshold or each.low >= distribution.threshold for each in bins]
            axes.bar(range(len(bins)), shares, 0.92, color=["#0c54d0" if each else "#942a1c" for each in above])
            ticks = [*range(0, len(bins) - 1, max(1, len(bins) // 7)), len(bins) - 1]
            axes.set_xticks(ticks, [f"{bins[each].low:.3g}" for each in ticks])
            position = _position(bins, distribution.threshold)
            axes.axvline(position, color="0.2", linewidth=1)
            note = f" threshold {distribution.threshold:.4g}: {percent(distribution.aligned)} at or above"
            right = position < len(bins) / 2
            axes.annotate(
                note if right else note.strip() + " ", (position, 1.02), xycoords=("data", "axes fraction"),
                ha="left" if right else "right", va="bottom",
            )  # fmt: skip
            axes.set(xlabel=f"reward of {name} (lower edge of the bar)", ylabel=f"share of {distribution.count:,}", yscale="log")
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _quantile_line(share: float, segments: Distribution, documents: Distribution) -> str:
    name = f"p{share:g} (median)" if share == 50 else f"p{share:g}"
    return f"{name:<13}{segments.quantiles[share]:>11.6g} {documents.quantiles[share]:>16.6g}"


def _histogram(distribution: Distribution, width: int) -> list[str]:
    """Return the lines of a histogram, one a bin; an arrow points to the threshold."""
    labels = [f"{each.low:.3g}" if each.low == each.high else f"{each.low:.3g} to {each.high:.3g}" for each in distribution.bins]
    column = max(map(len, labels))
    columns = max(10, width - column - 26)
    largest, *others = sorted((each.count for each in distribution.bins), reverse=True)
    # One bin may hold nearly all rewards; its bar is then cut off, so that the others can be compared.
    most = 2 * others[0] if others and largest > 5 * others[0] > 0 else largest
    inside = _holding(distribution.bins, distribution.threshold)
    lines = []
    for index, (each, label) in enumerate(zip(distribution.bins, labels, strict=True)):
        arrow = " < threshold" if index == inside else ""
        bar = _bar(each.count / most, columns) if each.count <= most else "█" * columns + "»"
        lines.append(f"  {label:>{column}} {percent(each.count / distribution.count):>7} {bar}{arrow}")
    return lines


def _holding(bins: Sequence[Bin], value: float) -> int:
    """Return the index of the bin that a value lies in; -1 if none."""
    for index, each in enumerate(bins):
        if each.low <= value < each.high or (value in (each.low, each.high) and (each.low == each.high or each is bins[-1])):
            return index
    return -1


def _position(bins: Sequence[Bin], value: float) -> float:
    """Return where a value lies among bars at 0, 1, 2, ..., all of the same width."""
    index = _holding(bins, value)
    if index < 0:
        return next((i for i, each in enumerate(bins) if each.low > value), len(bins)) - 0.5
    low, high = bins[index].low, bins[index].high
    return index - 0.5 + ((value - low) / (high - low) if high > low else 0.0)


def _bar(share: float, columns: int) -> str:
    eighths = round(share * columns * 8)
    if eighths == 0 and share > 0:
        eighths = 1
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _line(example: Example, width: int) -> str:
    head = f"  {example.reward:>11.5g}  "
    shown = " ".join(example.text.split())
    columns = max(20, width - len(head))
    return head + (shown if len(shown) <= columns else shown[: columns - 3] + "...")
