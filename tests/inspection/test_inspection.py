import itertools
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phf.documents import Document, write_part
from phf.errors import InputError
from phf.inspection import inspect, plot, text
from phf.inspection.summary import _bins
from phf.objectives import Conditional, Filtering


def written(folder, rewards, words="segment"):
    """Write documents with these rewards, two to a part."""
    documents = [
        Document(f"d{i}", [f"{words} {i}.{j} " for j in range(len(each))], np.array(each, np.float32))
        for i, each in enumerate(rewards)
    ]
    for part in range(0, len(documents), 2):
        write_part(folder / f"part-{part // 2:05d}.parquet", documents[part : part + 2])
    return folder


REWARDS = [[0.0, -0.5], [-0.1, math.nan, -0.3], [0.0, 0.0, 0.0], [math.nan], [-0.9], []]


def test_numbers_are_those_of_numpy(tmp_path):
    found = inspect(written(tmp_path / "a", REWARDS), threshold=-0.2)
    flat = np.array([reward for each in REWARDS for reward in each if not math.isnan(reward)], np.float32)
    assert (found.segments.count, found.segments.unscored) == (8, 2)
    assert found.segments.mean == pytest.approx(flat.mean())
    assert found.segments.quantiles[25] == pytest.approx(np.quantile(flat, 0.25))
    assert found.segments.aligned == (flat >= -0.2).mean()
    means = np.array([-0.25, -0.2, 0, -0.9])
    assert (found.documents.count, found.documents.unscored) == (4, 2)
    assert found.documents.mean == pytest.approx(means.mean())
    assert found.documents.quantiles[50] == pytest.approx(np.median(means))
    assert found.unscored_documents == 2
    lengths = len("segment 0.0 ")
    assert found.characters == 10 * lengths
    assert found.aligned_characters == 5 / 8


@settings(max_examples=50, deadline=None)
@given(
    rewards=st.lists(st.lists(st.floats(-1, 0, width=32) | st.just(math.nan), min_size=1, max_size=4), min_size=1, max_size=6),
    percent=st.integers(0, 100),
)
def test_shares_are_what_the_objectives_do(tmp_path_factory, rewards, percent):
    flat = np.array([reward for each in rewards for reward in each], np.float32)
    starts = np.cumsum([0, *(len(each) for each in rewards[:-1])])
    folder = written(tmp_path_factory.mktemp("a"), rewards)
    if np.isnan(flat).all():
        with pytest.raises(InputError, match=r"nothing in the corpus has a reward|could not score anything"):
            inspect(folder, threshold=f"p{percent}")
        return
    found = inspect(folder, threshold=f"p{percent}")
    conditional = Conditional(f"p{percent}", drop=0.0).resolve([(flat, starts)])
    assert found.segments.threshold == conditional.threshold
    controls = conditional.controls(flat, np.random.default_rng(0))
    assert found.segments.aligned == (controls == 0).sum() / (controls >= 0).sum()
    kept = Filtering(found.documents.threshold).keep_each(flat, starts)
    unscored = sum(all(map(math.isnan, each)) for each in rewards)
    assert found.documents.aligned == (kept.sum() - unscored) / (len(rewards) - unscored)


rewards = st.lists(
    st.floats(-1, 1, width=32) | st.just(0.0) | st.floats(-1, -(2**-20), width=32).map(lambda x: x**9), min_size=1, max_size=200
)


@settings(deadline=None)
@given(rewards=rewards.map(lambda values: np.array(values, np.float32)))
def test_a_histogram_counts_every_reward_once(rewards):
    bins = _bins(rewards)
    assert sum(each.count for each in bins) == len(rewards)
    assert bins[0].low == rewards.min()
    assert bins[-1].high == rewards.max()
    assert all(each.low <= each.high for each in bins)
    assert all(a.high <= b.low for a, b in itertools.pairwise(bins))


def test_rewards_of_zero_stand_apart_and_orders_of_magnitude_are_told_apart():
    bins = _bins(np.array([-1.0, -0.1, -0.01, -0.001, -0.0001, 0.0, 0.0], np.float32))
    assert (bins[-1].low, bins[-1].high, bins[-1].count) == (0.0, 0.0, 2)
    assert bins[0].low / bins[0].high == pytest.approx(bins[5].low / bins[5].high)
    assert [each.count for each in bins[:-1] if each.count] == [1, 1, 1, 1, 1]
    even = _bins(np.array([-0.3, -0.2, -0.1], np.float32))
    assert even[0].high - even[0].low == pytest.approx(even[9].high - even[9].low)
    assert [(each.low, each.high, each.count) for each in _bins(np.zeros(3))] == [(0.0, 0.0, 3)]


def test_examples_are_nearest_to_the_threshold_and_differ(tmp_path):
    many = [[-i / 100, -i / 100 - 0.001] for i in range(60)]
    found = inspect(written(tmp_path / "a", many), threshold=-0.30, examples=3)
    assert [example.reward for example in found.below] == pytest.approx([-0.301, -0.31, -0.311])
    assert [example.reward for example in found.above] == pytest.approx([-0.30, -0.291, -0.29])
    assert [example.reward for example in found.worst] == pytest.approx([-0.591, -0.59, -0.581])
    assert (found.above[0].document, found.above[0].index, found.above[0].text) == ("d30", 0, "segment 30.0 ")
    assert inspect(tmp_path / "a", threshold=-0.30, examples=3) == found
    same = [Document(f"d{i}", ["twice\n", " twice", "once"], np.array([-0.1, -0.1, -0.2], np.float32)) for i in range(9)]
    write_part(tmp_path / "b" / "part-00000.parquet", same)
    assert [example.text.strip() for example in inspect(tmp_path / "b", threshold=0.0).below] == ["twice", "once"]


def test_published_scores_are_turned_round(tmp_path):
    pq.write_table(pa.table({"texts": [["a. ", "b."], ["c."]], "scores": [[0.0, 0.00056], [0.5]]}), tmp_path / "p.parquet")
    found = inspect(tmp_path / "p.parquet", threshold="-0.00056")
    assert found.segments.aligned == 2 / 3
    assert found.slowest == []
    assert found.failed == 0


def test_failures_and_timings_are_shown(tmp_path):
    folder = written(tmp_path / "a", REWARDS)
    failures = [{"id": f"d{i}", "reason": "took longer than 30 s", "part": "part-00000.parquet"} for i in range(7)]
    (folder / "quarantine.jsonl").write_text("".join(json.dumps(each) + "\n" for each in failures))
    parts = [{"slowest": [["d1", 0.5], ["d2", 0.1]]}, {"slowest": [["d3", 2.0]]}]
    (folder / "journal.jsonl").write_text("".join(json.dumps(each) + "\n" for each in parts))
    found = inspect(folder)
    assert found.failed == 7
    assert found.failures[0] == ("d0", "took longer than 30 s")
    assert found.slowest == [("d3", 2.0), ("d1", 0.5), ("d2", 0.1)]
    said = text(found)
    assert "7 failed" in said
    assert "d0: took longer than 30 s" in said
    assert "2.000 s  d3" in said


def test_another_column(tmp_path):
    documents = [Document("d", ["a", "b"], np.zeros(2, np.float32))]
    write_part(tmp_path / "part-00000.parquet", documents, {"toxicity": pa.array([[-1.0, -0.5]], pa.list_(pa.float32()))})
    assert inspect(tmp_path, "toxicity").segments.mean == -0.75
    with pytest.raises(InputError, match="no column 'pii'"):
        inspect(tmp_path, "pii")


@pytest.mark.parametrize(
    ("threshold", "message"), [("half", "'half'; expected a reward"), ("p101", "quantile"), (math.nan, "threshold")]
)
def test_a_threshold_that_is_none_is_refused(tmp_path, threshold, message):
    with pytest.raises(InputError, match=message):
        inspect(written(tmp_path / "a", REWARDS), threshold=threshold)


def test_nothing_to_look_at_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        inspect(tmp_path / "none")
    write_part(tmp_path / "a" / "part-00000.parquet", [])
    with pytest.raises(InputError, match="no documents"):
        inspect(tmp_path / "a")
    with pytest.raises(InputError, match="could not score anything"):
        inspect(written(tmp_path / "b", [[math.nan]]), threshold=0)


@pytest.mark.parametrize("width", [60, 100])
def test_the_text_fits_the_terminal_and_shows_where_the_threshold_is(tmp_path, width):
    many = [[-(10.0 ** -(i % 6)), 0.0] for i in range(60)]
    said = text(inspect(written(tmp_path / "a", many, "long words " * 30), threshold=-0.02), width)
    assert said.count("< threshold") == 2
    assert "66.7% of segments are aligned" not in said
    assert "83.3% of segments are aligned (reward at least -0.02)" in said
    histogram = [line for line in said.splitlines() if "█" in line]
    assert histogram
    assert all(len(line) <= width for line in histogram)


def test_the_figure_is_svg_and_always_the_same(tmp_path):
    pytest.importorskip("matplotlib")
    found = inspect(written(tmp_path / "a", REWARDS), threshold=-0.2)
    plot(found, tmp_path / "one.svg")
    plot(found, tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert "reward of segments" in (tmp_path / "one.svg").read_text()


@pytest.mark.parametrize("content", ["{", "[]", '{"id": "a"}', "\xff"])
def test_damaged_lists_beside_the_parts_are_named(tmp_path, content):
    write_part(tmp_path / "part-00000.parquet", [Document("a", ["x", "y"], np.array([-1.0, 0.0], np.float32))])
    (tmp_path / "quarantine.jsonl").write_bytes(content.encode("latin-1") + b"\n")
    with pytest.raises(InputError, match=r"quarantine\.jsonl, line 1: not a line that phf wrote"):
        inspect(tmp_path)
