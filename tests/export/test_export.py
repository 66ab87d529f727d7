"""Exports are read back by the libraries they are for, and hold what our own view holds, token for token."""

import itertools
import json
import struct
import tracemalloc

import numpy as np
import pyarrow.parquet as pq
import pytest

from phf import config
from phf.cli import main
from phf.errors import InputError
from phf.export import export
from phf.tokens import TokenStore, documents_of, load_tokenizer
from support import tiny_corpora as tiny
from support.views import CONDITIONAL, our_view


@pytest.fixture(scope="module")
def corpus():
    return tiny.documents(130)


@pytest.fixture(scope="module")
def store(tmp_path_factory, corpus):
    return tiny.token_store(tmp_path_factory.mktemp("store"), corpus)


@pytest.mark.parametrize(
    "component", [config.Component(name="mle"), CONDITIONAL, config.Component(name="filtering", threshold="p50")]
)
def test_datasets_reads_back_our_view(store, tmp_path, component):
    datasets = pytest.importorskip("datasets")
    export(store, tmp_path / "out", component, "datasets", seed=3, epoch=1)
    rows = datasets.load_from_disk(str(tmp_path / "out"))
    tokens, rewards = our_view(store, component, seed=3, epoch=1)
    assert len(rows) > 20
    np.testing.assert_array_equal(np.concatenate(rows["input_ids"]), tokens)
    np.testing.assert_array_equal(np.concatenate(rows["rewards"]).astype(np.float32), rewards)
    assert set(np.concatenate(rows["loss_weights"])) == {1.0}
    start = TokenStore.open(store).meta["document_start"]
    assert all(row[0] == start and row.count(start) == 1 for row in rows["input_ids"])


def test_loss_weights_are_those_of_the_objective(store, tmp_path):
    datasets = pytest.importorskip("datasets")
    export(store, tmp_path / "rwr", config.Component(name="rwr", beta=0.5), "datasets")
    rows = datasets.load_from_disk(str(tmp_path / "rwr"))
    rewards = np.concatenate(rows["rewards"]).astype(np.float32)
    assert {-1.0, 0.0} <= set(rewards[~np.isnan(rewards)])
    scored = ~np.isnan(rewards)
    np.testing.assert_allclose(np.concatenate(rows["loss_weights"])[scored], np.exp(rewards[scored] / 0.5), rtol=1e-6)
    export(store, tmp_path / "unlikelihood", config.Component(name="unlikelihood", threshold=0.0), "datasets")
    assert "loss_weights" not in datasets.load_from_disk(str(tmp_path / "unlikelihood")).column_names


def test_text_has_control_tokens_and_is_the_documents(store, corpus, tmp_path):
    export(store, tmp_path / "out.jsonl", CONDITIONAL, "jsonl")
    export(store, tmp_path / "out.parquet", CONDITIONAL, "parquet")
    texts = [json.loads(line)["text"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert texts == pq.read_table(tmp_path / "out.parquet")["text"].to_pylist()
    marked = {
        "".join(
            ("<|misaligned|>" if reward < 0 else "<|aligned|>") + segment
            for segment, reward in zip(document.segments, document.rewards, strict=True)
        )
        for document in corpus
    }
    assert len(texts) > 100
    assert set(texts) <= marked
    tokenizer = load_tokenizer(store / "tokenizer")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|aligned|>", "<|misaligned|>"]})
    start = TokenStore.open(store).meta["document_start"]
    stream = [token for text in texts for token in [start, *tokenizer(text, add_special_tokens=False).input_ids]]
    np.testing.assert_array_equal(stream, our_view(store, CONDITIONAL)[0])


def test_megatron_files_are_the_format(store, tmp_path):
    """Against the format's description: `MMIDIDX`, version, dtype, counts, lengths, offsets in bytes, documents."""
    summary = export(store, tmp_path / "out", CONDITIONAL, "megatron")
    index = (tmp_path / "out.idx").read_bytes()
    magic, version, code, sequences, documents = struct.unpack_from("<9sQBQQ", index)
    assert (magic, version, code, sequences, documents) == (b"MMIDIDX\0\0", 1, 8, summary.documents, summary.documents + 1)
    at = struct.calcsize("<9sQBQQ")
    lengths = np.frombuffer(index, np.int32, sequences, at)
    offsets = np.frombuffer(index, np.int64, sequences, at + 4 * sequences)
    begins = np.frombuffer(index, np.int64, documents, at + 12 * sequences)
    assert len(index) == at + 12 * sequences + 8 * documents
    tokens = np.fromfile(tmp_path / "out.bin", np.uint16)
    np.testing.assert_array_equal(tokens, our_view(store, CONDITIONAL)[0])
    np.testing.assert_array_equal(offsets, 2 * (np.cumsum(lengths) - lengths))
    np.testing.assert_array_equal(begins, np.arange(sequences + 1))
    assert lengths.sum() == summary.tokens == len(tokens)


def test_long_documents_and_block_borders(tmp_path, monkeypatch):
    """Wherever reads are cut, the stream is the same."""
    from phf.tokens import stream

    store = tiny.token_store(tmp_path, tiny.documents(60))
    expected = our_view(store, CONDITIONAL)[0]
    for context in range(1, 12):
        monkeypatch.setattr(stream, "_CONTEXT", context)
        view = TokenStore.open(store).view(config.build("objectives", CONDITIONAL), 1, 0, 0, [300, 301])
        np.testing.assert_array_equal(np.concatenate([document.tokens for document in stream.documents_of(view)]), expected)


def test_whole_or_not_there(store, tmp_path, monkeypatch):
    from phf.export import documents

    def breaks_off(view):
        yield from itertools.islice(documents_of(view), 5)
        raise InputError("unreadable")

    for to in ("jsonl", "parquet", "datasets", "megatron"):
        with monkeypatch.context() as patched:
            patched.setattr(documents, "documents_of", breaks_off)
            with pytest.raises(InputError, match="unreadable"):
                export(store, tmp_path / to, CONDITIONAL, to)
        assert not list(tmp_path.iterdir())


def test_an_output_that_exists_is_left_alone(store, tmp_path):
    (tmp_path / "out.bin").write_text("mine")
    with pytest.raises(InputError, match=r"out\.bin: exists already"):
        export(store, tmp_path / "out", CONDITIONAL, "megatron")
    assert (tmp_path / "out.bin").read_text() == "mine"


def test_the_command(store, tmp_path, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["export", str(store), str(tmp_path / "o.jsonl"), "--objective", "conditional", "runs.conditional.threshold=0"])
    assert "documents" in capsys.readouterr().out
    assert "<|aligned|>" in (tmp_path / "o.jsonl").read_text()


def test_a_text_that_spells_a_control_token_is_reported(tmp_path, caplog):
    made = tiny.documents(40)
    made[3].segments[0] = "It says <|aligned|> here. "
    store = tiny.token_store(tmp_path, made)
    export(store, tmp_path / "out.jsonl", CONDITIONAL, "jsonl")
    assert "1 documents spell a control token" in caplog.text


@pytest.mark.parametrize("to", ["jsonl", "megatron"])
def test_memory_does_not_grow_with_the_corpus(tmp_path, to, monkeypatch):
    from phf.tokens import stream

    monkeypatch.setattr(stream, "_CONTEXT", 64)
    peaks = []
    for count in (200, 2000):
        store = tiny.token_store(tmp_path / str(count), tiny.documents(count))
        export(store, tmp_path / f"first-{count}", CONDITIONAL, to)  # computes the index, once
        tracemalloc.start()
        export(store, tmp_path / f"out-{count}", CONDITIONAL, to)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0], peaks
