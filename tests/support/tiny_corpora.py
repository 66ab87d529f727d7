"""Tiny corpora and token stores for tests, made on the spot."""

import json
import random
from pathlib import Path

import numpy as np

from phf import config
from phf.artifacts import write_json
from phf.documents import Document, write_part
from phf.tokenize import tokenize

WORDS = "the a model reads writes small large text good bad data sentence of and with from every token learns".split()  # noqa: SIM905


def documents(count=120, seed=0, bad_share=0.3):
    """Documents of a few sentences; a bad one shouts, and has reward -1."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        segments, rewards = [], []
        for _ in range(draw.randint(1, 5)):
            sentence = " ".join(draw.choices(WORDS, k=draw.randint(3, 9))) + ". "
            bad = draw.random() < bad_share
            segments.append(sentence.upper() if bad else sentence)
            rewards.append(-1.0 if bad else 0.0)
        made.append(Document(f"doc-{number}", segments, np.array(rewards, np.float32)))
    return made


def write_corpus(path: Path, count: int) -> str:
    """Write documents as JSON Lines, as a corpus is before it is annotated; give the file's name."""
    rows = [{"id": document.id, "text": document.text} for document in documents(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def annotated(folder: Path, made=None, segmenter="sentences", part=50) -> Path:
    """Write an annotated corpus as the annotate stage does."""
    made = documents() if made is None else made
    for number, start in enumerate(range(0, len(made), part)):
        write_part(folder / f"part-{number:05d}.parquet", made[start : start + part])
    made_from = {
        "corpus": {},
        "annotate": {
            "segmenter": {"name": segmenter},
            "scorer": {"name": "regex", "patterns": ["[A-Z]{3,}"]},
            "also": {},
            "part": part,
        },
    }
    write_json(
        folder / "manifest.json",
        {"made_from": made_from, "finished": True, "documents": len(made), "segments": sum(len(d.segments) for d in made)},
    )
    return folder


def token_store(folder: Path, made=None, vocab_size=300, held_out=0.1, **options) -> Path:
    """Write an annotated corpus and its token store; give the store's folder."""
    annotated(folder / "annotated", made, **options)
    tokenize(folder / "annotated", folder / "tokens", config.Tokenize(vocab_size=vocab_size, held_out=held_out))
    return folder / "tokens"


def train_options(**changes) -> config.Train:
    """A training configuration that takes a second."""
    fields = {
        "model": {"preset": "gpt2-tiny", "n_layer": 1, "n_embd": 16, "n_head": 2},
        "tokens": 1024, "context": 16, "batch": 4, "lr": 1e-2, "precision": "fp32", "log_every": 1,
    }  # fmt: skip
    return config.Train(**(fields | changes))


def recipe(folder: Path, **sections):
    """Write a corpus of 80 documents; give the sections of a recipe that trains MLE and conditional training on it, in seconds.

    Args:
        folder: gets `corpus.jsonl`.
        sections: in place of those here.
    """
    fields = {
        "name": "tiny",
        "corpus": {"inputs": [write_corpus(folder / "corpus.jsonl", 80)]},
        "annotate": {"scorer": {"name": "regex", "patterns": ["[A-Z]{3,}"]}, "workers": 1},
        "tokenize": {"vocab_size": 300, "held_out": 0.1},
        "train": config.plain(train_options(tokens=512, log_every=2)),
        "runs": {"mle": "mle", "conditional": {"name": "conditional", "threshold": 0.0}},
        "evaluate": {"evaluations": {"heldout": "heldout"}},
    }
    return fields | sections
