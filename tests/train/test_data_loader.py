"""DataLoader across epochs and changes of objective, and from wherever training was stopped."""

import itertools

import numpy as np
import pytest

from phf.errors import InputError
from phf.objectives import MLE, Conditional, Filtering
from phf.tokens.store import TokenStore
from phf.train.data_loader import DataLoader, Phase, Position
from support import tiny_corpora as tiny

CONTROLS = (900, 901)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return TokenStore.open(tiny.token_store(tmp_path_factory.mktemp("corpus")))


def batches(store, *phases, size=4, context=16):
    return DataLoader(store, [Phase(until, objective) for until, objective in phases], size, context, 0, CONTROLS)


def take(made, count, position=None):
    return list(itertools.islice(made.after(position or Position()), count))


def test_from_any_position_the_same_batches_follow(store):
    made = batches(store, (7, MLE()), (30, Conditional(threshold=0.0)), (140, MLE()))
    straight = take(made, 140)
    assert straight[-1].after.epoch >= 1, "the corpus is small: the last are of a second epoch"
    for stopped in (0, 6, 7, 8, 29, 30, 31, 110):
        position = straight[stopped - 1].after if stopped else Position()
        assert position.step == stopped
        for batch, again in zip(straight[stopped:], take(made, 140 - stopped, position), strict=True):
            assert batch.tokens.tolist() == again.tokens.tolist()
            np.testing.assert_array_equal(batch.rewards, again.rewards)
            assert (batch.objective, batch.after) == (again.objective, again.after)


def test_each_phase_has_its_objective_and_its_control_tokens(store):
    conditional = Conditional(threshold=0.0, drop=0.0)
    found = take(batches(store, (5, MLE()), (12, conditional), (15, MLE())), 15)
    assert [batch.objective for batch in found] == [MLE()] * 5 + [conditional] * 7 + [MLE()] * 3
    has_controls = [bool(np.isin(batch.tokens, CONTROLS).any()) for batch in found]
    assert has_controls == [False] * 5 + [True] * 7 + [False] * 3


def test_a_change_of_objective_reads_no_document_again(store):
    found = take(batches(store, (3, MLE()), (6, Conditional(threshold=0.0, drop=0.0))), 6)
    seen = [set(documents_of(batch)) for batch in found]
    before, after = set.union(*seen[:3]), set.union(*seen[3:])
    assert not before & after
    order = np.random.default_rng(np.random.SeedSequence([0, 0]).spawn(2)[0]).permutation(len(store.first) - 1).tolist()
    gap = min(map(order.index, after)) - max(map(order.index, before))
    assert 1 <= gap <= 1 + 16 // 4, "at most a block of documents is passed over"


def documents_of(batch):
    return [int(number) for view, start, stop in batch.spans for number in view.documents(start, stop)]


def test_documents_are_named(store):
    (batch,) = take(batches(store, (1, MLE()), size=32), 1)
    names = batch.documents(limit=2)
    assert names.count("doc-") == 2
    assert names.endswith("more")


def test_an_epoch_without_a_block_is_an_error(store):
    with pytest.raises(InputError, match=r"under Filtering an epoch has \d+ tokens, less than one block of 100000"):
        take(batches(store, (1, Filtering(threshold=-0.1)), context=100_000), 1)
