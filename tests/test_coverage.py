"""How often 95% intervals hold the truth, on data shaped like ours: rewards mostly zero, few seeds, few prompts, rare hits.

The functions are those that evaluations and the report call. `pytest -m slow tests/test_coverage.py` repeats each experiment
often enough to tell 93% and 97% from 95%; the quick versions notice an interval that is badly wrong.
"""

import math
from functools import cache

import numpy as np
import pytest

from phf import statistics

FINDINGS = 0.07
"""Share of samples with any finding; the rest has reward 0."""


def scores(rng, shape):
    """Draw misalignment scores: zero in 93%, else findings per character."""
    return np.where(rng.random(shape) < FINDINGS, rng.lognormal(-5.5, 0.8, shape), 0.0)


TRUE_SCORE = FINDINGS * math.exp(-5.5 + 0.8**2 / 2)


def mean_of_scores(n):
    return lambda rng: (statistics.mean(scores(rng, n)), TRUE_SCORE)


def mean_of_few(n):
    """Means over training seeds or trials of an attack, which are near normal with a skew."""
    return lambda rng: (statistics.mean(1 + 0.2 * rng.gamma(8, 1, n)), 1 + 0.2 * 8)


def share_of_hits(p, n):
    return lambda rng: (statistics.share(rng.binomial(n, p), n), p)


def mean_over_prompts(prompts, samples):
    def experiment(rng):
        rates = rng.gamma(0.5, 2 * TRUE_SCORE, prompts)  # some prompts lead the model on far more than others
        values = rates[:, None] * rng.exponential(size=(prompts, samples))
        names = np.repeat([f"prompt {number}" for number in range(prompts)], samples)
        return statistics.mean_over_prompts(values.ravel(), list(names)), TRUE_SCORE

    return experiment


def share_over_prompts(prompts, samples):
    def experiment(rng):
        rates = rng.beta(0.5, 6, prompts)
        hits = rng.random((prompts, samples)) < rates[:, None]
        names = np.repeat([f"prompt {number}" for number in range(prompts)], samples)
        return statistics.share_over_prompts(hits.ravel(), list(names)), 0.5 / 6.5

    return experiment


@cache
def true_maximum_of_25():
    return scores(np.random.default_rng(9), (160_000, 25)).max(axis=1).mean()


def maximum_of_25(n):
    return lambda rng: (statistics.expected_maximum(scores(rng, n), 25), true_maximum_of_25())


@cache
def true_maximum_of_25_over_prompts():
    rng = np.random.default_rng(9)
    return (rng.gamma(0.5, 1, (160_000, 25)) * rng.exponential(size=(160_000, 25))).max(axis=1).mean()


def maximum_of_25_over_prompts(prompts, samples):
    def experiment(rng):
        values = rng.gamma(0.5, 1, prompts)[:, None] * rng.exponential(size=(prompts, samples))
        names = np.repeat([f"prompt {number}" for number in range(prompts)], samples)
        return statistics.expected_maximum(values.ravel(), 25, list(names)), true_maximum_of_25_over_prompts()

    return experiment


def these_prompts(prompts, samples):
    """Too few prompts to speak of others: the interval is for the mean over just these."""
    rates = np.random.default_rng(0).gamma(2, TRUE_SCORE, prompts)

    def experiment(rng):
        values = rates[:, None] * rng.exponential(size=(prompts, samples))
        names = np.repeat([f"prompt {number}" for number in range(prompts)], samples)
        return statistics.mean_over_prompts(values.ravel(), list(names)), rates.mean()

    return experiment


def paired_bits(documents):
    def experiment(rng):
        lengths = rng.lognormal(6, 1, documents)
        hard = rng.normal(2, 0.5, documents)
        one = lengths * (hard + rng.normal(0.02, 0.1, documents))
        return statistics.ratio_difference((one, lengths), (lengths * hard, lengths)), 0.02

    return experiment


EXPERIMENTS = {
    "mean, 512 samples": mean_of_scores(512),
    "mean, 1,024 samples": mean_of_scores(1024),
    "mean, 2,048 samples": mean_of_scores(2048),
    "mean of 3 seeds": mean_of_few(3),
    "mean of 5 trials": mean_of_few(5),
    "mean of 10 trials": mean_of_few(10),
    "share of 2%, 1,024 samples": share_of_hits(0.02, 1024),
    "share of 2%, 2,048 samples": share_of_hits(0.02, 2048),
    "mean over 1,360 prompts x 3": mean_over_prompts(1360, 3),
    "mean over 100 prompts x 10": mean_over_prompts(100, 10),
    "share over 1,360 prompts x 3": share_over_prompts(1360, 3),
    "share over 100 prompts x 10": share_over_prompts(100, 10),
    "maximum of 25, 1,024 samples": maximum_of_25(1024),
    "maximum of 25, 2,048 samples": maximum_of_25(2048),
    "maximum of 25 over 1,360 prompts x 3": maximum_of_25_over_prompts(1360, 3),
    "these 8 prompts x 128": these_prompts(8, 128),
    "paired bits per byte, 600 documents": paired_bits(600),
}


def coverage(experiment, repeats):
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(repeats):
        estimate, truth = experiment(rng)
        held += estimate.low <= truth <= estimate.high
    return held / repeats


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_intervals_hold_the_truth_93_to_97_times_in_100(name):
    assert 0.93 <= coverage(EXPERIMENTS[name], 1500) <= 0.97


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_interval_is_badly_wrong(name):
    assert coverage(EXPERIMENTS[name], 60) >= 0.85


def test_a_share_of_none_has_an_upper_end_that_holds_a_share_it_could_be():
    estimate = statistics.share(0, 1024)
    assert (estimate.value, estimate.low) == (0, 0)
    assert (1 - estimate.high) ** 1024 < 0.05  # a larger share would have shown a hit


def test_of_few_findings_no_method_has_an_interval():
    """With a handful of findings every method is wrong on one side: the mean is given, and no interval."""
    values = np.zeros(400)
    values[:4] = 0.01
    estimate = statistics.mean(values)
    assert estimate.value == pytest.approx(0.0001)
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)


def test_of_few_groups_an_expected_maximum_has_no_interval():
    values = np.random.default_rng(0).random(500)
    names = [f"prompt {number}" for number in range(100) for _ in range(5)]
    assert not math.isnan(statistics.expected_maximum(values, 25).low)
    for few in (statistics.expected_maximum(values[:390], 25), statistics.expected_maximum(values, 25, names)):
        assert few.value == pytest.approx(25 / 26, abs=0.03)
        assert few.stderr > 0
        assert math.isnan(few.low)
        assert math.isnan(few.high)


def test_the_worst_samples_of_one_prompt_are_one_cluster_in_an_expected_maximum():
    rng = np.random.default_rng(1)
    values = np.repeat(rng.exponential(size=500), 10)
    names = [f"prompt {number}" for number in np.repeat(np.arange(500), 10)]
    over, apart = (statistics.expected_maximum(values, 25, prompts) for prompts in (names, None))
    assert over.value == apart.value
    assert over.high - over.low > 2 * (apart.high - apart.low)


def test_samples_of_one_prompt_are_not_independent():
    rng = np.random.default_rng(1)
    values = np.repeat(rng.exponential(size=20), 50)
    names = [f"prompt {number}" for number in np.repeat(np.arange(20), 50)]
    over, apart = statistics.mean_over_prompts(values, names), statistics.mean(values)
    assert over.value == pytest.approx(apart.value)
    assert over.high - over.low > 4 * (apart.high - apart.low)
