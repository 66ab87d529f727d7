"""Data that others published with its scores, from its name to what evaluations ask of it."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phf import config
from phf.annotate import annotate
from phf.documents import AnnotatedCorpus, content_id, read_annotated
from phf.errors import InputError
from phf.inspection import inspect, text

TEXTS = [["One. ", "Two. ", "Three."], [], ["a\n", "b\n"], ["", "x"], ["long ", "longer"]]
SCORES = [[0.125, 0.0, 0.5], [], [0.25], [0.75, 1.0], [0.0625, None]]
SAMPLES = {"name": "regex", "patterns": ["bad"]}


def stand_in(folder, kind):
    """Data in the columns that the hub's have: one row with an empty list, one with unequal lengths."""
    schema = pa.schema([("texts", pa.list_(pa.string())), ("meta", pa.string()), ("scores", pa.list_(pa.float64()))])
    table = pa.table({"texts": TEXTS, "meta": ["?"] * len(TEXTS), "scores": SCORES}, schema)
    folder.mkdir()
    pq.write_table(table, folder / "train-00000-of-00001.parquet")
    return config.Corpus(inputs=[f"hf:{folder}" if kind == "hf" else str(folder / "train-00000-of-00001.parquet")])


def options(**fields):
    scorer = {"name": "published", "samples": SAMPLES}
    defaults = {"scorer": scorer, "segmenter": "sentences", "workers": 1, "max_failures": 0.5, "max_unscored": 0.5}
    return config.check(config.Annotate, {**defaults, **fields}, "annotate")


@pytest.mark.parametrize("kind", ["file", "hf"])
def test_segments_and_rewards_are_taken_as_they_are(tmp_path, kind):
    if kind == "hf":
        pytest.importorskip("datasets")
    summary = annotate(stand_in(tmp_path / "data", kind), options(), tmp_path / "out")
    assert (summary.documents, summary.empty, summary.failed, summary.segments) == (4, 1, 1, 7)
    documents = {document.id: document for document in read_annotated(tmp_path / "out")}
    for index in (0, 3, 4):
        document = documents[content_id("".join(TEXTS[index]))]
        whole = [(piece, score) for piece, score in zip(TEXTS[index], SCORES[index], strict=True) if piece]
        assert list(document.segments) == [piece for piece, _ in whole]
        expected = [np.nan if score is None else -score for _, score in whole]
        np.testing.assert_array_equal(document.rewards, np.array(expected, np.float32))
    (failure,) = map(json.loads, (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines())
    assert failure["id"] == content_id("a\nb\n")
    assert failure["reason"] == "2 published texts but 1 scores; expected one for each"
    corpus = AnnotatedCorpus(tmp_path / "out")
    assert corpus.require("segmenter").name == "sentences"
    assert config.plain(corpus.require("scorer")) == SAMPLES


def test_further_scorers_score_the_published_segments(tmp_path):
    annotate(stand_in(tmp_path / "data", "file"), options(also={"ours": {"name": "regex", "patterns": ["o"]}}), tmp_path / "out")
    document = next(read_annotated(tmp_path / "out", "ours"))
    np.testing.assert_array_equal(document.rewards, -np.array([0, 1 / 5, 0], np.float32))


def test_data_without_scores_or_without_a_scorer_of_samples_says_so(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"text": "a plain text"}\n')
    with pytest.raises(InputError, match=r"1 of 1 documents failed.*no published scores; expected the columns 'texts'"):
        annotate(config.Corpus(inputs=[str(tmp_path / "c.jsonl")]), options(), tmp_path / "plain")
    annotate(stand_in(tmp_path / "data", "file"), options(scorer="published"), tmp_path / "out")
    with pytest.raises(InputError, match=r"the scorer of this corpus is unknown.*annotate\.scorer\.samples"):
        AnnotatedCorpus(tmp_path / "out").require("scorer")
    with pytest.raises(InputError, match=r"unknown scorer 'regexp'; did you mean 'regex'"):
        config.build("scorers", options(scorer={"name": "published", "samples": "regexp"}).scorer)


def test_inspect_shows_the_median(tmp_path):
    annotate(stand_in(tmp_path / "data", "file"), options(), tmp_path / "out")
    inspection = inspect(tmp_path / "out")
    assert inspection.segments.quantiles[50] == np.median([-0.125, 0.0, -0.5, -1.0, -0.0625])
    assert "p50 (median)" in text(inspection)
