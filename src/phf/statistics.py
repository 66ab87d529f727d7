"""Estimates with 95% confidence intervals: means, shares, ratios and their differences."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 2000
_Z95 = 1.959963984540054  # the normal distribution's 97.5% point
_RESAMPLES_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic of n samples.

    Args:
        value: NaN when there was nothing to measure.
        stderr: its standard error; NaN for fewer than two samples.
        low: lower end of the 95% interval.
        high: upper end of the 95% interval.
        n: samples that count; NaN ones do not.
    """

    value: float
    stderr: float
    low: float
    high: float
    n: int


def mean(values: np.ndarray, seed: int = 0) -> Estimate:
    """Return the mean of the known values, with a 95% percentile bootstrap interval (Efron and Tibshirani 1993, section 13.3).

    Args:
        values: (N,) with NaN for unknown ones, which are left out.
        seed: of the resampling.
    """
    known = _known(values)
    if not len(known):
        return _nothing(0)
    low, high, _ = _bootstrap(known, lambda resampled: resampled.mean(axis=-1), seed)
    stderr = float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else float("nan")
    return Estimate(float(known.mean()), stderr, low, high, len(known))


def expected_maximum(values: np.ndarray, k: int, seed: int = 0) -> Estimate:
    """Return the mean, over all groups of k different samples, of the largest value in the group.

    With x_(1) <= ... <= x_(n) sorted, it is the sum over i of C(i-1, k-1) / C(n, k) * x_(i): every group counts, so nothing
    depends on how samples happen to be cut into groups. Interval: 95% percentile bootstrap.

    Args:
        values: (N,) with NaN for unknown ones, which are left out.
        k: samples in a group, at least 1.
        seed: of the resampling.

    Returns:
        An estimate that is NaN if fewer than k values are known.
    """
    known = np.sort(_known(values))
    n = len(known)
    if n < k:
        return _nothing(n)
    weights = _maximum_weights(n, k)
    low, high, stderr = _bootstrap(known, lambda resampled: np.sort(resampled, axis=-1) @ weights, seed)
    return Estimate(float(known @ weights), stderr, low, high, n)


def share(hits: float, n: int) -> Estimate:
    """Return a share with its 95% Wilson score interval, which is right also near 0 and 1 (Wilson 1927).

    Args:
        hits: how many of the n are hits; a sum of probabilities will do.
        n: how many there are.
    """
    if n == 0:
        return _nothing(0)
    p = hits / n
    centre = (p + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
    half = _Z95 / (1 + _Z95**2 / n) * np.sqrt(p * (1 - p) / n + _Z95**2 / (4 * n**2))
    low = 0.0 if hits == 0 else float(centre - half)
    high = 1.0 if hits == n else float(centre + half)
    return Estimate(p, float(np.sqrt(p * (1 - p) / n)), low, high, n)


def ratio(numerators: np.ndarray, denominators: np.ndarray) -> Estimate:
    """Return a ratio of sums over sampled units, such as nats over bytes of documents, with the linearised standard error.

    r = sum(a) / sum(b); var(r) = n / (n - 1) * sum((a - r b)^2) / sum(b)^2 (Cochran 1977, section 6.4); interval
    r +- 1.96 stderr.

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
    return Estimate(float(r), float(stderr), float(r - _Z95 * stderr), float(r + _Z95 * stderr), n)


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
    return Estimate(value, stderr, value - _Z95 * stderr, value + _Z95 * stderr, n)


def streaming_quantiles(chunks: Iterable[np.ndarray], shares: Sequence[float]) -> list[float]:
    """Return exact quantiles, as `np.quantile` does, of more numbers than fit into memory.

    The numbers are read once to count them, and once for every 16 bits of their type.

    Args:
        chunks: non-empty arrays of one float type, iterated several times; NaN are left out.
        shares: from 0 to 1.

    Returns:
        A number for each share; NaN if there are no numbers.
    """
    count = sum(int(np.count_nonzero(~np.isnan(chunk))) for chunk in chunks)
    if not count:
        return [math.nan] * len(shares)
    places = [share * (count - 1) for share in shares]
    ranks = sorted({rank for place in places for rank in (math.floor(place), math.ceil(place))})
    values = dict(zip(ranks, _order_statistics(chunks, ranks), strict=True))
    return [float(np.quantile([values[math.floor(place)], values[math.ceil(place)]], place % 1)) for place in places]


def _order_statistics(chunks: Iterable[np.ndarray], ranks: Sequence[int]) -> np.ndarray:
    """Return the numbers at 0-based ranks, by a radix select from the highest 16 bits to the lowest."""
    dtype = next(iter(chunks)).dtype
    left = np.array(ranks)  # the rank among the numbers that share the bits known so far
    known = np.zeros(len(ranks), np.uint64)
    for shift in range(8 * dtype.itemsize - 16, -1, -16):
        counts = np.zeros((len(ranks), 1 << 16), np.int64)
        for chunk in chunks:
            digits = _sortable(chunk[~np.isnan(chunk)]) >> np.uint64(shift)
            for index, prefix in enumerate(known):
                inside = digits[digits >> np.uint64(16) == prefix] & np.uint64(0xFFFF)
                counts[index] += np.bincount(inside.astype(np.int64), minlength=1 << 16)
        ends = np.cumsum(counts, axis=1)
        found = np.array([np.searchsorted(end, rank, "right") for end, rank in zip(ends, left, strict=True)])
        left -= np.array([end[digit - 1] if digit else 0 for end, digit in zip(ends, found, strict=True)])
        known = known << np.uint64(16) | found.astype(np.uint64)
    return _unsortable(known, dtype)


def _sortable(values: np.ndarray) -> np.ndarray:
    """Map floats to integers of the same order: (N,) uint64, no larger than the float type's unsigned integers."""
    bits = (values + values.dtype.type(0)).view(f"u{values.dtype.itemsize}").astype(np.uint64)  # + 0 makes 0.0 of -0.0
    sign = np.uint64(1 << (8 * values.dtype.itemsize - 1))
    keys: np.ndarray = np.where(bits & sign, ~bits & (sign | (sign - np.uint64(1))), bits | sign)
    return keys


def _unsortable(keys: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Map integers back to the floats that `_sortable` had."""
    sign = np.uint64(1 << (8 * dtype.itemsize - 1))
    bits = np.where(keys & sign, keys ^ sign, ~keys & (sign | (sign - np.uint64(1))))
    values: np.ndarray = bits.astype(f"u{dtype.itemsize}").view(dtype)
    return values


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


def _bootstrap(values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], seed: int) -> tuple[float, float, float]:
    """Return the 2.5% and 97.5% points and the standard deviation of a statistic over resamples of `values`."""
    generator = np.random.default_rng(seed)
    found = []
    for start in range(0, RESAMPLES, _RESAMPLES_AT_ONCE):
        count = min(_RESAMPLES_AT_ONCE, RESAMPLES - start)
        found.append(statistic(values[generator.integers(len(values), size=(count, len(values)))]))
    every = np.concatenate(found)
    low, high = np.percentile(every, [2.5, 97.5])
    return float(low), float(high), float(every.std(ddof=1)) if len(values) > 1 else float("nan")
