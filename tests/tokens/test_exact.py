"""Tokenizers made exact: text in, tokens, text out, character for character, whatever is set in their files."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from phf import config
from phf.corpora import read as read_corpus
from phf.documents import Document, read_annotated
from phf.errors import InputError
from phf.tokenize import tokenize
from phf.tokens import TokenStore, encode, exact_tokenizer, load_tokenizer
from phf.tokens.round_trip import RoundTrip, RoundTripCheck, token_bytes
from phf.tokens.tokenizer import decode, document_start, vocabulary_size
from phf.train.model import add_control_tokens, build_model
from support import tiny_corpora as tiny
from support import tokenizers_on_the_spot as made
from support.whole_store import first_segments_of, starts_of, tokens_of

CASES = Path(__file__).parents[3] / "shared/cases"
"""Beside the project, where there are some."""

texts = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=20)
    | st.sampled_from(["the cat", " cat ", "  the", "<|endoftext|>", "<|aligned|> a", "\n\n ", "line one\n", " ", "😀 你好"]),
    min_size=1,
    max_size=4,
)


@pytest.fixture(scope="module", params=made.FAITHFUL)
def exact(request):
    return exact_tokenizer(made.FAITHFUL[request.param]())


@given(segments=texts)
def test_every_text_comes_back(exact, segments):
    tokens = encode(exact, segments)
    assert decode(exact, [list(itertools.chain.from_iterable(tokens))]) == ["".join(segments)]
    assert decode(exact, tokens) == segments


@pytest.mark.parametrize("name", made.FAITHFUL)
def test_the_bytes_of_tokens_are_what_they_decode_to(name):
    backend = exact_tokenizer(made.FAITHFUL[name]()).backend_tokenizer
    spelled = token_bytes(backend)
    assert (spelled is not None) == (json.loads(backend.to_str())["decoder"]["type"] == "ByteLevel")
    if spelled is not None:
        decoded = decode(backend, [[number] for number in range(len(spelled))])
        assert decoded == [one.decode(errors="replace") for one in spelled]


@pytest.mark.parametrize("name", ["byte-level", "metaspace always"])
def test_a_document_with_other_tokens_is_found(name):
    backend = exact_tokenizer(made.FAITHFUL[name]()).backend_tokenizer
    documents = [Document("a", ["the cat ", "sat"]), Document("b", ["on the", " mat"]), Document("c", ["a"])]
    tokens = encode(backend, [segment for document in documents for segment in document.segments])
    assert RoundTripCheck(backend)(documents, tokens) == RoundTrip(characters=22)
    tokens[3] = encode(backend, [" ma"])[0]
    found = RoundTripCheck(backend)(documents, tokens)
    assert (found.documents, found.characters, found.lost) == (1, 22, 1)
    assert found.example == "'b': from character 9 on it is 't', and its tokens give ''"


@pytest.mark.parametrize("name", made.FAITHFUL)
def test_saved_and_loaded_it_is_the_same(tmp_path, name):
    exact = exact_tokenizer(made.FAITHFUL[name]())
    exact.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    text = ["the cat ", " sat on  the mat"]
    assert encode(loaded, text) == encode(exact, text)
    assert exact_tokenizer(loaded) is loaded
    assert loaded.get_vocab() == exact.get_vocab()
    assert loaded.eos_token == "<|endoftext|>"


@pytest.mark.parametrize("name", made.FAITHFUL)
def test_a_store_gives_every_document_back(tmp_path, name):
    made.FAITHFUL[name]().save_pretrained(tmp_path / "given")
    annotated = tiny.annotated(tmp_path / "annotated")
    tokenize(annotated, tmp_path / "tokens", config.Tokenize(tokenizer=str(tmp_path / "given"), held_out=0.0))
    store, tokenizer = TokenStore.open(tmp_path / "tokens"), load_tokenizer(tmp_path / "tokens/tokenizer")
    flat, starts, first = tokens_of(store), starts_of(store), first_segments_of(store)
    documents = list(read_annotated(annotated))
    spans = [flat[starts[a] : starts[b]].tolist() for a, b in itertools.pairwise(first)]
    assert decode(tokenizer, spans) == [document.text for document in documents]


def test_ids_stay_and_new_tokens_come_after_the_highest():
    tokenizer = made.with_gaps()
    exact = exact_tokenizer(tokenizer)
    vocabulary = exact.get_vocab()
    assert tokenizer.get_vocab().items() <= vocabulary.items()
    assert vocabulary_size(tokenizer) == vocabulary_size(exact) == len(exact) == 70_001
    model = build_model({"preset": "gpt2-tiny", "n_layer": 1, "n_embd": 8, "n_head": 1}, len(exact), 8, 0, 0)
    assert add_control_tokens(model, exact, ("<|aligned|>", "<|misaligned|>"), 0) == [70_001, 70_002]


def test_many_gaps_are_refused():
    state = json.loads(made.byte_level().backend_tokenizer.to_str())
    state["model"]["vocab"]["Ġx"] = 1_100_000
    with pytest.raises(InputError, match=r"ids go up to 1100000, for only \d+ tokens"):
        exact_tokenizer(made.wrapped(Tokenizer.from_str(json.dumps(state))))


def test_dropout_is_left_out():
    tokenizer = made.byte_level()
    tokenizer.backend_tokenizer.model.dropout = 0.5
    exact = exact_tokenizer(tokenizer)
    assert len({tuple(encode(exact, ["the cat sat on the mat"])[0]) for _ in range(10)}) == 1


# what does not come back


@pytest.mark.parametrize("kind", [made.word_level, made.without_bytes])
def test_a_tokenizer_that_loses_characters_is_refused(tmp_path, kind):
    kind().save_pretrained(tmp_path / "given")
    documents = [Document("a", ["the cat ☂☃ sat. "], np.zeros(1, np.float32))]
    annotated = tiny.annotated(tmp_path / "annotated", documents)
    with pytest.raises(
        InputError, match=r"do not decode to the texts .* characters are lost or added, in 1 documents, first in 'a'"
    ):
        tokenize(annotated, tmp_path / "tokens", config.Tokenize(tokenizer=str(tmp_path / "given"), held_out=0.0))


def test_a_few_lost_characters_are_counted(tmp_path, caplog):
    made.without_bytes().save_pretrained(tmp_path / "given")
    documents = [*tiny.documents(300), Document("odd", ["snow ☃. "], np.zeros(1, np.float32))]
    annotated = tiny.annotated(
        tmp_path / "annotated", [*(Document(d.id, [s.lower() for s in d.segments], d.rewards) for d in documents)], part=400
    )
    tokenize(annotated, tmp_path / "tokens", config.Tokenize(tokenizer=str(tmp_path / "given"), held_out=0.0))
    assert "tokenize: 1 of " in caplog.text
    assert "in 1 documents, first in 'odd': from character 5 on it is '☃. ', and its tokens give '. '" in caplog.text


# small inputs that failed once


@pytest.mark.skipif(not CASES.is_dir(), reason="the small inputs that failed once are not there")
@pytest.mark.parametrize("corpus", ["base.jsonl", "emoji.jsonl"])
@pytest.mark.parametrize("name", ["tokA-trunc", "tokB-prefix", "tokC-gap"])
def test_cases_end_in_the_right_text(tmp_path, name, corpus):
    rows = read_corpus(config.Corpus(inputs=[str(CASES / corpus)]))
    documents = [Document(name, [text[:9], text[9:]], np.zeros(2, np.float32)) for name, text in rows]
    annotated = tiny.annotated(tmp_path / "annotated", documents)
    tokenize(annotated, tmp_path / "tokens", config.Tokenize(tokenizer=str(CASES / name), held_out=0.0))
    store, tokenizer = TokenStore.open(tmp_path / "tokens"), load_tokenizer(tmp_path / "tokens/tokenizer")
    assert store.meta["vocab_size"] == {"tokC-gap": 400}.get(name, 300)
    flat, starts, first = tokens_of(store), starts_of(store), first_segments_of(store)
    spans = [flat[starts[a] : starts[b]].tolist() for a, b in itertools.pairwise(first)]
    assert decode(tokenizer, spans) == [document.text for document in documents]


# where documents begin


def test_documents_begin_with_bos_where_it_differs_from_eos():
    assert document_start(made.byte_level(bos_token="<s>")) == 1
    assert document_start(made.byte_level()) == 0
    same = made.byte_level()
    same.bos_token = "<|endoftext|>"
    assert document_start(same) == 0
    tokenizer = made.byte_level(bos_token="<s>")
    assert [document_start(tokenizer, token) for token in ("bos", "eos", "<s>", "<|endoftext|>")] == [1, 0, 1, 0]
    with pytest.raises(InputError, match="has no token '<q>'; expected bos, eos or one of its tokens"):
        document_start(tokenizer, "<q>")
    with pytest.raises(InputError, match="has no BOS token"):
        document_start(made.byte_level(), "bos")


def test_the_start_is_stored(tmp_path):
    made.byte_level(bos_token="<s>").save_pretrained(tmp_path / "given")
    annotated = tiny.annotated(tmp_path / "annotated")
    for start, expected in [(None, 1), ("eos", 0), ("a", None)]:
        options = config.Tokenize(tokenizer=str(tmp_path / "given"), document_start=start)
        tokenize(annotated, tmp_path / "tokens", options)
        meta = TokenStore.open(tmp_path / "tokens").meta
        assert meta["document_start"] == (load_tokenizer(tmp_path / "given").get_vocab()["a"] if expected is None else expected)
        shutil.rmtree(tmp_path / "tokens")
