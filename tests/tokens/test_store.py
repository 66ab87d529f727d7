"""The token store and its views, against a plain Python specification of the stream."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phf.artifacts import write_json
from phf.errors import InputError
from phf.objectives import MLE, Conditional, Filtering
from phf.tokens.store import DOCUMENT, SEGMENT, TokenStore, write_shard

START, GOOD, BAD = 0, 100, 101


def make_store(folder, shards):
    """Write shards, each a list of documents, each a list of (tokens, reward)."""
    sizes = []
    for number, documents in enumerate(shards):
        tokens, segments, rows = [], [], []
        for row, document in enumerate(documents):
            rows.append((len(segments), number, row))
            for ids, reward in document:
                segments.append((len(tokens), reward))
                tokens.extend(ids)
        write_shard(folder, number, np.array(tokens, np.uint16), np.array(segments, SEGMENT), np.array(rows, DOCUMENT))
        sizes.append({"tokens": len(tokens), "segments": len(segments), "documents": len(rows)})
    write_json(
        folder / "meta.json", {"finished": True, "dtype": "uint16", "document_start": START, "shards": sizes, "annotated": "gone"}
    )
    return TokenStore.open(folder)


def specified_stream(store, documents, objective, seed, epoch, control_ids):
    """Give the whole epoch's tokens and rewards, slowly and plainly."""
    order_seed, drop_seed = np.random.SeedSequence([seed, epoch]).spawn(2)
    order = np.random.default_rng(order_seed).permutation(len(documents))
    controls = objective.controls(store.rewards, np.random.default_rng(drop_seed))
    tokens, rewards = [], []
    for number in order:
        if not objective.keep(np.array([reward for _, reward in documents[number]], np.float32)):
            continue
        tokens.append(START)
        rewards.append(np.nan)
        for offset, (ids, reward) in enumerate(documents[number]):
            control = controls[store.first[number] + offset]
            prefix = [] if control < 0 else [control_ids[control]]
            tokens += [*prefix, *ids]
            rewards += [reward] * (len(prefix) + len(ids))
    return np.array(tokens), np.array(rewards, np.float32)


segment = st.tuples(st.lists(st.integers(1, 99), min_size=1, max_size=6), st.sampled_from([0.0, -0.5, np.nan]))
document = st.lists(segment, min_size=1, max_size=4)


@settings(max_examples=80, deadline=None)
@given(
    shards=st.lists(st.lists(document, min_size=1, max_size=6), min_size=1, max_size=3),
    objective=st.sampled_from([MLE(), Conditional(threshold=0.0, drop=0.3), Filtering(threshold=-0.2)]),
    context=st.integers(2, 7),
    seed=st.integers(0, 3),
    data=st.data(),
)
def test_blocks_are_the_stream_cut_with_one_token_of_overlap(tmp_path_factory, shards, objective, context, seed, data):
    store = make_store(tmp_path_factory.mktemp("store"), shards)
    ids = [GOOD, BAD][: len(objective.control_tokens)]
    view = store.view(objective, context, seed, epoch=1, control_ids=ids)
    tokens, rewards = specified_stream(store, [d for shard in shards for d in shard], objective, seed, 1, ids)
    assert view.tokens == len(tokens)
    assert len(view) == max(0, len(tokens) - 1) // context
    if not len(view):
        return
    start = data.draw(st.integers(0, len(view) - 1))
    stop = data.draw(st.integers(start + 1, len(view)))
    blocks, block_rewards = view.read(start, stop)
    assert blocks.shape == block_rewards.shape == (stop - start, context + 1)
    assert blocks.dtype == np.int64
    assert block_rewards.dtype == np.float32
    for row, block in enumerate(range(start, stop)):
        span = slice(block * context, (block + 1) * context + 1)
        assert blocks[row].tolist() == tokens[span].tolist()
        np.testing.assert_array_equal(block_rewards[row], rewards[span])


DOCUMENTS = [
    [[([1, 2, 3], 0.0), ([4, 5], -1.0)], [([6], np.nan)], [([7, 8, 9, 10], -2.0), ([11], 0.0)]],
    [[([12, 13], 0.0)], [([14] * 9, -0.1)]],
]


def test_each_token_is_predicted_once(tmp_path):
    view = make_store(tmp_path, DOCUMENTS).view(MLE(), 4, seed=0)
    blocks, _ = view.read(0, len(view))
    predicted = blocks[:, 1:].reshape(-1)
    first = blocks[0, 0]
    assert first == START
    assert len(predicted) == view.blocks * 4
    assert np.array_equal(blocks[1:, 0], blocks[:-1, -1])


def test_order_of_documents_is_the_same_under_every_objective(tmp_path):
    store = make_store(tmp_path, DOCUMENTS)
    kept_by = [store.view(o, 2, 3, control_ids=ids)._kept for o, ids in [(MLE(), ()), (Conditional(threshold=0.0), (GOOD, BAD))]]
    assert kept_by[0].tolist() == kept_by[1].tolist()
    fewer = store.view(Filtering(threshold=-0.7), 2, 3)._kept.tolist()
    assert fewer == [number for number in kept_by[0].tolist() if number in fewer]
    assert store.view(MLE(), 2, 3, epoch=1)._kept.tolist() != kept_by[0].tolist()


def test_blocks_name_their_documents(tmp_path):
    store = make_store(tmp_path, DOCUMENTS)
    view = store.view(MLE(), 3, seed=1)
    for block in range(len(view)):
        inside = {int(token) for token in view.read(block, block + 1)[0][0] if token != START}
        named = view.documents(block, block + 1)
        assert inside <= {token for number in named for shard in store.tokens for token in _tokens_of(store, number)}, (
            "a token of the block is in none of the named documents"
        )
        assert len(named) <= 4
    assert list(store.names(np.array([0, 3, 4]))) == ["part 0 row 0", "part 1 row 0", "part 1 row 1"]


def _tokens_of(store, number):
    flat = np.concatenate(store.tokens)
    return flat[store.starts[store.first[number]] : store.starts[store.first[number + 1]]].tolist()


def specified_starts(documents, objective, seed, control_ids):
    """Give (document, its first token's place in the stream) of each one kept, plainly; every scored segment has a control."""
    order = np.random.default_rng(np.random.SeedSequence([seed, 0]).spawn(2)[0]).permutation(len(documents))
    found, length = [], 0
    for number in order:
        if objective.keep(np.array([reward for _, reward in documents[number]], np.float32)):
            found.append((int(number), length))
            scored = sum(not np.isnan(reward) for _, reward in documents[number]) if control_ids else 0
            length += 1 + sum(len(ids) for ids, _ in documents[number]) + scored
    return order.tolist(), found


@settings(max_examples=100, deadline=None)
@given(
    shards=st.lists(st.lists(document, min_size=1, max_size=6), min_size=1, max_size=3),
    objectives=st.permutations([MLE(), Conditional(threshold=0.0, drop=0.0), Filtering(threshold=-0.2)]),
    contexts=st.tuples(st.integers(2, 7), st.integers(2, 7)),
    seed=st.integers(0, 3),
    data=st.data(),
)
def test_another_objective_goes_on_with_the_first_document_not_begun(tmp_path_factory, shards, objectives, contexts, seed, data):
    store = make_store(tmp_path_factory.mktemp("store"), shards)
    documents = [document for shard in shards for document in shard]
    first, second = objectives[:2]
    ids = [[GOOD, BAD][: len(objective.control_tokens)] for objective in (first, second)]
    old = store.view(first, contexts[0], seed, control_ids=ids[0])
    new = store.view(second, contexts[1], seed, control_ids=ids[1])
    block = data.draw(st.integers(0, len(old)))
    order, starts = specified_starts(documents, first, seed, ids[0])
    left = [number for number, start in starts if start >= block * contexts[0]]
    place = old.place(block)
    assert place == (order.index(left[0]) if left else len(order))
    _, starts = specified_starts(documents, second, seed, ids[1])
    ahead = [start for number, start in starts if order.index(number) >= place]
    assert new.block_at(place) == (min(len(new), -(-ahead[0] // contexts[1])) if ahead else len(new))


def test_summary_counts_what_the_objective_sees(tmp_path):
    store = make_store(tmp_path, DOCUMENTS)
    summary = store.view(Conditional(threshold=-0.5, drop=0.0), 2, 0, control_ids=(GOOD, BAD)).summary()
    total = 3 + 2 + 1 + 4 + 1 + 2 + 9
    assert summary["documents"] == 5
    assert summary["tokens"] == total + 5 + 6  # a start a document, a control token a scored segment
    assert summary["aligned_share"] == pytest.approx((3 + 1 + 2 + 9) / total)
    assert summary["misaligned_share"] == pytest.approx((2 + 4) / total)
    assert summary["unscored_share"] == pytest.approx(1 / total)


def test_large_vocabularies_are_kept(tmp_path):
    write_shard(tmp_path, 0, np.array([70_000, 5], np.uint32), np.array([(0, 0.0)], SEGMENT), np.array([(0, 0, 0)], DOCUMENT))
    shards = [{"tokens": 2, "segments": 1, "documents": 1}]
    write_json(tmp_path / "meta.json", {"finished": True, "dtype": "uint32", "document_start": START, "shards": shards})
    assert TokenStore.open(tmp_path).view(MLE(), 2, 0).read(0, 1)[0].tolist() == [[START, 70_000, 5]]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "meta.json").unlink(), "not a finished phf output"),
        (lambda folder: (folder / "meta.json").write_text("{"), "not valid JSON"),
        (lambda folder: (folder / "tokens-00000.bin").write_bytes(b"\0\0"), "meta.json says"),
        (lambda folder: write_json(folder / "meta.json", {"finished": False}), "run `phf tokenize` again"),
    ],
)
def test_a_spoiled_store_says_what_is_wrong(tmp_path, spoil, message):
    make_store(tmp_path, DOCUMENTS)
    spoil(tmp_path)
    with pytest.raises(InputError, match=message):
        TokenStore.open(tmp_path)


def test_a_missing_store_says_who_writes_one(tmp_path):
    with pytest.raises(InputError, match="phf tokenize"):
        TokenStore.open(tmp_path / "nowhere")
