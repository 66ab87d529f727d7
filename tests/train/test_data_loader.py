"""DataLoader: shuffled in windows, across epochs and changes of objective, and from wherever training was stopped."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phf import checksums
from phf.artifacts import write_json
from phf.errors import InputError
from phf.objectives import AWR, MLE, Conditional, Filtering
from phf.tokens.store import DOCUMENT, SEGMENT, TokenStore, write_shard
from phf.train.data_loader import DataLoader, Phase, Position, WindowShuffle
from support import tiny_corpora as tiny

CONTROLS = (900, 901)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return TokenStore.open(tiny.token_store(tmp_path_factory.mktemp("corpus")))


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """A store with windows of several blocks."""
    return TokenStore.open(tiny.token_store(tmp_path_factory.mktemp("corpus"), tiny.documents(1200)))


def loader(store, *phases, size=4, context=16):
    return DataLoader(store, [Phase(until, objective) for until, objective in phases], size, context, 0, CONTROLS)


def take(batches, count, position=None):
    return list(itertools.islice(batches.after(position or Position()), count))


def test_from_any_position_the_same_batches_follow(store):
    batches = loader(store, (7, MLE()), (30, Conditional(threshold=0.0)), (140, MLE()))
    straight = take(batches, 140)
    assert straight[-1].after.epoch >= 1, "the corpus is small: the last are of a second epoch"
    for stopped in (0, 6, 7, 8, 29, 30, 31, 110):
        position = straight[stopped - 1].after if stopped else Position()
        assert position.step == stopped
        for batch, again in zip(straight[stopped:], take(batches, 140 - stopped, position), strict=True):
            assert batch.tokens.tolist() == again.tokens.tolist()
            np.testing.assert_array_equal(batch.rewards, again.rewards)
            assert (batch.objective, batch.after) == (again.objective, again.after)


def test_each_phase_has_its_objective_and_its_control_tokens(store):
    conditional = Conditional(threshold=0.0, drop=0.0)
    batches = take(loader(store, (5, MLE()), (12, conditional), (15, MLE())), 15)
    assert [batch.objective for batch in batches] == [MLE()] * 5 + [conditional] * 7 + [MLE()] * 3
    has_controls = [bool(np.isin(batch.tokens, CONTROLS).any()) for batch in batches]
    assert has_controls == [False] * 5 + [True] * 7 + [False] * 3


# the order of blocks


@given(blocks=st.integers(1, 3000), origin=st.integers(0, 3000), seed=st.integers(0, 3), epoch=st.integers(0, 3))
def test_every_block_is_read_once_and_stays_in_its_window(blocks, origin, seed, epoch):
    origin = min(origin, blocks - 1)
    shuffle = WindowShuffle(blocks, seed, epoch, origin)
    assert shuffle.window == max(1, int(0.02 * blocks)), "2% of the epoch"
    numbers = shuffle.numbers(origin, blocks)
    assert sorted(numbers.tolist()) == list(range(origin, blocks))
    windows = (np.arange(origin, blocks) - origin) // shuffle.window
    assert ((numbers - origin) // shuffle.window).tolist() == windows.tolist()
    cut = (origin + blocks) // 2
    if origin < cut < blocks:
        again = np.concatenate([shuffle.numbers(origin, cut), shuffle.numbers(cut, blocks)])
        assert again.tolist() == numbers.tolist()


def test_windows_are_shuffled_each_in_its_own_way():
    numbers = WindowShuffle(10_149, 0, 0).numbers(0, 10_149)  # 50 windows of 202 blocks and one of 49
    orders = {tuple(numbers[start : start + 202] - start) for start in range(0, 10_100, 202)}
    assert len(orders) > 40
    assert numbers[10_100:].tolist() != list(range(10_100, 10_149)), "the last, short one too"
    other = [WindowShuffle(10_149, 1, 0), WindowShuffle(10_149, 0, 1)]
    assert all(shuffle.numbers(0, 202).tolist() != numbers[:202].tolist() for shuffle in other)
    assert WindowShuffle(5_000_000, 0, 0).window == 20_000


def test_the_blocks_of_a_step_are_far_from_each_other():
    shuffle = WindowShuffle(5_000_000, 0, 0)
    for start in range(0, 200_000, 1_000):
        numbers = np.sort(shuffle.numbers(start, start + 64))
        if start // 20_000 == (start + 63) // 20_000:
            assert np.diff(numbers).min() >= 100, "of 312 on average"


def test_an_epoch_reads_every_block_of_the_stream_once(larger):
    batches = loader(larger, (10_000, AWR()))
    view = batches.view(AWR(), 0)
    assert WindowShuffle(len(view), 0, 0).window > 10
    rows = np.concatenate([batch.tokens for batch in take(batches, len(view) // 4)])
    expected = view.read(0, len(view))[0]
    assert rows[:100].tolist() != expected[:100].tolist()
    whole = {tuple(row) for row in expected.tolist()}
    assert len(rows) >= len(view) - 3
    assert len({tuple(row) for row in rows.tolist()}) >= len(whole) - 3
    assert {tuple(row) for row in rows.tolist()} <= whole


# changes of objective


@pytest.mark.parametrize("step", [0, 1, 3, 30, 33])
@pytest.mark.parametrize(("first", "second"), [(MLE(), Conditional(0.0, drop=0.0)), (Conditional(0.0), Filtering(-0.6))])
def test_a_change_of_objective_reads_no_document_again_and_skips_one_window(larger, step, first, second):
    batches = loader(larger, (step, first), (10_000, second))
    window = WindowShuffle(len(batches.view(first, 0)), 0, 0).window
    before = take(batches, step)
    after = list(
        itertools.takewhile(lambda batch: batch.after.epoch == 0, batches.after(before[-1].after if step else Position()))
    )
    read = documents_of(before)
    resumed = documents_of(after)
    assert not read & resumed
    kept = documents_in(batches.view(second, 0))
    place = {int(number): place for place, number in enumerate(documents_in(batches.view(MLE(), 0)))}
    skipped = [number for number in kept if number not in read | resumed and place[number] < min(map(place.get, resumed))]
    longest = 5 * 12 // 16 + 1  # blocks that a document is in
    assert len(skipped) <= (window + longest) * 16, "every document has at least a token in the stream"
    assert blocks_between(batches.view(second, 0), read, resumed) <= window + longest


def documents_of(batches):
    numbers = [view.documents(blocks) for batch in batches for view, blocks in batch.sources]
    return {int(number) for part in numbers for number in part}


def documents_in(view):
    return view.documents(np.arange(len(view))).tolist()


def blocks_between(view, read, resumed):
    """Count the blocks of a view all of whose documents are neither read nor resumed at, before the last that is resumed at."""
    blocks = [set(view.documents(np.array([block])).tolist()) for block in range(len(view))]
    last = max(number for number, block in enumerate(blocks) if block & resumed)
    either = read | resumed
    return sum(block.isdisjoint(either) for block in blocks[:last])


def test_an_objective_of_the_same_stream_goes_on_inside_the_window(larger):
    alone = take(loader(larger, (20, MLE())), 20)
    changed = take(loader(larger, (7, AWR()), (20, MLE())), 20)
    for one, other in zip(alone, changed, strict=True):
        assert one.tokens.tolist() == other.tokens.tolist()


# what a step is made of

KINDS = [
    (18.11, 4.33), (14.40, 30.55), (12.07, 538.36), (10.01, 3.85), (8.96, 46.61), (7.59, 5.25), (6.12, 15.06), (5.13, 2.16),
    (3.65, 4.08), (3.07, 1.30), (2.17, 398.73), (1.55, 30.48), (1.53, 1.11), (1.24, 8.0), (0.88, 545.48), (0.75, 369.87),
    (0.73, 68.87), (0.62, 4.92), (0.60, 22.55), (0.38, 73.37), (0.30, 2.11), (0.14, 1.78),
]  # fmt: skip
"""Kinds of documents, as of the Pile: share of the bytes, and mean KiB of a document."""


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    """A store of 1.1 billion tokens in documents of such sizes, each in one segment; its token file is sparse."""
    folder, rng, tokens = tmp_path_factory.mktemp("mixture"), np.random.default_rng(0), 1_100_000_000
    sizes = []
    for weight, mean in KINDS:
        # 4 bytes a token; exp(N(-0.32, 0.8)) has mean 1.
        count = round(tokens * weight / 100 / (mean * 1024 / 4))
        sizes.append(np.maximum(1, mean * 256 * rng.lognormal(-0.32, 0.8, count)).astype(np.int64))
    lengths = rng.permutation(np.concatenate(sizes))
    segments, documents = np.zeros(len(lengths), SEGMENT), np.zeros(len(lengths), DOCUMENT)
    segments["start"], documents["segment"] = np.cumsum(lengths) - lengths, np.arange(len(lengths))
    total = int(lengths.sum())
    write_shard(folder, 0, np.zeros(0, np.uint16), segments, documents)
    with (folder / "tokens-00000.bin").open("wb") as file:
        file.truncate(2 * total)
    checksums.forget(folder)  # that of the token file
    sizes = {"tokens": total, "segments": len(lengths), "documents": len(lengths)}
    meta = {"finished": True, "made_from": {}, "counts": sizes, "shards": [sizes], "dtype": "uint16", "vocab_size": 50_257}
    write_json(folder / "meta.json", meta | {"document_start": 1})
    return TokenStore.open(folder)


def effective_documents(view, blocks):
    """Return how many documents of equal size the tokens of some blocks amount to: 1 / sum of squared shares."""
    pieces = view._pieces(blocks)
    tokens = np.bincount(np.unique(pieces.kept, return_inverse=True)[1], pieces.high - pieces.low)
    return tokens.sum() ** 2 / (tokens**2).sum()


def test_a_step_has_as_many_documents_as_of_a_full_permutation(mixture):
    batches = DataLoader(mixture, [Phase(1, MLE())], 64, 1024, 0, ())
    view = batches.view(MLE(), 0)
    steps = np.linspace(0, len(view) // 64 - 1, 300).astype(int)
    in_windows = []
    for step in steps:
        (batch,) = take(batches, 1, Position(int(step), 0, int(step) * 64))
        ((_, blocks),) = batch.sources
        assert batch.tokens.shape == (64, 1025)
        in_windows.append(effective_documents(view, blocks))
    order = np.random.default_rng(1).permutation(len(view))
    permuted = [effective_documents(view, order[step * 64 : step * 64 + 64]) for step in steps]
    in_stream_order = [effective_documents(view, np.arange(step * 64, step * 64 + 64)) for step in steps]
    assert np.median(in_windows) >= 0.95 * np.median(permuted)
    # A document of a thousand blocks has its share of every step of its window, whatever the order inside it.
    assert np.percentile(in_windows, 10) >= 0.9 * np.percentile(permuted, 10)
    assert np.mean(in_windows) >= 0.95 * np.mean(permuted)
    assert np.median(in_stream_order) < 0.3 * np.median(in_windows), "what shuffling is for"


# errors


def test_documents_are_named(store):
    (batch,) = take(loader(store, (1, MLE()), size=32), 1)
    names = batch.documents(limit=2)
    assert names.count("doc-") == 2
    assert names.endswith("more")


def test_an_epoch_without_a_block_is_an_error(store):
    with pytest.raises(InputError, match=r"under Filtering an epoch has \d+ tokens, less than one block of 100000"):
        take(loader(store, (1, Filtering(threshold=-0.1)), context=100_000), 1)


@pytest.mark.parametrize("fields", [{}, [], {"step": 1, "epoch": "x", "block": 0, "origin": 0}, {"step": 3}])
def test_a_damaged_position_names_its_file(tmp_path, fields):
    with pytest.raises(InputError, match=r"position.json: expected the integers step, epoch, block, origin"):
        Position.from_json(fields, tmp_path / "position.json")


def test_a_position_in_the_order_of_old_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"position.json: written by a phf that read its documents in another order"):
        Position.from_json({"step": 3, "epoch": 0, "block": 12}, tmp_path / "position.json")
    assert Position.from_json({"step": 3, "epoch": 0, "block": 12, "origin": 2}, tmp_path) == Position(3, 0, 12, 2)
