"""Error bars: equal to their definitions by brute force, and covering the truth as often as they say."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phf import quantiles, statistics

NUMBERS = st.lists(st.floats(-10, 10, allow_subnormal=False), min_size=1, max_size=7)


@given(NUMBERS, st.integers(1, 7))
def test_expected_maximum_is_the_mean_over_all_groups(values, k):
    found = statistics.expected_maximum(np.array(values), k)
    if k > len(values):
        assert math.isnan(found.value)
    else:
        expected = np.mean([max(group) for group in itertools.combinations(values, k)])
        assert found.value == pytest.approx(expected, abs=1e-12)


def test_expected_maximum_of_many_samples_does_not_overflow():
    values = np.random.default_rng(0).random(4096)
    found = statistics.expected_maximum(values, 25)
    assert found.value == pytest.approx(25 / 26, abs=0.002)  # of 25 uniform numbers
    assert found.low < 25 / 26 < found.high
    assert 0 < found.stderr < 0.004
    assert statistics.expected_maximum(values, 1).value == pytest.approx(values.mean())
    assert statistics.expected_maximum(values, 4096).value == values.max()


def test_unknown_values_are_left_out_and_not_zero():
    values = np.array([1.0, np.nan, 3.0, np.nan])
    for found in (statistics.mean(values), statistics.expected_maximum(values, 1)):
        assert found.value == 2
        assert found.n == 2
    assert math.isnan(statistics.mean(np.array([np.nan])).value)
    assert statistics.mean(np.array([])).n == 0


def test_one_sample_has_no_standard_error():
    found = statistics.mean(np.array([2.0]))
    assert found.value == 2
    assert all(map(math.isnan, (found.stderr, found.low, found.high)))


def test_the_interval_of_a_mean_covers_it_about_95_times_in_100():
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(100):
        found = statistics.mean(generator.exponential(size=60), seed)
        covered += found.low <= 1 <= found.high
    assert 86 <= covered <= 100
    assert found == statistics.mean(np.random.default_rng(0).exponential(size=(100, 60))[-1], 99)


def test_shares_have_wilson_intervals():
    # Newcombe 1998, table I, method 3.
    for hits, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        found = statistics.share(hits, n)
        assert found.value == hits / n
        assert (round(found.low, 4), round(found.high, 4)) == (low, high)
    assert statistics.share(20, 20).high == 1
    assert math.isnan(statistics.share(0, 0).value)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0.5, 10)), min_size=3, max_size=20))
def test_the_error_of_a_ratio_is_near_the_jackknife(pairs):
    a, b = np.array(pairs).T
    found = statistics.ratio(a, b)
    assert found.value == pytest.approx(a.sum() / b.sum())
    assert statistics.ratio(np.append(a, 0.0), np.append(b, 0.0)) == found  # no bytes, no bits, no document
    assert statistics.ratio(np.append(a, 5.0), np.append(b, 0.0)).value == pytest.approx((a.sum() + 5) / b.sum())
    assert found.n == len(pairs)


def test_the_error_of_a_ratio_is_that_of_repeated_sampling():
    generator = np.random.default_rng(1)

    def draw():
        b = generator.gamma(2, 10, size=200)
        return statistics.ratio(2 * b + generator.normal(size=200) * 5, b)

    found = [draw() for _ in range(300)]
    assert np.std([one.value for one in found]) == pytest.approx(np.mean([one.stderr for one in found]), rel=0.15)
    assert math.isnan(statistics.ratio(np.zeros(3), np.zeros(3)).value)


def test_a_difference_of_ratios_on_the_same_units_is_that_of_repeated_sampling():
    generator = np.random.default_rng(2)

    def draw():
        b = generator.gamma(2, 10, size=200)
        hard = generator.normal(size=200) * 5  # for both
        one = (2 * b + hard + generator.normal(size=200), b)
        return one, (1.9 * b + hard + generator.normal(size=200), b)

    pairs = [draw() for _ in range(300)]
    found = [statistics.ratio_difference(*pair) for pair in pairs]
    assert np.mean([one.value for one in found]) == pytest.approx(0.1, abs=0.01)
    assert np.std([one.value for one in found]) == pytest.approx(np.mean([one.stderr for one in found]), rel=0.15)
    assert found[0].stderr < statistics.ratio(*pairs[0][0]).stderr / 3
    assert found[0].low < found[0].value < found[0].high


def test_a_difference_of_a_ratio_to_itself_is_nothing_and_of_nothing_unknown():
    parts = (np.array([1.0, 2.0, 0.0]), np.array([3.0, 1.0, 0.0]))
    same = statistics.ratio_difference(parts, parts)
    assert (same.value, same.stderr, same.n) == (0, 0, 2)
    assert math.isnan(statistics.ratio_difference(parts, (np.zeros(3), np.zeros(3))).value)


numbers = st.floats(width=32, allow_nan=True, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1.0])


@given(
    chunks=st.lists(st.lists(numbers, min_size=1, max_size=20), min_size=1, max_size=6),
    shares=st.lists(st.sampled_from([0.0, 0.01, 0.25, 0.5, 0.9, 1.0]), min_size=1, max_size=3),
    dtype=st.sampled_from([np.float32, np.float64]),
    collected=st.sampled_from([0, 5, 2**21]),
)
def test_streaming_quantiles_are_numpys(chunks, shares, dtype, collected):
    arrays = [np.array(chunk, dtype) for chunk in chunks]
    flat = np.concatenate(arrays)
    known = flat[~np.isnan(flat)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantiles, "_COLLECTED", collected)  # as of numbers that fit into memory, or do not
        found = quantiles.streaming_quantiles(arrays, shares)
    if not len(known):
        assert np.isnan(found).all()
        return
    assert found == [pytest.approx(float(np.quantile(known, share)), rel=1e-6) for share in shares]
    assert {0.0: known.min(), 1.0: known.max()}.get(shares[0], found[0]) == found[0], "order statistics are exact"


def test_a_jackknife_of_a_mean_is_its_t_interval():
    values = np.random.default_rng(3).normal(size=200)
    groups = [values[np.arange(200) % 20 != group].mean() for group in range(20)]
    estimate = statistics.jackknife(float(values.mean()), groups, 200)
    means = values.reshape(10, 20).mean(axis=0)
    assert estimate.stderr == pytest.approx(means.std(ddof=1) / math.sqrt(20))
    assert estimate.high - estimate.value == pytest.approx(2.093 * estimate.stderr, rel=1e-3)  # t of 19 degrees of freedom
    assert math.isnan(statistics.jackknife(1.0, [1.0], 1).low)
