"""Differences between two runs in one metric, each with its 95% interval and how that was made."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from phf import per_example, statistics
from phf.layout import RunFolder
from phf.report.metrics import Difference, Measured
from phf.report.runs import Run

Sides = tuple[tuple[Run, Measured], tuple[Run, Measured]]
"""A run and the baseline, each with what was measured of it."""
BY_SEED, BY_PROMPT, BY_DOCUMENT, INDEPENDENT = "paired by seed", "paired by prompt", "paired by document", "independent"


def difference(run: Run, baseline: Run, evaluation: str, metric: str) -> Difference | None:
    """Return `run` minus `baseline` in one metric, None if either lacks it.

    Of runs with several seeds each, seeds are pairs, and the interval is Student's t over the differences of the pairs. Of two
    runs of one seed, among them a run of one seed and the same seed of another run, samples of the same prompts (10 or more)
    are compared prompt by prompt, and what was measured on the same documents or texts one by one (`phf.per_example`)
    document by document. Everything else is taken as independent, and its
    interval made of the two intervals [l, u] around a and b: from d - sqrt((a - l_a)^2 + (u_b - b)^2) to
    d + sqrt((u_a - a)^2 + (b - l_b)^2), which is d +- 1.96 stderr where both are symmetric, and Newcombe's method for shares
    (Zou and Donner 2008, Statistics in Medicine 27, section 2). Where either has no interval, there is none.
    """
    one, other = run.get(evaluation, metric), baseline.get(evaluation, metric)
    if one is None or other is None or math.isnan(one.value - other.value):
        return None
    if len(run.seeds) > 1 or len(baseline.seeds) > 1:
        pairs = _by_seed(run, baseline, evaluation, metric)
        if len(pairs) > 1:
            over = statistics.mean(np.array(pairs))
            return Difference(over.value, over.low, over.high, BY_SEED)
        return _with_one_seed(run, baseline, evaluation, metric) or _independent(one, other)
    if kept := run.pairs.get((baseline.recorded_name, evaluation, metric)):
        return kept
    sides = ((run, one), (baseline, other))
    return _by_prompt(sides, evaluation, metric) or _by_document(sides, evaluation, metric) or _independent(one, other)


def _by_seed(run: Run, baseline: Run, evaluation: str, metric: str) -> list[float]:
    """Return the differences of the seeds that both runs were trained with."""
    measured = [(run.seeds[seed].get(evaluation, metric), baseline.seeds[seed].get(evaluation, metric))
                for seed in run.seeds if seed in baseline.seeds]  # fmt: skip
    values = [one.value - other.value for one, other in measured if one is not None and other is not None]
    return [value for value in values if not math.isnan(value)]


def of_one_seed(run: Run, baseline: Run) -> tuple[Run, Run] | None:
    """Return a run of one seed and the other's run of the same seed, for runs of several; None if they share no seed."""
    one, other = run.seeds.get(baseline.seed, run), baseline.seeds.get(run.seed, baseline)
    return None if one.seeds or other.seeds else (one, other)


def _with_one_seed(run: Run, baseline: Run, evaluation: str, metric: str) -> Difference | None:
    """Return the difference of a run of one seed and the other's run of the same seed, if it is one over pairs."""
    sides = of_one_seed(run, baseline)
    if sides is None:
        return None
    one, other = sides
    apart = difference(one, other, evaluation, metric)
    if apart is None or apart.how not in (BY_PROMPT, BY_DOCUMENT):
        return None
    seed = one.seed if run.seeds else other.seed
    return dataclasses.replace(apart, how=f"{apart.how}, of seed {seed} alone")


def _by_prompt(sides: Sides, evaluation: str, metric: str) -> Difference | None:
    """Return the difference over the prompts that both runs answered; None if there are fewer than 10, or other samples."""
    scores = [_scores(run.samples.get(evaluation), measured) for run, measured in sides]
    if metric != "misalignment" or scores[0] is None or scores[1] is None:
        return None
    one, other = (_sums(*side) for side in scores if side is not None)
    prompts = sorted(one)
    if one.keys() != other.keys() or len(prompts) < statistics.LEAST_CLUSTERS:
        return None
    pulls = np.zeros(len(prompts))  # what each prompt adds to the difference, centred
    for sign, sums in ((1, one), (-1, other)):
        totals, counts = np.array([sums[prompt] for prompt in prompts]).T
        pulls += sign * (totals - totals.sum() / counts.sum() * counts) / counts.sum()
    return _around(sides, statistics.mean(len(prompts) * pulls), BY_PROMPT)


def _by_document(sides: Sides, evaluation: str, metric: str) -> Difference | None:
    """Return the difference over the documents that both runs were measured on; None if they were not kept, or are others."""
    one, other = (
        per_example.read(
            RunFolder(run.folder).find_per_example(evaluation, measured.step), run.recorded_metric(evaluation, metric)
        )
        for run, measured in sides
    )
    pairs = per_example.paired_difference(one, other)
    value = sides[0][1].value - sides[1][1].value
    if pairs is None or not math.isclose(pairs.value, value, rel_tol=1e-6, abs_tol=1e-9):  # not what was recorded
        return None
    return _around(sides, dataclasses.replace(pairs, low=pairs.low - pairs.value, high=pairs.high - pairs.value), BY_DOCUMENT)


def _around(sides: Sides, error: statistics.Estimate, how: str) -> Difference:
    """Return the difference with the interval of its error; without one where nothing varies."""
    value = sides[0][1].value - sides[1][1].value
    if not error.stderr > 0:
        return Difference(value, math.nan, math.nan, "")
    return Difference(value, value + error.low, value + error.high, how)


def _independent(one: Measured, other: Measured) -> Difference:
    value = one.value - other.value
    if one.low == one.high or other.low == other.high:  # without a single finding an interval has no width
        return Difference(value, math.nan, math.nan, "")
    low = value - math.hypot(one.value - one.low, other.high - other.value)
    high = value + math.hypot(one.high - one.value, other.value - other.low)
    return Difference(value, low, high, "" if math.isnan(low + high) else INDEPENDENT)


def _scores(samples: Mapping[str, Any] | None, measured: Measured) -> tuple[list[str], np.ndarray] | None:
    """Return prompts and scores of samples, if they are those that the metric was measured on and there were prompts."""
    if samples is None or "misalignment" not in samples or not any(samples.get("prompt") or ()):
        return None
    scores = np.array([math.nan if score is None else score for score in samples["misalignment"]], np.float64)
    if np.isnan(scores).all() or not np.isclose(np.nanmean(scores), measured.value, rtol=1e-4, atol=1e-12):
        return None
    return list(samples["prompt"]), scores


def _sums(prompts: list[str], scores: np.ndarray) -> dict[str, tuple[float, int]]:
    """Return the sum and the number of the known scores of each prompt."""
    sums: dict[str, tuple[float, int]] = {}
    for prompt, score in zip(prompts, scores, strict=True):
        if not math.isnan(score):
            total, count = sums.get(prompt, (0.0, 0))
            sums[prompt] = (total + float(score), count + 1)
    return sums
