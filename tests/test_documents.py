"""Documents, their Parquet parts, published data, and the held-out split."""

import contextlib
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phf import checksums
from phf.artifacts import write_json
from phf.config import Component
from phf.documents import AnnotatedCorpus, Document, content_id, is_held_out, parts, read_annotated, write_part
from phf.errors import InputError
from support import tiny_corpora as tiny

texts = st.text(st.characters(exclude_categories=["Cs"]))


@settings(deadline=None)
@given(st.lists(st.tuples(texts, st.lists(st.tuples(texts, st.floats(width=32)), max_size=5)), max_size=5))
def test_parts_round_trip(tmp_path_factory, described):
    documents = [
        Document(name, [text for text, _ in segments], np.array([reward for _, reward in segments], np.float32))
        for name, segments in described
    ]
    path = tmp_path_factory.mktemp("annotated") / "part-00000.parquet"
    write_part(path, documents)
    back = list(read_annotated(path.parent))
    assert [(document.id, list(document.segments)) for document in back] == [(d.id, list(d.segments)) for d in documents]
    for one, other in zip(back, documents, strict=True):
        np.testing.assert_array_equal(one.rewards, other.rewards)
        assert one.rewards.dtype == np.float32
        assert one.text == other.text


def test_equal_documents_make_equal_bytes(tmp_path):
    documents = [Document("a", ["x. ", "y"], np.array([0.0, np.nan], np.float32))]
    for name in ("one", "two"):
        write_part(tmp_path / name / "part-00000.parquet", documents)
    assert (tmp_path / "one/part-00000.parquet").read_bytes() == (tmp_path / "two/part-00000.parquet").read_bytes()


def test_a_reward_must_stand_for_each_segment():
    with pytest.raises(InputError, match="2 segments but rewards of shape"):
        Document("a", ["x", "y"], np.zeros(3, np.float32))


def test_published_scores_become_rewards(tmp_path):
    table = pa.table({"texts": [["Good. ", "Bad."]], "scores": pa.array([[0.0, 0.25]], pa.list_(pa.float64())), "meta": ["?"]})
    pq.write_table(table, tmp_path / "data.parquet")
    (document,) = read_annotated(tmp_path)
    assert document.rewards.tolist() == [0.0, -0.25]
    assert document.id == content_id("Good. Bad.")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"texts": ["a"], "scores": [0.5]}), "column 'texts' holds one string a document; expected a list"),
        (pa.table({"texts": [["a"]], "scores": [0.5]}), "column 'scores' holds one double a document; expected a list"),
        (pa.Table.from_arrays([pa.array([["a"]])] * 2, ["texts", "texts"]), "no column 'rewards'|no column 'segments'"),
        (
            pa.Table.from_arrays([pa.array([["a"]]), pa.array([["a"]]), pa.array([[0.5]])], ["segments", "segments", "rewards"]),
            "2 columns are called 'segments'",
        ),
    ],
)
def test_published_data_of_another_shape_is_named(tmp_path, table, message):
    pq.write_table(table, tmp_path / "data.parquet")
    with pytest.raises(InputError, match=message):
        list(read_annotated(tmp_path))


def test_scores_in_lists_of_a_fixed_size_are_read(tmp_path):
    scores = pa.FixedSizeListArray.from_arrays(pa.array([0.0, 0.25, 0.5, 1.0]), 2)
    pq.write_table(pa.table({"texts": [["a", "b"], ["c", "d"]], "scores": scores}), tmp_path / "data.parquet")
    assert [document.rewards.tolist() for document in read_annotated(tmp_path)] == [[0.0, -0.25], [-0.5, -1.0]]


def test_one_flipped_bit_in_a_part_is_noticed(tmp_path):
    documents = [Document(str(i), [f"segment {i * 7919}. "] * 3, np.full(3, -i, np.float32)) for i in range(400)]
    path = tmp_path / "part-00000.parquet"
    write_part(path, documents)
    content = path.read_bytes()
    before = [(document.id, document.segments, document.rewards.tolist()) for document in read_annotated(tmp_path)]
    for share in range(1, 10):
        damaged = bytearray(content)
        damaged[len(content) * share // 10] ^= 16
        path.write_bytes(damaged)
        with contextlib.suppress(InputError):
            after = [(document.id, document.segments, document.rewards.tolist()) for document in read_annotated(tmp_path)]
            assert after == before


@pytest.mark.parametrize("size", [None, 10])
def test_parts_are_compared_with_their_recorded_sizes(tmp_path, size):
    path = tmp_path / "part-00000.parquet"
    write_part(path, [Document("a", ["x"], np.zeros(1, np.float32))])
    checksums.record(path)
    write_json(tmp_path / "manifest.json", {"finished": True, "made_from": {}})
    AnnotatedCorpus(tmp_path)
    path.unlink() if size is None else os.truncate(path, size)
    with pytest.raises(InputError, match=r"part-00000\.parquet: (missing|damaged: it has 10 bytes, but [\d,]+ were written)"):
        AnnotatedCorpus(tmp_path)


def test_sliced_lists_keep_their_own_rewards(tmp_path):
    documents = [Document(str(i), ["s"] * (i % 4), np.full(i % 4, -i, np.float32)) for i in range(3000)]
    write_part(tmp_path / "part-00000.parquet", documents)  # more rows than are read at once
    for document, back in zip(documents, read_annotated(tmp_path), strict=True):
        assert back.rewards.tolist() == document.rewards.tolist()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"id": ["a"], "text": ["x"]}, "no column 'segments'"),
        ({"id": ["a"], "segments": [["x"]]}, "no column 'rewards'"),
        ({"id": ["a"], "segments": [["x", "y"]], "rewards": [[0.0]]}, "row 0"),
        ({"id": ["a"], "segments": pa.array([None], pa.list_(pa.string())), "rewards": [[0.0]]}, "row 0"),
    ],
)
def test_a_spoiled_part_is_named(tmp_path, table, message):
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=message):
        list(read_annotated(tmp_path))


def test_a_missing_corpus_says_who_writes_one(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        parts(tmp_path / "nowhere")
    with pytest.raises(InputError, match="phf annotate"):
        parts(tmp_path)
    (tmp_path / "x.parquet").write_text("not parquet")
    with pytest.raises(InputError, match="not a Parquet file"):
        list(read_annotated(tmp_path))


def test_the_split_is_of_its_share_stable_and_nested():
    ids = [f"document {i}" for i in range(20_000)]
    held = {name for name in ids if is_held_out(name, 0.1)}
    assert len(held) / len(ids) == pytest.approx(0.1, abs=0.01)
    assert held == {name for name in reversed(ids) if is_held_out(name, 0.1)}
    assert {name for name in ids if is_held_out(name, 0.03)} < held
    assert not any(is_held_out(name, 0.0) for name in ids)


def test_a_corpus_knows_how_it_was_made(tmp_path):
    corpus = AnnotatedCorpus(tiny.annotated(tmp_path, segmenter="lines"))
    assert corpus.segmenter == corpus.require("segmenter") == Component(name="lines")
    assert corpus.require("scorer").fields == {"patterns": ["[A-Z]{3,}"]}
    assert [path.name for path in corpus.parts] == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    assert corpus.identity["annotate"]["part"] == 50
    assert corpus.identity["segments"] == sum(len(document.segments) for document in corpus.documents())


def test_published_data_is_a_corpus_whose_segmenter_is_unknown_unless_given(tmp_path):
    table = pa.table({"texts": [["Good. ", "Bad."]], "scores": [[0.0, 0.25]]})
    pq.write_table(table, tmp_path / "data.parquet")
    corpus = AnnotatedCorpus(tmp_path)
    assert (corpus.segmenter, corpus.scorer, corpus.made_from) == (None, None, {})
    assert corpus.identity == [["data.parquet", (tmp_path / "data.parquet").stat().st_size]]
    assert [document.text for document in corpus.documents()] == ["Good. Bad."]
    with pytest.raises(InputError, match=r"the segmenter of this corpus is unknown: .*manifest.json not found"):
        corpus.require("segmenter")
    assert AnnotatedCorpus(tmp_path, segmenter=Component(name="lines")).require("segmenter").name == "lines"


def test_an_unfinished_corpus_is_refused(tmp_path):
    write_json(tmp_path / "manifest.json", {"made_from": {}, "finished": False})
    with pytest.raises(InputError, match="annotating was not finished"):
        AnnotatedCorpus(tmp_path)
