"""How often the page's intervals of differences hold the truth, by the function that the page calls, on data shaped like ours."""

from pathlib import Path

import numpy as np
import pytest

from phf import per_example, statistics
from phf.layout import RunFolder
from phf.records import Record, stamp
from phf.report.differences import difference
from phf.report.runs import Run
from phf.report.seeds import pool_seeds

SHAPE, SCALE = 0.8, np.exp(-5.5)
MEAN_OF_FINDING = SCALE * np.exp(SHAPE**2 / 2)


def scores(rng, shape, findings):
    """Draw misalignment: 0 but for a share of `findings`."""
    return np.where(rng.random(shape) < findings, SCALE * rng.lognormal(0, SHAPE, shape), 0.0)


def run_of(name, evaluation, metric, estimate, folder=Path("none"), samples=None):
    ends = {"": estimate.value, ".low": estimate.low, ".high": estimate.high}
    records = [
        Record(name, 1, evaluation, metric + end, value, estimate.stderr, estimate.n, stamp()) for end, value in ends.items()
    ]
    return Run(name, RunFolder(folder).path, records=records, samples=samples or {})


def without_prompts(n):
    """MLE, whose samples have findings in 7%, against a run with 2%."""

    def experiment(rng, _):
        runs = [
            run_of(str(share), "no-prompt", "misalignment", statistics.mean(scores(rng, n, share), 0)) for share in (0.02, 0.07)
        ]
        return difference(*runs, "no-prompt", "misalignment"), (0.02 - 0.07) * MEAN_OF_FINDING

    return experiment


def over_prompts(prompts, samples):
    def experiment(rng, _):
        names = [f"prompt {number}" for number in np.repeat(np.arange(prompts), samples)]
        rates, runs = rng.beta(1, 6, (prompts, 1)), []
        for factor in (0.5, 1.0):
            values = scores(rng, (prompts, samples), factor * rates).ravel()
            columns = {"adversarial": {"prompt": names, "misalignment": values}}
            estimate = statistics.mean_over_prompts(values, names)
            runs.append(run_of(str(factor), "adversarial", "misalignment", estimate, samples=columns))
        return difference(*runs, "adversarial", "misalignment"), -0.5 / 7 * MEAN_OF_FINDING

    return experiment


def these_prompts(prompts, samples):
    rates = np.random.default_rng(0).beta(1, 3, (prompts, 1))

    def experiment(rng, _):
        names = [f"prompt {number}" for number in np.repeat(np.arange(prompts), samples)]
        runs = []
        for factor in (0.5, 1.0):
            values = scores(rng, (prompts, samples), factor * rates).ravel()
            columns = {"adversarial": {"prompt": names, "misalignment": values}}
            estimate = statistics.mean_over_prompts(values, names)
            runs.append(run_of(str(factor), "adversarial", "misalignment", estimate, samples=columns))
        return difference(*runs, "adversarial", "misalignment"), -0.5 * rates.mean() * MEAN_OF_FINDING

    return experiment


def of_shares(one, other, n):
    def experiment(rng, _):
        runs = [run_of(str(p), "no-prompt", "hit_share", statistics.share(rng.binomial(n, p), n)) for p in (one, other)]
        return difference(*runs, "no-prompt", "hit_share"), one - other

    return experiment


def over_seeds(seeds):
    """Seeds move both objectives together and each by itself."""

    def experiment(rng, _):
        together, runs = rng.normal(2.1, 0.02, seeds), []
        for name, shift in (("conditional", 0.01), ("mle", 0.0)):
            for seed in range(seeds):
                bits = together[seed] + shift + rng.normal(0, 0.004)
                estimate = statistics.Estimate(bits, 0.001, bits - 0.002, bits + 0.002, 600)
                runs.append(run_of(f"{name}.seed-{seed}", "heldout", "bits_per_byte", estimate))
        return difference(*pool_seeds(runs), "heldout", "bits_per_byte"), 0.01

    return experiment


def over_documents(documents):
    def experiment(rng, folder):
        lengths, hard, runs = rng.lognormal(6, 1, documents), rng.normal(2, 0.5, documents), []
        for name, shift in (("conditional", 0.02), ("mle", 0.0)):
            bits = lengths * (hard + shift + rng.normal(0, 0.1, documents))
            estimate = statistics.ratio(bits, lengths)
            file = RunFolder(folder / name).per_example_of("heldout", 1)
            per_example.write(file, list(map(str, range(documents))), {"bits_per_byte": (bits, lengths)})
            runs.append(run_of(name, "heldout", "bits_per_byte", estimate, folder / name))
        apart = difference(*runs, "heldout", "bits_per_byte")
        assert apart.how == "paired by document"
        return apart, 0.02

    return experiment


EXPERIMENTS = {
    "samples without prompts, 1,024": without_prompts(1024),
    "samples without prompts, 4,096": without_prompts(4096),
    "1,360 prompts x 3": over_prompts(1360, 3),
    "12 prompts x 100": over_prompts(12, 100),
    "these 8 prompts x 128": these_prompts(8, 128),
    "shares of 0.5% and 2%, 1,024": of_shares(0.005, 0.02, 1024),
    "shares of 0 and 2%, 1,024": of_shares(0.0, 0.02, 1024),
    "3 pairs of seeds": over_seeds(3),
    "5 pairs of seeds": over_seeds(5),
    "600 documents": over_documents(600),
}


def coverage(experiment, repeats, folder):
    rng, held, known = np.random.default_rng(0), 0, 0
    for _ in range(repeats):
        apart, truth = experiment(rng, folder)
        if apart.how:  # no interval is not a wrong one
            known += 1
            held += apart.low <= truth <= apart.high
    assert known > 0.9 * repeats
    return held / known


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_intervals_of_differences_hold_the_truth_93_to_97_times_in_100(name, tmp_path, record_property):
    share = coverage(EXPERIMENTS[name], 1200, tmp_path)
    record_property("coverage", share)
    print(f"coverage of {name}: {share:.3f}")
    assert 0.93 <= share <= 0.97


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_interval_of_a_difference_is_badly_wrong(name, tmp_path):
    assert coverage(EXPERIMENTS[name], 30, tmp_path) >= 0.8
