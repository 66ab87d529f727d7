"""Runs of several seeds on the page: pooled under one name, spread apart from error, differences by pairs of seeds."""

import json
import math

import numpy as np
import pytest

from phf import statistics
from phf.layout import split_seed
from phf.records import Record, stamp, write_records
from phf.report import report
from phf.report.differences import difference
from phf.report.run_files import read_runs
from phf.report.seeds import pool_seeds

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

MLE, CONDITIONAL = (2.00, 2.02, 2.06), (2.01, 2.04, 2.07)  # bits per byte by seed: seeds differ far more than objectives do


def make_run(folder, objective, values, n=50):
    folder.mkdir(parents=True)
    folder.joinpath("config.yaml").write_text(f"objective: {{name: {objective}}}\n")
    records = []
    for (evaluation, metric), value in values.items():
        for end, shift in (("", 0.0), (".low", -0.004), (".high", 0.004)):
            records.append(Record(folder.name, 5, evaluation, metric + end, value + shift, 0.002, n, stamp()))
    write_records(folder / "records.jsonl", records)
    return folder


@pytest.fixture
def folders(tmp_path):
    both = []
    for name, values in (("mle", MLE), ("conditional", CONDITIONAL)):
        for seed, bits in enumerate(values):
            measured = {("heldout", "bits_per_byte_aligned"): bits, ("no-prompt", "misalignment"): 0.1 + bits / 100}
            both.append(make_run(tmp_path / f"{name}.seed-{seed}", name, measured))
    return both


def test_a_name_says_its_seed():
    assert split_seed("mle-from-50.seed-2") == ("mle-from-50", 2)
    for name in ("mle", "mle.seed-", "mle.seed-x", ".seed-1", "mle.seed-01"):
        assert split_seed(name) == (name, None)


def test_seeds_are_pooled_and_compared_as_pairs(folders):
    mle, conditional = pool_seeds(read_runs(folders))
    assert (mle.name, conditional.name) == ("mle", "conditional")
    pooled = conditional.get("heldout", "bits_per_byte_aligned")
    over = statistics.mean(np.array(CONDITIONAL))
    assert (pooled.value, pooled.low, pooled.high) == pytest.approx((over.value, over.low, over.high))
    assert (pooled.seeds, pooled.n) == (3, 150)
    assert pooled.between == pytest.approx(np.std(CONDITIONAL, ddof=1))
    assert pooled.within == pytest.approx(0.004)
    apart = difference(conditional, mle, "heldout", "bits_per_byte_aligned")
    pairs = statistics.mean(np.subtract(CONDITIONAL, MLE))
    assert apart.how == "paired by seed"
    assert (apart.value, apart.low, apart.high) == pytest.approx((pairs.value, pairs.low, pairs.high))


def test_a_share_stays_between_nothing_and_all_where_students_interval_does_not(tmp_path):
    shares = {"hit_share": (0.001, 0.002, 0.06), "finished_share": (0.93, 0.99, 1.0), "misalignment": (-0.3, 0.1, 0.2)}
    made = [
        make_run(tmp_path / f"mle.seed-{seed}", "mle", {("no-prompt", metric): values[seed] for metric, values in shares.items()})
        for seed in range(3)
    ]
    (run,) = pool_seeds(read_runs(made))
    assert run.get("no-prompt", "hit_share").low == 0
    assert run.get("no-prompt", "finished_share").high == 1
    for metric, end in (("hit_share", "high"), ("finished_share", "low"), ("misalignment", "low"), ("misalignment", "high")):
        assert getattr(run.get("no-prompt", metric), end) == pytest.approx(
            getattr(statistics.mean(np.array(shares[metric])), end)
        )


def test_a_single_seed_keeps_its_name_and_pairs_need_the_same_seeds(folders):
    alone = pool_seeds(read_runs([folders[0], *folders[3:]]))
    assert [run.name for run in alone] == ["mle.seed-0", "conditional"]
    apart = difference(alone[1], alone[0], "heldout", "bits_per_byte_aligned")
    assert apart.how == "independent"
    assert apart.value == pytest.approx(np.mean(CONDITIONAL) - MLE[0])


def test_the_page_shows_the_spread_apart_from_the_error_and_the_difference_on_the_axis(folders, tmp_path):
    page = report(folders, tmp_path / "out").read_text()
    assert "3 seeds, sd" in page
    assert "within one ±" in page
    figure = (tmp_path / "out" / "figures" / "pareto.svg").read_text()
    words = " ".join(figure.replace("\xa0", " ").split())
    assert "minus that of mle" in words
    numbers = json.loads((tmp_path / "out" / "report.json").read_text())["numbers"]
    rows = {row["run"]: row for row in numbers if row["metric"] == "bits_per_byte_aligned"}
    assert set(rows) == {"mle", "conditional", *(folder.name for folder in folders)}
    assert rows["conditional"]["seeds"] == 3
    assert rows["conditional"]["difference_how"] == "paired by seed"
    assert rows["conditional.seed-1"]["value"] == CONDITIONAL[1]


@pytest.mark.parametrize("former", [True, False])
def test_placements_are_never_mixed(tmp_path, former):
    """In phf 0.1 a metric's plain name was the token once at the start; now it is the token before every segment."""
    names = ("bits_per_byte_every", "bits_per_byte") if former else ("bits_per_byte", "bits_per_byte_start")
    values = {("heldout", names[0]): 2.08, ("heldout", names[1]): 2.11}
    (run,) = read_runs([make_run(tmp_path / "conditional", "conditional", values)])
    assert run.get("heldout", "bits_per_byte").value == pytest.approx(2.08)
    assert run.get("heldout", "bits_per_byte_start").value == pytest.approx(2.11)
    assert run.get("heldout", "bits_per_byte_every") is None
    assert run.recorded_metric("heldout", "bits_per_byte") == names[0]
    assert run.recorded_metric("heldout", "bits_per_byte_start") == names[1]


def test_of_one_pair_there_is_no_interval_over_seeds(folders):
    whole = pool_seeds(read_runs(folders))
    assert not math.isnan(whole[0].get("no-prompt", "misalignment").low)
    single = read_runs(folders[:1])[0]
    assert single.seeds == {}
