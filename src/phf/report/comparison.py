"""Runs of one task set against each other: which belong together, their differences to MLE, the frontier."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from phf import config, per_example
from phf.artifacts import fingerprint
from phf.layout import RunFolder
from phf.report.metrics import GAMMA, MISALIGNED, Difference, Measure, Measured, describe
from phf.report.runs import Run
from phf.statistics import RESAMPLES


@dataclass(frozen=True)
class Task:
    """Runs that can be compared: the same corpus, cut and scored the same way.

    Args:
        corpus, segmenter, scorer: their names, "" if no run says.
        runs: in the order given.
        baseline: the run of plain maximum likelihood; None if there is none.
        x, y: capability cost and misalignment, as "evaluation.metric".
    """

    corpus: str
    segmenter: str
    scorer: str
    runs: Sequence[Run]
    baseline: Run | None
    x: str
    y: str

    @property
    def evaluations(self) -> list[str]:
        """Everything that was measured, in the order first met, the second control token's and guided decoding left out."""
        names = (evaluation for run in self.runs for evaluation in run.history)
        return [name for name in dict.fromkeys(names) if not name.endswith(MISALIGNED) and GAMMA not in name]

    @property
    def guided(self) -> list[tuple[Run, list[tuple[float, str]]]]:
        """The runs that were measured under guidance, each with (gamma, evaluation) from the least to the most."""
        found = []
        for run in self.runs:
            names = [name for name in run.history if GAMMA in name and not name.endswith(MISALIGNED)]
            if names:
                found.append((run, sorted((float(name.partition(GAMMA)[2]), name) for name in names)))
        return found

    @property
    def y_metric(self) -> str:
        """The metric of misalignment: "misalignment" of "no-prompt.misalignment"."""
        return self.split(self.y)[1]

    @property
    def scenarios(self) -> list[str]:
        """Evaluations that measured misalignment, the one on the y axis first."""
        found = [e for e in self.evaluations if any(run.get(e, self.y_metric) for run in self.runs)]
        return sorted(found, key=lambda evaluation: evaluation != self.split(self.y)[0])

    @cached_property
    def _differences(self) -> dict[tuple[str, str, str], Difference | None]:
        return {}

    def difference(self, run: Run, evaluation: str, metric: str) -> Difference | None:
        """Return a run's difference to the baseline, cached; None for the baseline itself and where either was not measured."""
        key = (run.name, evaluation, metric)
        if self.baseline is None or run is self.baseline:
            return None
        if key not in self._differences:
            self._differences[key] = difference(run, self.baseline, evaluation, metric)
        return self._differences[key]

    def split(self, key: str) -> tuple[str, str]:
        """Split "evaluation.metric" where the records do; at the first dot where there are none."""
        known = (pair for run in self.runs for pair in run.measured if ".".join(pair) == key)
        evaluation, _, metric = key.partition(".")
        return next(known, (evaluation, metric))

    def describe(self, metric: str) -> Measure:
        """Describe how a metric is shown where this scorer measured misalignment."""
        return describe(metric, self.scorer)


def tasks_of(runs: Sequence[Run], options: config.Report) -> list[Task]:
    """Group runs of the same corpus, segmenter and scorer, in the order given.

    A run that does not say what it was trained on joins the first task.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        corpus, annotate = _made_from(run)
        said = [corpus, annotate.get("segmenter"), annotate.get("scorer")]
        groups.setdefault(fingerprint(said) if any(said) else "", []).append(run)
    silent = groups.pop("", [])
    first = next(iter(groups), "")
    groups[first] = [run for run in runs if run in groups.get(first, []) or run in silent]
    return [_task(group, options) for group in groups.values()]


def difference(run: Run, baseline: Run, evaluation: str, metric: str) -> Difference | None:
    """Return `run` minus `baseline` in one measure, None if either lacks it.

    For mean misalignment the samples themselves are resampled (percentile bootstrap, 2,000 resamples, fixed seed): pair by
    pair where both runs answered the same prompts, each run alone where there were no prompts. Where both runs were measured on
    the same documents or texts, one by one (`phf.per_example`), these are pairs. Everything else is taken as independent, and its
    interval made of the two intervals [l, u] around a and b: from d - sqrt((a - l_a)^2 + (u_b - b)^2) to
    d + sqrt((u_a - a)^2 + (b - l_b)^2), which is d +- 1.96 stderr where both are symmetric, and Newcombe's method for shares
    (Zou and Donner 2008, Statistics in Medicine 27, section 2). Two intervals without any width, as of runs without a single
    finding, give none.
    """
    one, other = run.get(evaluation, metric), baseline.get(evaluation, metric)
    if one is None or other is None or math.isnan(one.value - other.value):
        return None
    value = one.value - other.value
    if one.low == one.high and other.low == other.high:
        return Difference(value, math.nan, math.nan, "")
    if metric == "misalignment":
        samples = [_scores(r.samples.get(evaluation), m) for r, m in ((run, one), (baseline, other))]
        if samples[0] is not None and samples[1] is not None:
            return Difference(value, *_resampled(*samples[0], *samples[1]))
    own, others = (RunFolder(r.folder).find_per_example(evaluation, m.step) for r, m in ((run, one), (baseline, other)))
    pairs = per_example.difference(own, others, metric)
    if pairs is not None and math.isclose(pairs.value, value, rel_tol=1e-6, abs_tol=1e-9):  # the units that were recorded
        return Difference(value, pairs.low, pairs.high, "paired by document")
    low = value - math.hypot(one.value - one.low, other.high - other.value)
    high = value + math.hypot(one.high - one.value, other.value - other.low)
    return Difference(value, low, high, "" if math.isnan(low + high) else "independent")


def frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Index the points that no other point beats or equals in both coordinates (lower is better), by the first coordinate."""
    order = sorted(range(len(points)), key=lambda index: points[index])
    best, kept = math.inf, []
    for index in order:
        if points[index][1] < best:
            best = points[index][1]
            kept.append(index)
    return kept


def _task(runs: Sequence[Run], options: config.Report) -> Task:
    corpus, annotate = next((made for run in runs if any(made := _made_from(run))), ({}, {}))
    names = _name(corpus.get("source")) or ", ".join(str(name).rstrip("/").split("/")[-1] for name in corpus.get("inputs") or [])
    baseline = next((run for run in runs if run.objective == "mle"), None)
    return Task(names, _name(annotate.get("segmenter")), _name(annotate.get("scorer")), runs, baseline, options.x, options.y)


def _made_from(run: Run) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the corpus and the annotation behind a run's tokens; of published scored data, its files and nothing."""
    tokens = run.config.get("tokens")
    made = tokens.get("corpus") if isinstance(tokens, Mapping) else None
    if isinstance(made, list):
        return {"inputs": [name for name, _ in made]}, {}
    return (made.get("corpus") or {}, made.get("annotate") or {}) if isinstance(made, Mapping) else ({}, {})


def _name(component: Any) -> str:
    return str(component.get("name", "") if isinstance(component, Mapping) else component or "")


def _scores(samples: Mapping[str, Any] | None, measured: Measured) -> tuple[list[str], np.ndarray] | None:
    """Return prompts and scores of samples, if they are those the measure was taken of."""
    if samples is None or "misalignment" not in samples:
        return None
    scores = np.array([math.nan if s is None else s for s in samples["misalignment"]], np.float64)
    if np.isnan(scores).all() or not np.isclose(np.nanmean(scores), measured.value, rtol=1e-4, atol=1e-12):
        return None
    return list(samples.get("prompt") or [""] * len(scores)), scores


def _resampled(
    prompts: Sequence[str], scores: np.ndarray, base_prompts: Sequence[str], base_scores: np.ndarray
) -> tuple[float, float, str]:
    rng = np.random.default_rng(0)
    if any(prompts) and sorted(prompts) == sorted(base_prompts):
        order, base_order = (np.argsort(np.array(p), kind="stable") for p in (prompts, base_prompts))
        pairs = scores[order] - base_scores[base_order]
        means, how = _means(pairs[~np.isnan(pairs)], rng), "paired by prompt"
    else:
        means = _means(scores[~np.isnan(scores)], rng) - _means(base_scores[~np.isnan(base_scores)], rng)
        how = "unpaired"
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high), how


def _means(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the means of resamples with replacement: (RESAMPLES,)."""
    block = 200  # resamples at once, so that 10,000 samples take 16 MB and not 160
    return np.concatenate(
        [values[rng.integers(len(values), size=(block, len(values)))].mean(1) for _ in range(RESAMPLES // block)]
    )
