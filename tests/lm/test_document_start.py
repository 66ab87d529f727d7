"""What documents begin with: the same token in training, sampling and measuring, against plain forward passes."""

import json
import shutil

import numpy as np
import pytest

from phf import checksums, config, lm
from phf.objectives import MLE
from phf.tokenize import tokenize
from phf.tokens import TokenStore, encode
from phf.train import train
from support import tiny_corpora as tiny
from support import tokenizers_on_the_spot as made
from support.plain_forward import plain_logprob

KINDS = {
    "a BOS": (made.byte_level, {"bos_token": "<s>"}, None, "<s>"),
    "no BOS": (made.byte_level, {}, None, "<|endoftext|>"),
    "a BOS that is its EOS": (made.byte_level, {"bos_token": "<|endoftext|>"}, None, "<|endoftext|>"),
    "a BOS, but EOS was asked for": (made.byte_level, {"bos_token": "<s>"}, "eos", "<|endoftext|>"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_documents_begin_alike_in_training_sampling_and_measuring(tmp_path, kind):
    make, named, asked, expected = KINDS[kind]
    make(**named).save_pretrained(tmp_path / "given")
    annotated = tiny.annotated(tmp_path / "annotated")
    tokenize(annotated, tmp_path / "tokens", config.Tokenize(tokenizer=str(tmp_path / "given"), document_start=asked))
    store = TokenStore.open(tmp_path / "tokens")
    folder = train(tmp_path / "tokens", tmp_path / "run", "run", config.Component(name="mle"), tiny.train_options()).checkpoint

    model = lm.load(str(tmp_path / "run"))
    start = model.tokenizer.convert_tokens_to_ids(expected)
    assert store.view(MLE(), 16, 0).read(0, 1)[0][0, 0] == start
    assert json.loads((folder / "phf.json").read_text())["document_start"] == start
    assert model.encoder.prompt("the", "start", 4).tokens[0] == model.start == start
    assert start in model.ends
    ends = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    assert start in (ends if isinstance(ends, list) else [ends])

    text = "the model reads a text."
    (tokens,) = encode(model.tokenizer, [text])
    assert model.logprobs([text])[0] == pytest.approx(plain_logprob(model, [start], tokens), abs=1e-4)

    # Without phf's notes, the tokenizer's own tokens decide.
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy/phf.json").unlink()
    checksums.forget(tmp_path / "copy")
    own = lm.load(str(tmp_path / "copy"))
    own_start = own.tokenizer.convert_tokens_to_ids(named.get("bos_token", "<|endoftext|>"))
    assert own.start == own_start
    assert own.logprobs([text])[0] == pytest.approx(plain_logprob(own, [own_start], tokens), abs=1e-4)


def test_texts_are_cut_as_the_corpus_was(tmp_path):
    """Recorded without `space`, sentences are those of old; with it, those of today."""
    annotated = tiny.annotated(tmp_path / "annotated", segmenter="sentences")
    tokenize(annotated, tmp_path / "tokens", config.Tokenize(vocab_size=300))
    folder = train(tmp_path / "tokens", tmp_path / "run", "run", config.Component(name="mle"), tiny.train_options()).checkpoint
    assert lm.load(str(folder)).encoder.segments("One. Two.") == ["One. ", "Two."]
    notes = json.loads((folder / "phf.json").read_text())
    assert notes["segmenter"] == {"name": "sentences", "space": "after"}
    notes["segmenter"]["space"] = "before"
    checksums.forget(folder)
    (folder / "phf.json").write_text(json.dumps(notes))
    assert lm.load(str(folder)).encoder.segments("One. Two.") == ["One.", " Two."]
    notes["segmenter"] = "sentences"
    (folder / "phf.json").write_text(json.dumps(notes))
    assert lm.load(str(folder)).encoder.segments("One. Two.") == ["One. ", "Two."]
    assert np.isfinite(lm.load(str(folder)).logprobs(["One. Two."])).all()
