"""The token store, its views and their cache, against a plain Python specification of the stream."""

import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phf import checksums
from phf.artifacts import write_json
from phf.errors import InputError
from phf.objectives import AWR, MLE, RWR, Conditional, Filtering, Unlikelihood
from phf.tokens import index_cache
from phf.tokens.permutation import Permutation
from phf.tokens.store import DOCUMENT, SEGMENT, TokenStore, write_shard
from phf.tokens.stream import documents_of
from support.whole_store import first_segments_of, rewards_of, starts_of, tokens_of

START, GOOD, BAD = 0, 100, 101
META = {"finished": True, "document_start": START, "vocab_size": 80_000, "made_from": {}, "counts": {}, "annotated": "gone"}


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
    write_json(folder / "meta.json", META | {"dtype": "uint16", "shards": sizes})
    return TokenStore.open(folder)


def specified_stream(store, documents, objective, seed, epoch, control_ids):
    """Give the whole epoch's tokens and rewards, slowly and plainly."""
    _, drop_seed = np.random.SeedSequence([seed, epoch]).spawn(2)
    order = Permutation(len(documents), seed, epoch)(np.arange(len(documents)))
    controls = objective.controls(rewards_of(store), np.random.default_rng(drop_seed))
    first = first_segments_of(store)
    tokens, rewards = [], []
    for number in order:
        if not objective.keep(np.array([reward for _, reward in documents[number]], np.float32)):
            continue
        tokens.append(START)
        rewards.append(np.nan)
        for offset, (ids, reward) in enumerate(documents[number]):
            control = controls[first[number] + offset]
            prefix = [] if control < 0 else [control_ids[control]]
            tokens += [*prefix, *ids]
            rewards += [reward] * (len(prefix) + len(ids))
    return np.array(tokens), np.array(rewards, np.float32)


segment = st.tuples(st.lists(st.integers(1, 99), min_size=1, max_size=6), st.sampled_from([0.0, -0.5, np.nan]))
document = st.lists(segment, min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)  # each writes a store
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
    mixed = np.array(data.draw(st.permutations(range(len(view)))))
    for row, block in zip(view.gather(mixed)[0], mixed, strict=True):
        assert row.tolist() == tokens[block * context : (block + 1) * context + 1].tolist()
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

    def documents(objective, epoch=0):
        view = store.view(objective, 2, 3, epoch, (GOOD, BAD) if objective.control_tokens else ())
        return view.documents(np.arange(len(view))).tolist()

    whole = documents(MLE())
    assert sorted(whole) == [0, 1, 2, 3, 4]
    assert documents(Conditional(threshold=0.0)) == whole
    fewer = documents(Filtering(threshold=-0.7))
    assert fewer == [number for number in whole if number in fewer]
    assert any(documents(MLE(), epoch) != whole for epoch in range(1, 4))


def test_blocks_name_their_documents(tmp_path):
    store = make_store(tmp_path, DOCUMENTS)
    view = store.view(MLE(), 3, seed=1)
    for block in range(len(view)):
        inside = {int(token) for token in view.read(block, block + 1)[0][0] if token != START}
        named = view.documents(np.array([block]))
        assert inside == {token for number in named for token in _tokens_of(store, number)} & inside
        assert len(named) <= 4
    assert list(store.names(np.array([0, 3, 4]))) == ["part 0 row 0", "part 1 row 0", "part 1 row 1"]


def _tokens_of(store, number):
    starts, first = starts_of(store), first_segments_of(store)
    return tokens_of(store)[starts[first[number]] : starts[first[number + 1]]].tolist()


def specified_starts(documents, objective, seed, control_ids):
    """Give (document, its first token's place in the stream) of each one kept, plainly; every scored segment has a control."""
    order = Permutation(len(documents), seed, 0)(np.arange(len(documents)))
    found, length = [], 0
    for number in order:
        if objective.keep(np.array([reward for _, reward in documents[number]], np.float32)):
            found.append((int(number), length))
            scored = sum(not np.isnan(reward) for _, reward in documents[number]) if control_ids else 0
            length += 1 + sum(len(ids) for ids, _ in documents[number]) + scored
    return order.tolist(), found


@settings(max_examples=40, deadline=None)
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


def test_large_vocabularies_are_kept(tmp_path):
    write_shard(tmp_path, 0, np.array([70_000, 5], np.uint32), np.array([(0, 0.0)], SEGMENT), np.array([(0, 0, 0)], DOCUMENT))
    shards = [{"tokens": 2, "segments": 1, "documents": 1}]
    write_json(tmp_path / "meta.json", META | {"dtype": "uint32", "shards": shards})
    assert TokenStore.open(tmp_path).view(MLE(), 2, 0).read(0, 1)[0].tolist() == [[START, 70_000, 5]]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "meta.json").unlink(), "not a finished phf output"),
        (lambda folder: (folder / "meta.json").write_text("{"), "not valid JSON"),
        (lambda folder: (folder / "tokens-00000.bin").write_bytes(b"\0\0"), "tokens-00000.bin: damaged: it has 2 bytes"),
        (lambda folder: [checksums.forget(folder), (folder / "tokens-00000.bin").write_bytes(b"\0\0")], "meta.json says"),
        (lambda folder: write_json(folder / "meta.json", {"finished": False}), "run `phf tokenize` again"),
    ],
)
def test_a_spoiled_store_says_what_is_wrong(tmp_path, spoil, message):
    make_store(tmp_path, DOCUMENTS)
    if "damaged" not in message:  # stores of former versions have no checksums
        checksums.forget(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=message):
        TokenStore.open(tmp_path)


def test_a_missing_store_says_who_writes_one(tmp_path):
    with pytest.raises(InputError, match="phf tokenize"):
        TokenStore.open(tmp_path / "nowhere")


def many_documents(folder):
    """A store of documents with up to 300 segments, so that the coarse index counts."""
    rng = np.random.default_rng(0)
    shards = [
        [
            [(rng.integers(1, 99, rng.integers(1, 5)).tolist(), float(rng.choice([0.0, -0.5, np.nan]))) for _ in range(size)]
            for size in rng.integers(1, 300, 12)
        ]
        for _ in range(3)
    ]
    return make_store(folder, shards), [document for shard in shards for document in shard]


@pytest.mark.parametrize("objective", [MLE(), Conditional(threshold=0.0, drop=0.3), Filtering(threshold=-0.25)])
@pytest.mark.parametrize("in_chunks", [False, True])
def test_long_documents_in_any_order(tmp_path, monkeypatch, objective, in_chunks):
    if in_chunks:  # as of a store that is larger than memory
        monkeypatch.setattr("phf.tokens.shard._CHUNK_DOCUMENTS", 5)
        monkeypatch.setattr("phf.tokens.shard._CHUNK_SEGMENTS", 50)
        monkeypatch.setattr("phf.tokens.epoch_index._CHUNK_DOCUMENTS", 7)
    store, documents = many_documents(tmp_path)
    ids = [GOOD, BAD][: len(objective.control_tokens)]
    view = store.view(objective, 16, 5, 2, ids)
    tokens, rewards = specified_stream(store, documents, objective, 5, 2, ids)
    assert view.tokens == len(tokens)
    numbers = np.random.default_rng(1).permutation(len(view))
    blocks, block_rewards = view.gather(numbers)
    at = numbers[:, None] * 16 + np.arange(17)
    assert np.array_equal(blocks, tokens[at])
    np.testing.assert_array_equal(block_rewards, rewards[at])


# the cache


def counted(monkeypatch):
    """Count the passes over a store."""
    passes = []
    write = index_cache.write_index
    monkeypatch.setattr(index_cache, "write_index", lambda *arguments: (passes.append(1), write(*arguments)))
    return passes


def test_an_epoch_is_computed_once_for_all_processes_and_older_ones_are_deleted(tmp_path, monkeypatch):
    passes = counted(monkeypatch)
    make_store(tmp_path, DOCUMENTS)
    conditional = Conditional(threshold=0.0)
    for _ in range(2):
        store = TokenStore.open(tmp_path)
        for objective, ids in [(MLE(), ()), (AWR(), ()), (RWR(), ()), (conditional, (GOOD, BAD))]:
            store.view(objective, 2, 0, 0, ids).read(0, 1)
    assert len(passes) == 2, "objectives that leave the data alone share an index"
    old = store.view(MLE(), 2, 0, 0)
    expected = old.read(0, 2)[0]
    store.view(MLE(), 2, 0, 1)
    store.view(MLE(), 2, 1, 0)
    names = sorted(path.name for path in (tmp_path / "indexes").iterdir() if path.is_dir())
    assert names[:2] == ["all-seed-0-epoch-1", "all-seed-1-epoch-0"]
    assert len(names) == 3, "the conditional one stays"
    assert np.array_equal(old.read(0, 2)[0], expected), "who reads a deleted one goes on reading"


def test_nobody_waits_for_the_pass_of_another_objective_or_deletes_its_temporary_folder(tmp_path, monkeypatch):
    store = make_store(tmp_path, DOCUMENTS)
    write, meanwhile = index_cache.write_index, ThreadPoolExecutor(1)
    survived = []

    def write_while_another_starts(folder, shards, objective, *arguments):
        if isinstance(objective, Conditional):
            assert meanwhile.submit(store.view, MLE(), 2, 0).result(timeout=10).tokens
            assert meanwhile.submit(store.resolve, Unlikelihood(threshold="p50")).result(timeout=10)[0].threshold < 0
            survived.append(folder.is_dir())
        write(folder, shards, objective, *arguments)

    monkeypatch.setattr(index_cache, "write_index", write_while_another_starts)
    view = store.view(Conditional(threshold=0.0), 2, 0, control_ids=(GOOD, BAD))
    assert survived == [True], "the one computed meanwhile swept only what was its own"
    assert view.tokens > store.view(MLE(), 2, 0).tokens


def test_what_a_killed_process_left_of_an_index_is_deleted_by_the_next(tmp_path):
    store = make_store(tmp_path, DOCUMENTS)
    leftover = tmp_path / "indexes" / ".all-seed-1-epoch-0.abc.tmp"
    leftover.mkdir(parents=True)
    store.view(MLE(), 2, 11)
    assert leftover.exists(), "another seed has another index"
    store.view(MLE(), 2, 1)
    assert not leftover.exists()


def test_an_index_of_other_files_is_computed_again(tmp_path, monkeypatch):
    passes = counted(monkeypatch)
    make_store(tmp_path, DOCUMENTS).view(MLE(), 2, 0)
    changed = make_store(tmp_path, DOCUMENTS[:1]).view(MLE(), 2, 0)
    assert len(passes) == 2
    assert changed.tokens == 5 + 1 + 5 + 3


def test_another_objective_of_the_same_fields_has_another_index(tmp_path):
    class Half(Filtering):
        def keep_each(self, rewards, starts):
            return np.arange(len(starts)) % 2 == 0

    store = make_store(tmp_path, DOCUMENTS[:1])
    assert store.view(Half(threshold=-9.0), 2, 0).tokens < store.view(Filtering(threshold=-9.0), 2, 0).tokens


def test_thresholds_are_resolved_once(tmp_path, monkeypatch):
    make_store(tmp_path, DOCUMENTS)
    first = TokenStore.open(tmp_path).resolve(Unlikelihood(threshold="p50"))
    assert first[0].threshold == pytest.approx(-0.05)
    assert first[1] is None
    monkeypatch.setattr(Unlikelihood, "resolve", None)
    assert TokenStore.open(tmp_path).resolve(Unlikelihood(threshold="p50")) == first
    remarked = TokenStore.open(tmp_path).resolve(Filtering(threshold=-9.0))
    assert remarked == TokenStore.open(tmp_path).resolve(Filtering(threshold=-9.0))
    assert "filtering keeps all 5 documents: this is maximum likelihood" in remarked[1]


def test_a_store_that_cannot_be_written_to_is_read(tmp_path, monkeypatch):
    store = make_store(tmp_path / "store", DOCUMENTS)
    expected = store.view(MLE(), 2, 0).read(0, 3)[0]
    shutil.rmtree(tmp_path / "store/indexes")
    monkeypatch.setattr("os.access", lambda *_: False)
    assert np.array_equal(store.view(MLE(), 2, 0).read(0, 3)[0], expected)
    assert not (tmp_path / "store/indexes").exists()


def _readers(folder):
    """What reads documents and segments: each as a function of nothing."""
    store = TokenStore.open(folder)

    def blocks():
        for objective, ids in ((MLE(), []), (Conditional(0.0, drop=0.2), [GOOD, BAD]), (Filtering(-0.2), [])):
            view = store.view(objective, 3, 0, control_ids=ids)
            if view.blocks:
                view.documents(np.arange(view.blocks))
                view.read(0, view.blocks)

    return {
        "rewards": lambda: list(store.rewards),
        "threshold": lambda: store.resolve(Conditional("p50")),
        "blocks": blocks,
        "stream": lambda: list(documents_of(store.view(Conditional(0.0), 3, 0, control_ids=[GOOD, BAD]))),
        "names": lambda: list(store.names(range(store.documents))),
    }


@settings(max_examples=30, deadline=None)
@given(data=st.data(), indexed=st.booleans())
def test_values_out_of_range_are_refused_by_every_reader_or_change_nothing_for_it(tmp_path_factory, data, indexed):
    folder = tmp_path_factory.mktemp("store")
    make_store(folder, DOCUMENTS)
    checksums.forget(folder)  # as in a folder of an earlier version
    for name, reader in _readers(folder).items():
        if indexed or name == "names":
            reader()
    name = data.draw(st.sampled_from(["documents-00000.npy", "segments-00000.npy"]))
    path = folder / name
    about, items = path.stat(), np.load(path)
    field = data.draw(st.sampled_from([field for field in items.dtype.names if field != "reward"]))
    value = data.draw(st.sampled_from([-(2**31), -1, 0, 1, 2, 5, 2**31 - 1]) | st.integers(-9, 99))
    items[field][data.draw(st.integers(0, len(items) - 1))] = value
    np.save(path, items)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    messages = []
    for reader in _readers(folder).values():
        try:
            reader()
        except InputError as error:
            messages.append(str(error))
    assert [message for message in messages if "\n" in message or name.split("-")[0] not in message] == []


@pytest.mark.parametrize(
    ("name", "field", "value", "message"),
    [
        ("documents-00000.npy", "segment", 2**40, "document 1 begins at segment 1099511627776, and what follows it at 3"),
        ("documents-00000.npy", "segment", -1, "document 0 begins at segment 0, and what follows it at -1"),
        ("documents-00000.npy", "part", -7, "document 1 is from part -7, row 1"),
        ("segments-00000.npy", "start", 2**40, "segment 1 begins at token 1099511627776, and what follows it at 5"),
        ("segments-00000.npy", "start", 0, "segment 0 begins at token 0, and what follows it at 0"),
    ],
)
def test_the_file_and_the_value_are_named(tmp_path, name, field, value, message):
    make_store(tmp_path, DOCUMENTS)
    checksums.forget(tmp_path)
    items = np.load(tmp_path / name)
    items[field][1] = value
    np.save(tmp_path / name, items)
    with pytest.raises(InputError, match=rf"{name}: not what `phf tokenize` wrote: .*{message}; delete"):
        TokenStore.open(tmp_path).view(Conditional(0.0), 2, 0, control_ids=[GOOD, BAD])


def test_tokens_that_the_vocabulary_does_not_have_are_refused(tmp_path):
    make_store(tmp_path, DOCUMENTS)
    checksums.forget(tmp_path)
    meta = json.loads((tmp_path / "meta.json").read_text())
    (tmp_path / "meta.json").write_text(json.dumps(meta | {"vocab_size": 2}))
    for objective, ids in ((MLE(), []), (Conditional(0.0), [GOOD, BAD])):
        with pytest.raises(InputError, match=r"tokens-\*\.bin: not what `phf tokenize` wrote: token \d+ in a vocabulary of 2"):
            TokenStore.open(tmp_path).view(objective, 2, 0, control_ids=ids).read(0, 2)


@pytest.mark.parametrize("item", ["reward", "start"])
@pytest.mark.parametrize("objective", [Conditional(-0.1), Conditional("p50"), Filtering(-9.0), Filtering("p50"), AWR()], ids=repr)
def test_damage_that_is_found_after_the_rewards_were_read_is_said_and_nothing_of_them_is_kept(
    tmp_path, monkeypatch, item, objective
):
    store = make_store(tmp_path, DOCUMENTS)
    path = tmp_path / "segments-00000.npy"
    items = np.load(path)
    items[item][1] = 10_000 if item == "start" else np.nan  # the one is found while reading, too, the other by its checksum alone
    np.save(path, items)
    verify = checksums.verify
    monkeypatch.setattr(checksums, "verify", lambda path: (time.sleep(0.05), verify(path)))
    with pytest.raises(checksums.Damaged, match=r"segments-00000\.npy"):
        store.resolve(objective)
    with pytest.raises(checksums.Damaged, match=r"segments-00000\.npy"):
        store.view(Conditional(-0.1), 2, 0, control_ids=[GOOD, BAD])
    assert [path.name for path in (tmp_path / "indexes").iterdir() if not path.name.startswith(".")] == []
