"""Tokenising: nothing is lost, nothing is added, stopped and continued is the same."""

import hashlib

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phf import config
from phf import tokenize as stage
from phf.artifacts import read_json
from phf.documents import Document, is_held_out, read_annotated
from phf.errors import InputError
from phf.tokens.store import TokenStore
from phf.tokens.tokenizer import DOCUMENT_START, encode, load_tokenizer, train_tokenizer
from support import tiny_corpora as tiny
from support.whole_store import first_segments_of, rewards_of, starts_of, tokens_of


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer((document.text for document in tiny.documents()), 300)


@settings(max_examples=100, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(["<|endoftext|>", "a <|aligned|> b", "\0\t\r\n", ""])
)
def test_every_text_comes_back(tokenizer, text):
    (ids,) = encode(tokenizer, [text])
    assert tokenizer.decode(ids) == text
    assert tokenizer.eos_token_id not in ids


def test_store_holds_the_training_documents(tmp_path):
    path = tiny.token_store(tmp_path)
    store, tokenizer = TokenStore.open(path), load_tokenizer(path / "tokenizer")
    kept = [document for document in read_annotated(tmp_path / "annotated") if not is_held_out(document.id, 0.1)]
    assert 0 < len(kept) < 120
    assert store.documents == len(kept)
    assert store.meta["segmenter"] == {"name": "sentences", "space": "after"}
    flat, starts, rewards, first = tokens_of(store), starts_of(store), rewards_of(store), first_segments_of(store)
    position = 0
    for number, document in enumerate(kept):
        for segment, reward in zip(document.segments, document.rewards, strict=True):
            assert tokenizer.decode(flat[starts[position] : starts[position + 1]]) == segment
            assert rewards[position] == reward
            position += 1
        assert first[number + 1] == position


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir()) if path.is_file()}


def test_stopped_and_continued_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "_SHARD_TOKENS", 300)
    whole = tiny.token_store(tmp_path / "whole", part=10)
    annotated = tiny.annotated(tmp_path / "other" / "annotated", part=10)
    options = config.Tokenize(vocab_size=300, held_out=0.1)
    out = tmp_path / "other" / "tokens"

    class Killed(BaseException):
        pass

    written = []

    def kill_after_two(*arguments):
        if len(written) == 2:
            raise Killed
        written.append(arguments)
        return write_shard(*arguments)

    write_shard = stage.write_shard
    monkeypatch.setattr(stage, "write_shard", kill_after_two)
    with pytest.raises(Killed):
        stage.tokenize(annotated, out, options)
    with pytest.raises(InputError, match="not finished"):
        TokenStore.open(out)
    monkeypatch.setattr(stage, "write_shard", write_shard)
    assert stage.tokenize(annotated, out, options).continued
    assert digests(out) == digests(whole)
    assert len(read_json(out / "meta.json")["shards"]) > 3


def test_a_finished_store_is_left_alone_and_another_is_refused(tmp_path):
    path = tiny.token_store(tmp_path)
    before = {file: file.stat().st_mtime_ns for file in path.iterdir()}
    summary = stage.tokenize(tmp_path / "annotated", path, config.Tokenize(vocab_size=300, held_out=0.1))
    assert summary.already_done
    assert {file: file.stat().st_mtime_ns for file in path.iterdir()} == before
    with pytest.raises(InputError, match=r"tokenize\.vocab_size was 300, now 301"):
        stage.tokenize(tmp_path / "annotated", path, config.Tokenize(vocab_size=301, held_out=0.1))


def test_a_tokenizer_from_a_folder(tmp_path, tokenizer):
    tokenizer.save_pretrained(tmp_path / "given")
    annotated = tiny.annotated(tmp_path / "annotated")
    stage.tokenize(annotated, tmp_path / "tokens", config.Tokenize(tokenizer=str(tmp_path / "given")))
    assert read_json(tmp_path / "tokens" / "meta.json")["vocab_size"] == len(tokenizer)
    assert TokenStore.open(tmp_path / "tokens").meta["document_start"] == tokenizer.convert_tokens_to_ids(DOCUMENT_START)


def test_the_number_of_processes_changes_no_byte(tmp_path):
    annotated = tiny.annotated(tmp_path / "annotated", tiny.documents(300), part=40)
    pq.write_table(pq.read_table(annotated / "part-00003.parquet"), annotated / "part-00003.parquet", row_group_size=7)
    for workers in (1, 3):
        options = config.Tokenize(vocab_size=300, held_out=0.2, workers=workers)
        stage.tokenize(annotated, tmp_path / str(workers), options)
    alone, together = tmp_path / "1", tmp_path / "3"
    for folder in ("", "held-out", "tokenizer"):
        assert digests(alone / folder) == digests(together / folder)
    assert stage.tokenize(annotated, alone, config.Tokenize(vocab_size=300, held_out=0.2, workers=2)).already_done


def test_an_error_in_a_process_is_raised(tmp_path):
    annotated = tiny.annotated(tmp_path / "annotated", part=10)
    with pytest.raises(InputError, match="no column 'toxicity'"):
        stage.tokenize(
            annotated, tmp_path / "tokens", config.Tokenize(column="toxicity", workers=2, tokenizer=str(_given(tmp_path)))
        )


def _given(folder):
    train_tokenizer(["a text"], 300).save_pretrained(folder / "given")
    return folder / "given"


def test_the_share_of_tokens_that_differ_from_whole_documents(tmp_path):
    """Cut inside a word, a document has other tokens; cut where words begin, the same."""
    text = "the model reads a text of good and bad sentences"
    train_tokenizer([text] * 9, 340).save_pretrained(tmp_path / "given")
    shares = []
    for name, cut in (("inside", 6), ("between", 9)):
        annotated = tiny.annotated(tmp_path / name, [Document("a", [text[:cut], text[cut:]], np.zeros(2, np.float32))])
        options = config.Tokenize(tokenizer=str(tmp_path / "given"), held_out=0.0)
        shares.append(stage.tokenize(annotated, tmp_path / f"tokens-{name}", options).differing)
    assert shares[0] > 0.05
    assert shares[1] == 0


def test_documents_without_text_are_counted_and_left_out(tmp_path):
    made = [*tiny.documents(20), Document("empty", [], np.empty(0, np.float32)), Document("blank", [""], np.zeros(1, np.float32))]
    annotated = tiny.annotated(tmp_path / "annotated", made)
    summary = stage.tokenize(annotated, tmp_path / "tokens", config.Tokenize(vocab_size=300, held_out=0.0))
    assert (summary.documents, summary.empty) == (20, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 256}, "at least 257"),
        ({"tokenizer": "/nowhere"}, "cannot be loaded"),
        ({"column": "toxicity"}, "no column 'toxicity'"),
    ],
)
def test_wrong_options_say_what_is_expected(tmp_path, options, message):
    annotated = tiny.annotated(tmp_path / "annotated")
    with pytest.raises(InputError, match=message):
        stage.tokenize(annotated, tmp_path / "tokens", config.Tokenize(**options))


def test_a_corpus_without_text_is_refused(tmp_path):
    annotated = tiny.annotated(tmp_path / "annotated", [Document("a", [""], np.zeros(1, np.float32))])
    with pytest.raises(InputError, match="nothing to tokenise"):
        stage.tokenize(annotated, tmp_path / "tokens", config.Tokenize(vocab_size=257))


def test_an_unfinished_corpus_is_refused(tmp_path):
    annotated = tiny.annotated(tmp_path / "annotated")
    manifest = annotated / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"finished": true', '"finished": false'))
    with pytest.raises(InputError, match="phf annotate"):
        stage.tokenize(annotated, tmp_path / "tokens", config.Tokenize())
