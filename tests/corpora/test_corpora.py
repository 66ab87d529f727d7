import bz2
import functools
import gzip
import http.server
import json
import lzma
import os
import random
import sys
import sysconfig
import textwrap
import threading
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phf import config, corpora, plugins
from phf.corpora import PythonDocs, PythonSource, read, rows
from phf.documents import content_id
from phf.errors import InputError

# A frame whose header asks for a window of 2 GiB: magic number, descriptor, window, and one raw block of 15 bytes.
WIDE_ZSTD = b"\x28\xb5\x2f\xfd\x00\xa8" + (15 << 3 | 1).to_bytes(3, "little") + b'{"text": "abc"}'
TEXTS = ["one", "zwei\nlines", "trois 🎈 \u2028 x", "  "]


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def corpus(*inputs, **fields):
    return config.check(config.Corpus, {"inputs": [str(each) for each in inputs], **fields}, "corpus")


def json_lines(texts, **more):
    return "".join(json.dumps({"text": text, **more}) + "\n" for text in texts).encode()


def texts_of(*inputs, **fields):
    return [text for _, text in read(corpus(*inputs, **fields))]


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("c.jsonl", bytes),
        ("c.JSONL", bytes),
        ("c.json", bytes),
        ("c.ndjson", bytes),
        ("c.jsonl.gz", gzip.compress),
        ("c.json.bz2", bz2.compress),
        ("c.jsonl.xz", lzma.compress),
        ("c.jsonl.zst", lambda content: pa.compress(content, "zstd", asbytes=True)),
    ],
)
def test_json_lines_plain_and_compressed(tmp_path, name, pack):
    (tmp_path / name).write_bytes(pack(b"\xef\xbb\xbf" + json_lines(TEXTS) + b"\n\n"))
    assert list(read(corpus(tmp_path / name))) == [(content_id(text), text) for text in TEXTS]


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.text(st.characters(codec="utf-8")), min_size=1))
def test_what_is_written_is_read(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("c")
    (folder / "c.jsonl").write_bytes(json_lines(texts))
    pq.write_table(pa.table({"text": texts}), folder / "c.parquet")
    assert texts_of(folder / "c.jsonl") == texts_of(folder / "c.parquet") == texts


def test_ids_come_from_their_column_or_from_the_content(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"id": 7, "text": "a"}\n{"id": null, "text": "b"}\n{"text": "c", "key": "k"}\n')
    assert [name for name, _ in read(corpus(tmp_path / "c.jsonl"))] == ["7", content_id("b"), content_id("c")]
    assert [name for name, _ in read(corpus(tmp_path / "c.jsonl", id_column="key"))][2] == "k"
    assert next(read(corpus(tmp_path / "c.jsonl", id_column=None)))[0] == content_id("a")


def test_parquet_large_strings_other_columns_and_published_data(tmp_path):
    schema = pa.schema([("body", pa.large_string()), ("n", pa.int64())])
    pq.write_table(pa.table({"body": TEXTS, "n": [1, 2, 3, 4]}, schema), tmp_path / "a.parquet", row_group_size=2)
    assert texts_of(tmp_path / "a.parquet", text_column="body") == TEXTS
    pq.write_table(pa.table({"texts": [["a. ", "b."], []], "scores": [[0.1, 0.2], []]}), tmp_path / "p.parquet")
    assert texts_of(tmp_path / "p.parquet") == ["a. b.", ""]


def test_text_files_keep_every_character(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\ntwo\rthree\n".encode())
    assert list(read(corpus(tmp_path / "a.txt"))) == [(str(tmp_path / "a.txt"), "one\r\ntwo\rthree\n")]


def test_a_folder_is_a_tree_of_files(tmp_path):
    tree = tmp_path / "tree"
    for name in ("b.py", "a/x.py", "a/y.json", ".git/config", "a/__pycache__/x.pyc", "rows.jsonl"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(f'{{"id": "row", "text": "{name}"}}')
    (tree / "image.png").write_bytes(b"\x89PNG\0\0")
    (tree / "latin.txt").write_bytes(b"first\ncaf\xe9")
    found = list(rows(corpus(tree)))
    assert [row.id for row in found] == ["tree/a/x.py", "tree/a/y.json", "tree/b.py", "tree/latin.txt", "row"]
    assert found[0].text == '{"id": "row", "text": "a/x.py"}'
    assert found[3].fault == "not UTF-8: byte 0xe9 in line 2; expected UTF-8 text"
    assert found[4].text == "rows.jsonl"


def test_globs_several_inputs_and_a_limit(tmp_path):
    for name in ("b1.jsonl", "b0.jsonl", "deep/er/b2.jsonl", "a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(json_lines([name]))
    assert texts_of(f"{tmp_path}/b*.jsonl") == ["b0.jsonl", "b1.jsonl"]
    assert texts_of(f"{tmp_path}/**/*.jsonl") == ["b0.jsonl", "b1.jsonl", "deep/er/b2.jsonl"]
    assert texts_of(tmp_path / "b1.jsonl", tmp_path / "b0.jsonl", limit=1) == ["b1.jsonl"]


def test_addresses_of_fsspec(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe("/phf-test/x.jsonl.gz", gzip.compress(json_lines(["x"])))
    pq.write_table(pa.table({"text": ["y"]}), tmp_path / "y.parquet")
    memory.pipe("/phf-test/y.parquet", (tmp_path / "y.parquet").read_bytes())
    try:
        assert texts_of("memory://phf-test/x.jsonl.gz", "memory://phf-test/y.parquet") == ["x", "y"]
        assert texts_of("memory://phf-test/*") == texts_of("memory://phf-test") == ["x", "y"]
        assert corpora.inventory(corpus("memory://phf-test/*"))["files"] == 2
        with pytest.raises(InputError, match="no such file"):
            texts_of("memory://phf-test/none.jsonl")
        with pytest.raises(InputError, match="nosuch://x: cannot be opened"):
            texts_of("nosuch://x")
    finally:
        memory.rm("/phf-test", recursive=True)


def test_data_sets_stream_from_where_datasets_finds_them(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "train.jsonl").write_bytes(json_lines(TEXTS, id="x"))
    (tmp_path / "test.jsonl").write_bytes(json_lines(["held"], id="y"))
    assert list(read(corpus(f"hf:{tmp_path}"))) == [("x", text) for text in TEXTS]
    assert texts_of(f"hf:{tmp_path}", split="test") == ["held"]
    with pytest.raises(InputError, match=r"split 'nosuch': cannot be opened.*nosuch"):
        texts_of(f"hf:{tmp_path}", split="nosuch")
    with pytest.raises(InputError, match="no column 'body'"):
        texts_of(f"hf:{tmp_path}", text_column="body")
    with pytest.raises(InputError, match="hf:/no/such/folder"):
        texts_of("hf:/no/such/folder")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.jsonl", b'{"body": "a"}\n', r"line 1: no column 'text' \(found: body\).*corpus.text_column"),
        ("c.txt", b"one\ntwo\xff", "not UTF-8: byte 0xff in line 2"),
        ("c.txt", "two".encode("utf-16"), "UTF-16; expected UTF-8 text"),
        ("c.jsonl", '{"text": "two"}'.encode("utf-16"), "UTF-16; expected UTF-8"),
        ("c.jsonl", b'[{"text": "a"}, {"text": "b"}]', "a JSON array; expected an object a line"),
        ("c.json", b'\xef\xbb\xbf[\n{"text": "a"},\n{"text": "b"}\n]', "a JSON array; expected an object a line"),
        ("c.json", b'{\n  "text": "a"\n}\n', "a JSON object over several lines"),
        ("c.jsonl", b'{"text": "a"}\r{"text": "b"}\r', "its lines end in carriage returns alone"),
        ("c.jsonl.zst", WIDE_ZSTD, "its zstd window is larger than the 128 MiB that are read"),
        ("c.csv", b"text\na\n", "csv files are not read; convert it to JSON Lines"),
        ("c.jsonlines", b'{"text": "a"}\n', "looks like JSON, but its suffix is unknown"),
        ("c.parquet", b"PAR1 not", "not a Parquet file"),
        ("c.parquet", b"", "not a Parquet file"),
        ("c.jsonl.gz", b"not gzip", "cannot be read to its end"),
        ("c.jsonl.gz", gzip.compress(json_lines(["a" * 100]))[:-12], "cannot be read to its end"),
        ("c.jsonl.zst", b"not zstd", "cannot be read to its end"),
        ("c.jsonl.zst", pa.compress(json_lines(["a" * 100]), "zstd", asbytes=True)[:-4], "cannot be read to its end"),
        ("c.jsonl.xz", b"not xz", "cannot be read to its end"),
    ],
)
def test_a_fault_of_a_file_names_the_file(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        texts_of(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_fault_of_a_row_leaves_the_others(tmp_path):
    lines = [b'{"text": "a"}', b'{"text": null}', b'{"text": "b"', b"[" * 100_000, b'{"text": "\xff"}', b'{"text": "b"}']
    (tmp_path / "c.jsonl").write_bytes(b"\n".join(lines))
    found = list(rows(corpus(tmp_path / "c.jsonl")))
    assert [row.text for row in found] == ["a", None, None, None, None, "b"]
    assert all(f"line {i}" in row.id + row.fault for i, row in enumerate(found, start=1) if row.text is None)
    with pytest.raises(InputError, match=r"c\.jsonl, line 2.*'text' is null"):
        list(read(corpus(tmp_path / "c.jsonl")))


def test_parquet_rows_that_are_null_or_not_utf8(tmp_path):
    bad = pa.array([b"a", b"\xff\xfe", None, b"d"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": bad}), tmp_path / "c.parquet")
    found = list(rows(corpus(tmp_path / "c.parquet")))
    assert [row.text for row in found] == ["a", None, None, "d"]
    assert "not UTF-8" in found[1].fault
    assert "is null" in found[2].fault
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "n.parquet")
    assert [(row.id, row.fault) for row in rows(corpus(tmp_path / "n.parquet"))] == [
        (f"{tmp_path}/n.parquet, row {i}", "'text' is of type int, expected a string") for i in (0, 1)
    ]


def test_readers_say_how_far_they_are(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress(json_lines(f"{name} {i**9}" for i in range(60_000))))
    shares = []
    assert sum(1 for _ in corpora.rows(corpus(tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"), shares.append)) == 120_000
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert any(0.1 < share < 0.4 for share in shares)
    assert any(0.6 < share < 0.9 for share in shares)
    shares.clear()
    made = corpus(source={"name": "python-docs", "packages": ["json"], "limit_characters": 2000})
    assert sum(1 for _ in corpora.rows(made, shares.append)) == len(shares)
    assert shares[-1] == 1.0


def test_numbered_files_are_read_by_the_suffix_before_the_number(tmp_path, caplog):
    (tmp_path / "part.jsonl.0001").write_bytes(json_lines(["a", "b"]))
    (tmp_path / "c.jsonl.0002.gz").write_bytes(gzip.compress(json_lines(["c"])))
    (tmp_path / "notes.log").write_text("a line\n")
    assert texts_of(tmp_path / "part.jsonl.0001", tmp_path / "c.jsonl.0002.gz") == ["a", "b", "c"]
    assert not caplog.messages
    assert texts_of(tmp_path / "notes.log") == ["a line\n"]
    assert caplog.messages == [f"{tmp_path}/notes.log: its suffix is unknown; read as one text document"]


def test_links_in_a_circle_give_each_file_once(tmp_path, caplog):
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    for path in (tree / "a" / "x.txt", tree / "y.txt", outside / "z.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    (tree / "a" / "up").symlink_to(tree)
    (tree / "b").symlink_to(tree / "a")
    (tree / "c").symlink_to(tmp_path)
    (tree / "d").symlink_to(outside)
    (tree / "e").symlink_to(outside)
    (tree / "self").symlink_to("self")
    assert [row.id for row in rows(corpus(tree))] == ["tree/a/x.txt", "tree/d/z.txt", "tree/y.txt"]
    assert len(caplog.messages) == 4


def test_links_in_a_circle_among_installed_packages(library, tmp_path):
    library("packages", "a/__init__.py", '"""One."""')
    (tmp_path / "packages" / "a" / "loop").symlink_to(tmp_path / "packages")
    before = PythonSource().fingerprint()
    assert list(PythonDocs(min_characters=1).texts()) == [("a", "One.")]
    assert PythonSource().fingerprint() == before


def test_an_address_with_a_query_is_read_by_the_suffix_of_its_path(tmp_path):
    pytest.importorskip("fsspec")
    (tmp_path / "f.jsonl").write_bytes(json_lines(["a", "b"]))
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/f.jsonl"
        signed = f"{address}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=5ec4e7"
        assert texts_of(f"{address}?download=true") == texts_of(signed) == ["a", "b"]
        assert corpora.inventory(corpus(signed)) == corpora.inventory(corpus(address))
        (tmp_path / "f.jsonl").write_bytes(b'{"text": "a"}\nnot json\n')
        with pytest.raises(InputError) as caught:
            texts_of(signed)
        assert "f.jsonl, line 2" in str(caught.value)
        with pytest.raises(InputError) as missing:
            texts_of(signed.replace("f.jsonl", "none.jsonl"))
        server.shutdown()
    for error in (caught, missing):
        assert "5ec4e7" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("https://user:pass@host:8/a/b.jsonl?sig=1&x=2", "https://host:8/a/b.jsonl"),
        ("s3://bucket/key.jsonl?versionId=3", "s3://bucket/key.jsonl"),
        ("s3://bucket/key-?.jsonl", "s3://bucket/key-?.jsonl"),
        ("corpus/*.jsonl", "corpus/*.jsonl"),
        ("hf:name#configuration", "hf:name#configuration"),
    ],
)
def test_what_is_recorded_of_an_address_holds_no_secret(name, public):
    assert corpora.recorded(corpus(name))["inputs"] == [public]


def test_parquet_with_binary_texts_or_two_columns_of_one_name(tmp_path):
    pq.write_table(pa.table({"text": pa.array([b"caf\xc3\xa9", b"\xff"], pa.binary())}), tmp_path / "b.parquet")
    good, bad = rows(corpus(tmp_path / "b.parquet"))
    assert (good.text, bad.text) == ("café", None)
    assert bad.fault == "'text' is not UTF-8: byte 0xff at 0"
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"]), tmp_path / "two.parquet")
    with pytest.raises(InputError, match=r"two\.parquet: 2 columns are called 'text'; rename all but one"):
        texts_of(tmp_path / "two.parquet")


def test_a_parquet_file_damaged_in_the_middle_is_named(tmp_path):
    numbers = random.Random(0)
    texts = [str(numbers.getrandbits(8000)) for _ in range(500)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "c.parquet", compression="zstd")
    content = bytearray((tmp_path / "c.parquet").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = b"\xff" * 200
    (tmp_path / "c.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"c\.parquet: "):
        texts_of(tmp_path / "c.parquet")


def test_file_names_that_are_not_utf8_are_escaped(tmp_path):
    (tmp_path / "tree").mkdir()
    with open(os.fsencode(tmp_path / "tree") + b"/caf\xe9.txt", "w") as file:
        file.write("a text")
    assert list(read(corpus(tmp_path / "tree"))) == [("tree/caf\\xe9.txt", "a text")]


def test_data_sets_whose_later_files_have_other_columns_say_so(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "a.jsonl").write_text('{"text": "a", "n": 0}\n')
    (tmp_path / "b.jsonl").write_text('{"text": "b", "n": "s", "extra": [1]}\n')
    with pytest.raises(InputError, match=r"cannot be read beyond 1 rows: .*list the files themselves as inputs"):
        texts_of(f"hf:{tmp_path}")
    assert texts_of(tmp_path / "a.jsonl", tmp_path / "b.jsonl") == ["a", "b"]


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "hf"])
def test_published_segments_come_with_their_rewards(tmp_path, kind):
    texts, scores = [["a. ", "b."], [], ["c"], ["d", "e"]], [[0.25, None], [], [1.0, 2.0], None]
    pq.write_table(pa.table({"texts": texts, "scores": scores}), tmp_path / "p.parquet")
    lines = [json.dumps({"texts": one, "scores": other}) for one, other in zip(texts, scores, strict=True)]
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    if kind == "hf":
        pytest.importorskip("datasets")
        monkeypatched = tmp_path / "hub"
        monkeypatched.mkdir()
        (tmp_path / "p.parquet").rename(monkeypatched / "train.parquet")
        found = list(rows(corpus(f"hf:{monkeypatched}")))
    else:
        found = list(rows(corpus(tmp_path / f"p.{kind}")))
    assert [row.text for row in found] == ["a. b.", "", "c", "de"]
    assert [row.lengths for row in found] == [[3, 2], [], [1], [1, 1]]
    assert str([row.rewards for row in found]) == "[[-0.25, nan], [], [-1.0, -2.0], None]"


def test_missing_inputs_say_so(tmp_path):
    (tmp_path / "empty").mkdir()
    for name, message in ((tmp_path / "no.jsonl", "no such file or folder"), (tmp_path / "empty", "no files in this folder")):
        with pytest.raises(InputError, match=message):
            texts_of(name)
    with pytest.raises(InputError, match="matches no files"):
        texts_of(f"{tmp_path}/*.jsonl")
    with pytest.raises(InputError, match="neither inputs nor a source"):
        texts_of()


def test_a_line_of_50_mb_is_a_document(tmp_path):
    text = "x" * 50_000_000
    (tmp_path / "c.jsonl").write_bytes(json_lines(["a", text, "b"]))
    assert [len(found) for found in texts_of(tmp_path / "c.jsonl")] == [1, 50_000_000, 1]


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet"])
def test_memory_does_not_grow_with_the_corpus(tmp_path, kind):
    def peak(count):
        path = tmp_path / f"{count}.{kind}"
        texts = (f"document {i} " + "x" * 2000 for i in range(count))
        if kind == "parquet":
            pq.write_table(pa.table({"text": list(texts)}), path, row_group_size=200)
        else:
            path.write_bytes((gzip.compress if kind.endswith("gz") else bytes)(json_lines(texts)))
        tracemalloc.start()
        assert sum(1 for _ in read(corpus(path))) == count
        highest = tracemalloc.get_traced_memory()[1] + pa.default_memory_pool().bytes_allocated()
        tracemalloc.stop()
        return highest

    peak(10)
    assert peak(5000) < 1.2 * peak(1000) + 500_000


def test_the_inventory_follows_names_sizes_and_contents_not_times(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_bytes(json_lines(["a" * 200_000, "b"]))
    before = corpora.inventory(corpus(path))
    path.touch()
    assert corpora.inventory(corpus(path)) == before
    path.write_bytes(json_lines(["a" * 200_000, "c"]))
    assert corpora.inventory(corpus(path)) != before
    with pytest.raises(InputError, match="no such file"):
        corpora.inventory(corpus(tmp_path / "none.jsonl"))


# Python on this machine ------------------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A standard library and a folder of packages of our own."""
    standard, packages = tmp_path / "stdlib", tmp_path / "packages"
    paths = {"stdlib": standard, "platstdlib": standard, "purelib": packages, "platlib": packages}
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {name: str(path) for name, path in paths.items()})

    def write(root, name, text):
        path = {"stdlib": standard, "packages": packages}[root] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(textwrap.dedent(text).encode() if isinstance(text, str) else text)

    standard.mkdir()
    packages.mkdir()
    return write


SHAPES = '''
    """The module's own words."""
    def f():
        """What f does."""
        def inner():
            """What inner does."""
    if True:
        class C:
            """  A class.

            It is one.
                Indented once more.
            """
            async def m(self): "What m does, in single quotes."
            @property
            def p(self):
                """A property."""
            @p.setter
            def p(self, value):
                """Its setter."""
    else:
        class C:
            """Another class."""
    x = """No docstring."""
'''


def test_docstrings_by_qualified_name(library):
    library("packages", "shapes/core.py", SHAPES)
    library("packages", "shapes/__init__.py", '"""The package."""')
    assert dict(PythonDocs(min_characters=1).texts()) == {
        "shapes": "The package.",
        "shapes.core": "The module's own words.",
        "shapes.core:f": "What f does.",
        "shapes.core:f.inner": "What inner does.",
        "shapes.core:C": "A class.\n\nIt is one.\n    Indented once more.",
        "shapes.core:C.m": "What m does, in single quotes.",
        "shapes.core:C.p": "A property.",
        "shapes.core:C.p#2": "Its setter.",
        "shapes.core:C#2": "Another class.",
    }


def test_docstrings_said_twice_are_given_once_and_files_that_are_not_python_never(library):
    library("packages", "a.py", '"""Said   twice,\nby two."""')
    library("packages", "b.py", '"""said twice, BY two."""')
    library("packages", "shadowed.py", '"""Never imported."""')
    library("stdlib", "shadowed.py", '"""The one that is imported."""')
    library("packages", "two.py", 'print """Python 2"""')
    library("packages", "latin.py", b'# -*- coding: latin-1 -*-\n"""caf\xe9"""')
    library("packages", "surrogate.py", '"""\\ud800 cannot be written"""')
    library("packages", "nul.py", b'"""a\0b"""')
    library("packages", "tests/test_it.py", '"""A test."""')
    library("stdlib", "site-packages/elsewhere.py", '"""Of another place."""')
    found = dict(PythonDocs(min_characters=1).texts())
    assert sorted(found) in (["a", "shadowed"], ["b", "shadowed"])
    assert found["shadowed"] == "The one that is imported."
    assert "tests.test_it" in dict(PythonDocs(min_characters=1, tests=True).texts())


def test_descriptions_are_cut_at_headings_outside_code(library):
    text = """Metadata-Version: 2.1
Name: thing
Version: 1

# Thing
See https://example.org and @thing.
```sh
# not a heading
```
## Use
Call it — now.

Install
-------
With pip.
"""
    library("packages", "thing-1.0.dist-info/METADATA", text)
    library("packages", "bare-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: bare\n")
    assert dict(PythonDocs(min_characters=1).texts()) == {
        "thing (description):1": "# Thing\nSee https://example.org and @thing.\n```sh\n# not a heading\n```",
        "thing (description):2": "## Use\nCall it — now.",
        "thing (description):3": "Install\n-------\nWith pip.",
    }


def test_lengths_packages_and_limits(library):
    for name in "abcdefgh":
        library("packages", f"{name}/__init__.py", f'"""{name * 10}"""')
    every = list(PythonDocs(min_characters=1).texts())
    assert len(every) == 8
    assert every != sorted(every)
    assert list(PythonDocs(min_characters=1).texts()) == every
    assert list(PythonDocs(min_characters=1, limit_characters=25).texts()) == every[:3]
    assert list(PythonDocs(min_characters=11).texts()) == []
    assert list(PythonDocs(max_characters=9, min_characters=1).texts()) == []
    assert sorted(name for name, _ in PythonDocs(min_characters=1, packages=["b", "g"]).texts()) == ["b", "g"]


def test_source_by_file_and_by_function(library):
    functions = (
        "@os.x\n@y\ndef f(a):\n    return a\x0c\n\n\nclass C:\n    def m(self):\n        '''One\n    two.'''\n        pass  \n"
    )
    source = "import os\n\n\n" + functions
    library("packages", "s.py", source.encode().replace(b"\n", b"\r\n"))
    assert list(PythonSource(min_characters=1).texts()) == [("s.py", source)]
    assert dict(PythonSource(min_characters=1, unit="function").texts()) == {
        "s:f": "@os.x\n@y\ndef f(a):\n    return a\x0c\n",
        "s:C.m": "def m(self):\n    '''One\ntwo.'''\n    pass  \n",
    }


def test_fingerprints_follow_what_is_installed(library):
    library("packages", "a.py", '"""One."""')
    before = PythonDocs().fingerprint()
    library("packages", "b.py", '"""Two."""')
    assert PythonDocs().fingerprint() != before
    assert PythonDocs(packages=["a"]).fingerprint() == PythonDocs(packages=["a"]).fingerprint()


def test_this_machine_has_documentation_and_source():
    loaded = set(sys.modules)
    made = corpus(source={"name": "python-docs", "packages": ["json", "email", "pip"]})
    documents = list(read(made))
    assert len({name for name, _ in documents}) == len(documents) > 100
    assert "json:load" in dict(documents)
    functions = list(read(corpus(source={"name": "python-source", "unit": "function", "packages": ["json"]})))
    assert dict(functions)["json:load"].startswith("def load(")
    assert all(len(text) >= 60 for _, text in functions)
    assert "pip" not in set(sys.modules) - loaded


def test_a_source_and_its_fields_are_checked_by_the_recipe():
    assert plugins.find("corpora", "python-docs") is PythonDocs
    with pytest.raises(InputError, match=r"unit.*'file' or 'function'"):
        corpus(source={"name": "python-source", "unit": "line"})
