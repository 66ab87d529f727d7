"""Error bars: how far a number measured on some samples may be from the one measured on all there could be.

Every interval here is one of 95%, and tests/test_coverage.py simulates how often it holds the truth, on data shaped like rewards:
mostly zero, few seeds, few prompts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 2000
FEW = 30
"""Below so many units an interval is Student's; a bootstrap of so few is too narrow."""
LEAST_CLUSTERS = 10
"""Below so many prompts nothing can be said of other prompts."""
LEAST_DIFFERENT = 8
"""With fewer values that differ from the most common one, such as findings among zeros, a mean has no interval."""
LEAST_GROUPS = 16
"""With fewer samples or prompts than so many groups of k, an expected maximum of k has no interval."""
_RESAMPLES_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic of n samples.

    Args:
        value: NaN when there was nothing to measure.
        stderr: its standard error; NaN for fewer than two samples.
        low: lower end of the 95% interval; NaN if there is none.
        high: upper end of the 95% interval; NaN if there is none.
        n: samples that count; NaN ones do not.
    """

    value: float
    stderr: float
    low: float
    high: float
    n: int


def mean(values: np.ndarray, seed: int = 0) -> Estimate:
    """Return the mean of the known values with its interval.

    Of fewer than 30 values the interval is Student's t. Of more it is the bootstrap-t (Efron and Tibshirani 1993, section 12.5),
    which also covers the mean of rewards of which 19 in 20 are zero, where percentiles of resampled means are too narrow. There
    is none if fewer than 8 values differ from the most common one: no method covers then.

    Args:
        values: (N,) with NaN for unknown ones, which are left out.
        seed: of the resampling.
    """
    known = _known(values)
    n = len(known)
    if not n:
        return _nothing(0)
    value, stderr = float(known.mean()), _standard_error(known)
    low, high = _studentized(known, seed) if n >= FEW else _student(value, stderr, n - 1)
    return Estimate(value, stderr, low, high, n)


def mean_over_prompts(values: np.ndarray, prompts: Sequence[str], seed: int = 0) -> Estimate:
    """Return the mean of values that belong to prompts, with an interval for other prompts of the same kind.

    Samples of one prompt are alike, so the prompts are what is resampled: the interval is that of the mean over prompts. Fewer
    than 10 prompts say nothing of others: the interval then is for these prompts only, and holds their means fixed.

    Args:
        values: (N,) with NaN for unknown ones, which are left out.
        prompts: (N,), the prompt of each value.
        seed: of the resampling.
    """
    numbers = np.asarray(values, np.float64)
    known = ~np.isnan(numbers)
    _, owner = np.unique(np.asarray(prompts, dtype=object)[known].astype(str), return_inverse=True)
    numbers = numbers[known]
    clusters = int(owner.max(initial=-1)) + 1
    if clusters <= 1:
        return mean(numbers, seed)
    counts = np.bincount(owner)
    means = np.bincount(owner, numbers) / counts
    value, n = float(numbers.mean()), len(numbers)
    if clusters >= LEAST_CLUSTERS:
        pulls = (means - value) * counts * clusters / n  # one a prompt; their mean is 0, of equal counts they are means - value
        over = mean(pulls, seed)
        return Estimate(value, over.stderr, value + over.low, value + over.high, n)
    within = np.bincount(owner, np.square(numbers - means[owner]))
    degrees = n - clusters
    stderr = float(np.sqrt((within * counts / np.maximum(counts - 1, 1)).sum()) / n) if (counts > 1).all() else math.nan
    return Estimate(value, stderr, *_student(value, stderr, degrees), n)


def share_over_prompts(hits: np.ndarray, prompts: Sequence[str]) -> Estimate:
    """Return the share of hits among samples of prompts: Wilson's interval at the sample size that the prompts leave.

    Hits of one prompt are alike, so n samples are worth p (1 - p) / var(p) independent ones, with var(p) between prompts
    (Korn and Graubard 1998). Fewer than 10 prompts say nothing of others; the interval then is for these prompts only.

    Args:
        hits: (N,) bool.
        prompts: (N,), the prompt of each.
    """
    n, total = len(hits), int(np.sum(hits))
    over = mean_over_prompts(np.asarray(hits, np.float64), prompts)
    if n == 0 or not 0 < total < n or not over.stderr > 0:
        return share(total, n)
    p = total / n
    worth = min(float(n), p * (1 - p) / over.stderr**2)
    wilson = share(p * worth, worth)
    return Estimate(p, over.stderr, wilson.low, wilson.high, n)


def expected_maximum(values: np.ndarray, k: int, prompts: Sequence[str] | None = None, seed: int = 0) -> Estimate:
    """Return the mean, over all groups of k different samples, of the largest value in the group.

    With x_(1) <= ... <= x_(n) sorted, it is the sum over i of C(i-1, k-1) / C(n, k) * x_(i): every group counts, so nothing
    depends on how samples happen to be cut into groups. It is a U-statistic, so it is the mean of what each sample contributes,
    value + k (mean over the groups that hold the sample - value), up to terms of second order (Hoeffding 1948), here with the
    jackknife's factor (n - 1) / (n - k) of n samples, or prompts (Arvesen 1969); the interval is that of the mean of these
    contributions, over samples or over prompts as in `mean_over_prompts`. There is none for fewer than 16 k of these: terms of
    second order then matter.

    Args:
        values: (N,) with NaN for unknown ones, which are left out.
        k: samples in a group, at least 1.
        prompts: (N,), the prompt of each value; one for all if not given.
        seed: of the resampling.

    Returns:
        An estimate that is NaN if fewer than k values are known.
    """
    numbers = np.asarray(values, np.float64)
    known = ~np.isnan(numbers)
    n = int(known.sum())
    if n < k:
        return _nothing(n)
    _, places = np.unique(numbers[known], return_inverse=True)
    firsts = np.concatenate([[0], np.cumsum(np.bincount(places))[:-1]])
    with_each = _maximum_with_each(np.sort(numbers[known]), k)[firsts][places]  # equal values contribute exactly the same
    value = float(np.sort(numbers[known]) @ _maximum_weights(n, k))
    owners = [""] * n if prompts is None else [prompt for prompt, has in zip(prompts, known, strict=True) if has]
    different = len(set(owners))
    units = different if different >= LEAST_CLUSTERS else n
    contributions = value + k * (with_each - value) * ((units - 1) / (units - k) if units > k else 1.0)
    over = mean_over_prompts(contributions, owners, seed)
    if k > 1 and units < LEAST_GROUPS * k:
        return Estimate(value, over.stderr, math.nan, math.nan, n)
    return Estimate(value, over.stderr, over.low, over.high, n)


def share(hits: float, n: float) -> Estimate:
    """Return a share with its Wilson score interval, which is right also near 0 and 1 (Wilson 1927).

    Args:
        hits: how many of the n are hits; a sum of probabilities will do.
        n: how many there are; what they are worth, where they are not independent.
    """
    if n == 0:
        return _nothing(0)
    p, z = hits / n, _normal()
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low = 0.0 if hits == 0 else float(centre - half)
    high = 1.0 if hits == n else float(centre + half)
    return Estimate(p, float(np.sqrt(p * (1 - p) / n)), low, high, round(n))


def ratio(numerators: np.ndarray, denominators: np.ndarray) -> Estimate:
    """Return a ratio of sums over sampled units, such as nats over bytes of documents, with the linearised standard error.

    r = sum(a) / sum(b); var(r) = n / (n - 1) * sum((a - r b)^2) / sum(b)^2 (Cochran 1977, section 6.4); interval
    r +- t stderr with Student's t of n - 1 degrees of freedom.

    Args:
        numerators: (N,), one a unit.
        denominators: (N,), one a unit, at least 0; units with 0 of both are left out.
    """
    counts = (denominators > 0) | (numerators != 0)
    a, b = numerators[counts].astype(np.float64), denominators[counts].astype(np.float64)
    n = len(a)
    if b.sum() == 0:
        return _nothing(0)
    r = a.sum() / b.sum()
    stderr = np.sqrt(n / (n - 1) * np.square(a - r * b).sum()) / b.sum() if n > 1 else float("nan")
    return Estimate(float(r), float(stderr), *_student(float(r), float(stderr), n - 1), n)


def ratio_difference(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> Estimate:
    """Return the difference of two ratios of sums over the same units, such as bits per byte of two models on the same documents.

    With r = sum(a) / sum(b) of one and s = sum(c) / sum(d) of the other, unit i pulls the difference by
    e_i = (a_i - r b_i) / sum(b) - (c_i - s d_i) / sum(d); var(r - s) = n / (n - 1) * sum(e_i^2). What makes a unit hard for both
    cancels, so that this is far narrower than two ratios taken apart.

    Args:
        one: numerators and denominators, (N,) each; see `ratio`.
        other: of the same units, in the same order.
    """
    r, s = ratio(*one), ratio(*other)
    (a, b), (c, d) = one, other
    counts = (b > 0) | (a != 0) | (d > 0) | (c != 0)
    n = int(counts.sum())
    if n == 0 or np.isnan(r.value - s.value):
        return _nothing(n)
    pulls = ((a - r.value * b) / b.sum() - (c - s.value * d) / d.sum())[counts]
    stderr = float(np.sqrt(n / (n - 1) * np.square(pulls).sum())) if n > 1 else float("nan")
    value = r.value - s.value
    return Estimate(value, stderr, *_student(value, stderr, n - 1), n)


def jackknife(value: float, left_out: Sequence[float], n: int) -> Estimate:
    """Return a statistic with the interval of its delete-a-group jackknife: value +- t stderr of G - 1 degrees of freedom.

    stderr^2 = (G - 1) / G * sum of (value without group - their mean)^2 over G groups (Efron and Tibshirani 1993, chapter 11).

    Args:
        value: of all units.
        left_out: (G,) the statistic without each group.
        n: units.
    """
    without = np.asarray(left_out, np.float64)
    groups = len(without)
    if groups < 2 or np.isnan(without).any():
        return Estimate(value, math.nan, math.nan, math.nan, n)
    stderr = float(np.sqrt((groups - 1) / groups * np.square(without - without.mean()).sum()))
    return Estimate(value, stderr, *_student(value, stderr, groups - 1), n)


def _known(values: np.ndarray) -> np.ndarray:
    numbers: np.ndarray = np.asarray(values, dtype=np.float64)
    known: np.ndarray = numbers[~np.isnan(numbers)]
    return known


def _nothing(n: int) -> Estimate:
    nan = float("nan")
    return Estimate(nan, nan, nan, nan, n)


def _maximum_weights(n: int, k: int) -> np.ndarray:
    """Return the chance of each sorted value to be the largest of k drawn from n, (n,)."""
    weights = np.zeros(n)
    positions = np.arange(n, k, -1)  # from the largest down: w(n) = k/n, w(i-1) = w(i) * (i-k) / (i-1)
    weights[k - 1 :] = (k / n * np.concatenate([[1.0], np.cumprod((positions - k) / (positions - 1))]))[::-1]
    return weights


def _maximum_with_each(ordered: np.ndarray, k: int) -> np.ndarray:
    """Return for each of n sorted values the mean, over all groups of k that hold it, of the largest value in the group: (n,)."""
    n = len(ordered)
    if k == 1:
        return ordered
    is_largest = _maximum_weights(n, k) * (n / k)  # of the groups that hold it
    below = np.concatenate([[0.0], _maximum_weights(n - 1, k - 1)])  # that a larger one, with k - 2 others below it, is
    larger = np.cumsum((below * ordered)[::-1])[::-1]
    with_each: np.ndarray = is_largest * ordered + np.concatenate([larger[1:], [0.0]])
    return with_each


def _studentized(values: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the bootstrap-t interval of a mean: resampled (mean - value) / stderr in place of Student's t."""
    generator = np.random.default_rng(seed)
    n, value, stderr = len(values), values.mean(), _standard_error(values)
    if stderr == 0:
        return float(value), float(value)
    if n - np.unique(values, return_counts=True)[1].max() < LEAST_DIFFERENT:
        return math.nan, math.nan
    pivots = []
    for start in range(0, RESAMPLES, _RESAMPLES_AT_ONCE):
        count = min(_RESAMPLES_AT_ONCE, RESAMPLES - start)
        resampled = values[generator.integers(n, size=(count, n))]
        errors = resampled.std(axis=-1, ddof=1) / np.sqrt(n)
        with np.errstate(divide="ignore", invalid="ignore"):
            pivots.append((resampled.mean(axis=-1) - value) / errors)
    every = np.concatenate(pivots)
    low, high = np.percentile(every[np.isfinite(every)], [2.5, 97.5])
    return float(value - high * stderr), float(value - low * stderr)


def _student(value: float, stderr: float, degrees: int) -> tuple[float, float]:
    """Return the ends of value +- t stderr; NaN without a degree of freedom."""
    if degrees < 1 or math.isnan(stderr):
        return math.nan, math.nan
    half = float(stats.t.ppf(0.975, degrees)) * stderr
    return value - half, value + half


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else math.nan


def _normal() -> float:
    return float(stats.norm.ppf(0.975))
