"""Measured numbers: what each is called, which way is better, and how it is written."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from phf.records import EvaluationName

_CONTROLS = {"own": "", "misaligned": ", under the misaligned token", "plain": ", without a control token"}


@dataclass(frozen=True, slots=True)
class Measured:
    """A measured value with its 95% interval; NaN where there is none.

    Args:
        value: the number; of several seeds, their mean.
        low, high: the ends of its interval: over samples of one trained model, or over seeds.
        stderr: its standard error, over the same.
        n: samples, of all seeds together.
        step: the optimiser step.
        seeds: how many trained models it is a mean of.
        between: standard deviation between seeds; NaN for one.
        within: half the width of the interval within one seed, averaged; NaN for one seed.
    """

    value: float
    low: float
    high: float
    stderr: float
    n: int
    step: int
    seeds: int = 1
    between: float = math.nan
    within: float = math.nan


@dataclass(frozen=True, slots=True)
class Difference:
    """A value minus the baseline's, with its 95% interval and how that was made."""

    value: float
    low: float
    high: float
    how: str


@dataclass(frozen=True, slots=True)
class Measure:
    """How a metric is shown.

    Args:
        label: what a reader calls it.
        better: "lower", "higher", or "" where neither is.
        unit: what it counts, "" where the label says it.
        scale: what it is multiplied with for the reader: 100 for shares, 1,000 for what is counted per 1,000 characters.
        suffix: stands behind the number.
    """

    label: str
    better: str = ""
    unit: str = ""
    scale: float = 1.0
    suffix: str = ""

    @property
    def words(self) -> str:
        """The measure in a sentence: of misalignment just what is counted."""
        return self.unit if self.label == "misalignment" else ", ".join(filter(None, (self.label, self.unit)))

    @property
    def hint(self) -> str:
        """Which way is better, in words that do not break."""
        return {"lower": "↓\xa0lower\xa0is\xa0better", "higher": "↑\xa0higher\xa0is\xa0better", "": ""}[self.better]


_SCORES = {
    "pii": ("pieces of personal data per 1,000 characters", 1000.0),
    "pep8": ("style violations per 1,000 characters", 1000.0),
    "pep8-ruff": ("style violations per 1,000 characters", 1000.0),
    "regex": ("matches per 1,000 characters", 1000.0),
    "presidio": ("pieces of personal data per 1,000 characters", 1000.0),
    "toxicity": ("probability of toxicity", 1.0),
    "profanity": ("probability of profanity", 1.0),
    "classifier": ("probability of the class", 1.0),
}
"""What a scorer's misalignment is, and the scale it is shown on."""

_PERCENT = ("", 100.0, "%")
_MEASURES: Sequence[tuple[str, Measure]] = (
    (r"misalignment", Measure("misalignment", "lower", "{score}")),
    (r"misalignment_best", Measure("misalignment of the worst prompts, tried again", "lower", "{score}")),
    (r"(?P<of>pool|best|new)_round_(?P<k>\d+)", Measure("misalignment of {of} prompts, round {k}", "lower", "{score}")),
    (r"misalignment_with_cut", Measure("misalignment, the cut piece scored too", "lower", "{score}")),
    (r"misalignment_by_(?P<by>.+)", Measure("misalignment by {by}", "lower", "{score}")),
    (r"expected_max_(?P<k>\d+)", Measure("expected maximum of {k} samples", "lower", "{score}")),
    (r"hit_share", Measure("samples {hit}", "lower", *_PERCENT)),
    (r"hit_share_by_(?P<by>.+)", Measure("samples {hit}, by {by}", "lower", *_PERCENT)),
    (r"loop_share", Measure("samples stuck in a loop", "lower", *_PERCENT)),
    (r"finished_share", Measure("samples that ended by themselves", "", *_PERCENT)),
    (r"unscored_share", Measure("samples left unscored", "", *_PERCENT)),
    (r"unscored_share_by_(?P<by>.+)", Measure("samples left unscored, by {by}", "", *_PERCENT)),
    (r"words", Measure("words of a sample")),
    (r"distinct_2_first_(?P<k>\d+)", Measure("distinct 2-grams of the first {k} words", "higher", *_PERCENT)),
    (r"bits_per_byte(?P<way>_start|_every)?", Measure("held-out text{way}", "lower", "bits per byte")),
    (r"bits_per_byte_aligned(?P<way>_start|_every)?", Measure("held-out aligned text{way}", "lower", "bits per byte")),
    (r"bits_per_byte_misaligned(?P<way>_start|_every)?", Measure("held-out misaligned text{way}", "", "bits per byte")),
    (r"kl_per_token", Measure("KL from the reference", "lower", "nats per token")),
    (r"kl_per_byte", Measure("KL from the reference", "lower", "nats per byte")),
    (r"kl\w*", Measure("KL from the reference", "lower", "nats")),
    (r"self_bleu_(?P<k>\d+)", Measure("Self-BLEU-{k}", "lower")),
    (r"self_bleu_(?P<k>\d+)_characters", Measure("Self-BLEU-{k} of characters", "lower")),
    (r"distinct_(?P<k>\d+)", Measure("distinct {k}-grams of a sample", "higher", *_PERCENT)),
    (r"distinct_(?P<k>\d+)_of_all", Measure("distinct {k}-grams of all samples", "higher", *_PERCENT)),
    (r"entropy_(?P<k>\d+)", Measure("entropy of {k}-grams", "higher", "nats")),
    (r"score", Measure("mean score of finetuning", "higher")),
    (r"pass@(?P<k>\d+)", Measure("problems solved within {k}", "higher", *_PERCENT)),
    (r"(?:(?P<task>.+)\.)?(?P<kind>\w*perplexity|bits_per_byte)", Measure("{task} {kind}", "lower")),
    (r"(?:(?P<task>.+)\.)?(?P<kind>acc\w*|f1|mcc|pearson|spearman|exact_match)", Measure("{task} {kind}", "higher")),
)
_SPOKEN = {
    "heldout": "held-out text",
    "kl": "KL",
    "zeroshot": "zero-shot tasks",
    "humaneval": "HumanEval",
    "redteam": "red-teaming",
}
_WAYS = {"_start": ", control token at its start only", "_every": ", control token before every segment"}


def describe(metric: str, scorer: str = "") -> Measure:
    """Describe how a metric is shown: its words, which way is better. One that is not known is shown by its name."""
    for pattern, measure in _MEASURES:
        match = re.fullmatch(pattern, metric)
        if match:
            found = match.groupdict()
            score, scale = _SCORES.get(found.get("by") or scorer, ("misalignment score", 1.0))
            hit = "with any finding" if scale == 1000 else "past the threshold"
            words = {name: (text or "").replace("_", " ") for name, text in found.items()}
            words |= {"score": score, "hit": hit, "way": _WAYS.get(found.get("way") or "", "")}
            label, unit = measure.label.format(**words).strip(), measure.unit.format(**words)
            return replace(measure, label=label, unit=unit, scale=scale if unit == score else measure.scale)
    return Measure(metric.replace("_", " "), "", *(_PERCENT if metric.endswith("_share") else ()))


EXPECTED_MAXIMUM = re.compile(r"expected_max_\d+")
AT_LENGTH = re.compile(r"distinct_2_first_(\d+)")
"""Distinct-2 over a number of words, by which the texts of two runs are compared; too many columns for a table."""


def rank(metric: str) -> int:
    """Order metrics in a table: those known first, the most telling ones before the others."""
    return next((place for place, (pattern, _) in enumerate(_MEASURES) if re.fullmatch(pattern, metric)), len(_MEASURES))


def spoken(evaluation: str) -> str:
    """Return the name of an evaluation in a sentence: "no prompt", "adversarial, under the misaligned token"."""
    name = EvaluationName.parse(evaluation)
    words = _SPOKEN.get(name.base) or name.base.replace("-", " ").replace("_", " ")
    guided = "" if name.gamma is None else f", γ\xa0=\xa0{name.gamma:g}"
    return words + guided + _CONTROLS[name.control]


def under_controls(evaluation: str) -> list[str]:
    """Return the names of an evaluation under the own control token, the misaligned one and none."""
    name = EvaluationName.parse(evaluation)
    return [str(name.under(control)) for control in ("own", "misaligned", "plain")]


def ends(measured: Measured | Difference, measure: Measure) -> tuple[float, float, float]:
    """Return a value and the ends of its interval on the scale they are shown on."""
    return measured.value * measure.scale, measured.low * measure.scale, measured.high * measure.scale


def decimals(measured: Sequence[Measured | Difference], measure: Measure) -> int:
    """Choose how many decimals a column needs: two digits of its middling interval; without any, two of its smallest value."""
    widths = [(m.high - m.low) / 2 for m in measured if math.isfinite(m.high - m.low) and m.high > m.low]
    values = [abs(m.value) for m in measured if math.isfinite(m.value) and m.value]
    finest = sorted(widths)[len(widths) // 2] if widths else min(values) if values else 1.0
    return min(max(1 - math.floor(math.log10(finest * measure.scale)), 0), 7)


def write(value: float, places: int, measure: Measure, sign: bool = False) -> str:
    """Write a number with a true minus; NaN is "?"."""
    if math.isnan(value):
        return "?"
    text = f"{value * measure.scale:{'+' if sign and value else ''},.{places if value else 0}f}".replace("-", "−")
    return text + (" points" if sign and measure.suffix == "%" else measure.suffix)


def write_interval(measured: Measured | Difference, places: int, measure: Measure, sign: bool = False) -> str:
    """Write the ends of an interval; "" if it has none, and what stands behind an estimate of 0 that no resample can move."""
    if not math.isfinite(measured.low + measured.high):
        return ""
    if isinstance(measured, Measured) and measured.value == measured.low == measured.high == 0:
        return f"none of {measured.n:,}"
    low, high = (write(end, places, replace(measure, suffix=""), sign) for end in (measured.low, measured.high))
    return f"[{low}, {high}]"


def short(value: float) -> str:
    """Write a large number as 3.7M."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def span(counts: Sequence[int]) -> str:
    """Write sorted counts as one, or as the first to the last."""
    return f"{counts[0]:,}" if counts[0] == counts[-1] else f"{counts[0]:,} to {counts[-1]:,}"


def capital(text: str) -> str:
    """Begin with a capital letter."""
    return text[:1].upper() + text[1:]
