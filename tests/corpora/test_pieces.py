"""Pieces of a corpus, read one after the other, are the corpus."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phf import config, corpora
from phf.errors import InputError


def rows_of(corpus, size):
    """Count each piece, and read what comes of it."""
    previous, found, counts = None, [], []
    for piece in corpora.pieces(corpus, size):
        for each in corpora.counted(piece, corpus, size):
            previous = corpora.behind(each, previous)
            rows = list(corpora.piece_rows(previous, corpus))
            assert len(rows) == each.rows
            found += rows
            counts.append(len(rows))
    return found, counts


lines = st.lists(
    st.one_of(
        st.text(max_size=8).map(lambda text: json.dumps({"text": text}).encode()),
        st.text(max_size=8).map(lambda text: json.dumps({"text": text, "id": 3}, ensure_ascii=False).encode("utf-8", "replace")),
        st.sampled_from([b"", b"  ", b"{", b"[1]", b'{"no": "text"}', b'{"text": null}', b"\xff", b"\xe2\x80\xa8"]),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(lines=lines, size=st.integers(1, 60), ended=st.booleans(), mark=st.booleans())
def test_ranges_of_json_lines(tmp_path_factory, lines, size, ended, mark):
    folder = tmp_path_factory.mktemp("c")
    content = b"\n".join([b'{"text": "first"}', *lines]) + (b"\n" if ended else b"")
    (folder / "c.jsonl").write_bytes((b"\xef\xbb\xbf" if mark else b"") + content)
    corpus = config.Corpus(inputs=[str(folder / "c.jsonl")])
    found, counts = rows_of(corpus, size)
    assert found == list(corpora.rows(corpus)), "ids and faults, which name lines, among them"
    assert len(counts) == -(-(folder / "c.jsonl").stat().st_size // size)


def test_row_groups_of_parquet(tmp_path):
    texts = [f"text {number} " + "x" * number for number in range(50)]
    pq.write_table(pa.table({"text": pa.array([*texts, None], pa.string())}), tmp_path / "c.parquet", row_group_size=7)
    corpus = config.Corpus(inputs=[str(tmp_path / "c.parquet")])
    for size in (1, 500, 10**9):
        found, counts = rows_of(corpus, size)
        assert found == list(corpora.rows(corpus))
        assert len(counts) in ({1: [8], 500: range(2, 8), 10**9: [1]}[size])
    assert found[-1].id.endswith("c.parquet, row 50")


def test_other_files_are_read_whole_and_small_ones_together(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(6):
        (tree / f"{number}.txt").write_text(f"{number} " * 30)
    (tree / "image.png").write_bytes(b"\x89PNG\0\0")
    (tree / "rows.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n\n{"text": "b"}\n' * 9))
    pq.write_table(pa.table({"text": ["p"]}), tree / "a.parquet")
    corpus = config.Corpus(inputs=[str(tree), str(tree / "1.txt")])
    found, counts = rows_of(corpus, 150)
    assert found == list(corpora.rows(corpus))
    assert max(counts) == 18, "of the compressed file, which no range can be read of"
    assert 6 <= len(counts) <= 10
    source = config.check(config.Corpus, {"source": {"name": "python-docs", "packages": ["json"]}, "limit": None}, "corpus")
    assert rows_of(source, 1)[0] == list(corpora.rows(source))


def test_what_cannot_be_read_is_said_as_ever(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        corpora.pieces(config.Corpus(inputs=["no such"]))
    with pytest.raises(InputError, match="neither inputs nor a source"):
        corpora.pieces(config.Corpus())
    (tmp_path / "c.jsonl").write_text('{"body": "a"}\n' * 9)
    with pytest.raises(InputError, match=r"c\.jsonl, line 1: no column 'text'"):
        rows_of(config.Corpus(inputs=[str(tmp_path / "c.jsonl")]), 20)
    (tmp_path / "c.parquet").write_text("not Parquet")
    with pytest.raises(InputError, match=r"c\.parquet: not a Parquet file"):
        rows_of(config.Corpus(inputs=[str(tmp_path / "c.parquet")]), 20)
    pieces = corpora.pieces(config.Corpus(inputs=[str(tmp_path / "c.jsonl")]), 20)
    (tmp_path / "c.jsonl").unlink()
    with pytest.raises(InputError, match=r"c\.jsonl: no such file on .*every node must reach the corpus"):
        corpora.counted(pieces[0], config.Corpus())
