"""An inspection for the eye: on a terminal, and as a figure."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from phf.errors import require
from phf.inspection.summary import QUANTILES, Bin, Distribution, Example, Inspection


def text(found: Inspection, width: int = 100) -> str:
    """Say it all for a terminal of `width` columns: histogram, quantiles, what the threshold does, examples, trouble."""
    segments, documents = found.segments, found.documents
    lines = [f"{found.folder}, column {found.column}: higher is better; a misalignment score is the reward with its sign turned"]
    lines += ["", f"segments: {segments.count:,} scored, {segments.unscored:,} not; mean {segments.mean:.4g}"]
    lines += _drawn(segments, width)
    lines += ["", f"document means: {documents.count:,} scored, {documents.unscored:,} not; mean {documents.mean:.4g}"]
    lines += _drawn(documents, width)
    lines += ["", "quantile        segments   document means"]
    lines += [_quantile_line(share, segments, documents) for share in QUANTILES]
    lines += [
        "",
        f"at threshold {found.threshold}:",
        f"  {segments.aligned:.2%} of segments are aligned (reward at least {segments.threshold:.6g}),"
        f" {found.aligned_characters:.2%} of characters (conditional, unlikelihood)",
        f"  {documents.aligned:.2%} of documents are kept (mean reward at least {documents.threshold:.6g}) (filtering)",
    ]
    for title, examples in (
        ("just below the threshold", found.below),
        ("at the threshold or just above", found.above),
        ("worst", found.worst),
    ):
        lines += ["", f"{title}:"] + [_line(example, width) for example in examples]
    if found.unscored_documents or found.failed:
        lines += [
            "",
            f"{found.unscored_documents:,} documents have segments without a reward; {found.failed:,} are in quarantine",
        ]
        lines += [textwrap.shorten(f"  {name}: {reason}", width, placeholder=" ...") for name, reason in found.failures]
    if found.slowest:
        lines += ["", "slowest:"] + [f"  {seconds:8.3f} s  {name}" for name, seconds in found.slowest]
    return "\n".join(lines)


def draw(found: Inspection, path: Path) -> None:
    """Draw both histograms, with the threshold, as SVG."""
    matplotlib = require("matplotlib", "report", "phf inspect --svg")
    figures = require("matplotlib.figure", "report", "phf inspect --svg")
    with matplotlib.rc_context({"svg.hashsalt": "phf", "svg.fonttype": "none"}):
        figure = figures.Figure(figsize=(8, 6), layout="constrained")
        both = zip(figure.subplots(2), ("segments", "document means"), (found.segments, found.documents), strict=True)
        for axes, name, distribution in both:
            bins = distribution.bins
            shares = [each.count / distribution.count for each in bins]
            above = [each.high > distribution.threshold or each.low >= distribution.threshold for each in bins]
            axes.bar(range(len(bins)), shares, 0.92, color=["#0c54d0" if each else "#942a1c" for each in above])
            ticks = [*range(0, len(bins) - 1, max(1, len(bins) // 7)), len(bins) - 1]
            axes.set_xticks(ticks, [f"{bins[each].low:.3g}" for each in ticks])
            place = _place(bins, distribution.threshold)
            axes.axvline(place, color="0.2", linewidth=1)
            note = f" threshold {distribution.threshold:.4g}: {distribution.aligned:.1%} at or above"
            right = place < len(bins) / 2
            axes.annotate(
                note if right else note.strip() + " ", (place, 1.02), xycoords=("data", "axes fraction"),
                ha="left" if right else "right", va="bottom",
            )  # fmt: skip
            axes.set(xlabel=f"reward of {name} (lower edge of the bar)", ylabel=f"share of {distribution.count:,}", yscale="log")
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _quantile_line(share: float, segments: Distribution, documents: Distribution) -> str:
    name = f"p{share:g} (median)" if share == 50 else f"p{share:g}"
    return f"{name:<13}{segments.quantiles[share]:>11.6g} {documents.quantiles[share]:>16.6g}"


def _drawn(distribution: Distribution, width: int) -> list[str]:
    """Draw a histogram, a line a bin; an arrow where the threshold lies."""
    labels = [f"{each.low:.3g}" if each.low == each.high else f"{each.low:.3g} to {each.high:.3g}" for each in distribution.bins]
    column = max(map(len, labels))
    room = max(10, width - column - 26)
    largest, *others = sorted((each.count for each in distribution.bins), reverse=True)
    # One bin may hold nearly all rewards; its bar is then cut off, so that the others can be told apart.
    most = 2 * others[0] if others and largest > 5 * others[0] > 0 else largest
    inside = _holding(distribution.bins, distribution.threshold)
    lines = []
    for index, (each, label) in enumerate(zip(distribution.bins, labels, strict=True)):
        arrow = " < threshold" if index == inside else ""
        bar = _bar(each.count / most, room) if each.count <= most else "█" * room + "»"
        lines.append(f"  {label:>{column}} {each.count / distribution.count:7.2%} {bar}{arrow}")
    return lines


def _holding(bins: Sequence[Bin], value: float) -> int:
    """Find the bin that a value lies in; -1 if none."""
    for index, each in enumerate(bins):
        if each.low <= value < each.high or (value in (each.low, each.high) and (each.low == each.high or each is bins[-1])):
            return index
    return -1


def _place(bins: Sequence[Bin], value: float) -> float:
    """Find where a value lies among bars that stand at 0, 1, 2, ..., each as wide as the next."""
    index = _holding(bins, value)
    if index < 0:
        return next((i for i, each in enumerate(bins) if each.low > value), len(bins)) - 0.5
    low, high = bins[index].low, bins[index].high
    return index - 0.5 + ((value - low) / (high - low) if high > low else 0.0)


def _bar(share: float, room: int) -> str:
    eighths = round(share * room * 8)
    if eighths == 0 and share > 0:
        eighths = 1
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _line(example: Example, width: int) -> str:
    head = f"  {example.reward:>11.5g}  "
    said = " ".join(example.text.split())
    room = max(20, width - len(head))
    return head + (said if len(said) <= room else said[: room - 3] + "...")
