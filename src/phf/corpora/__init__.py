"""Corpora: any input to a stream of rows with id and text, in constant memory however large it is."""

from collections.abc import Callable, Iterator
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from phf import config
from phf.corpora import files
from phf.corpora.formats import ROWS_AT_ONCE, read_file
from phf.corpora.installed_python import PythonDocs, PythonSource
from phf.corpora.pieces import PIECE_BYTES, Piece, behind, counted, is_divided_when_counted, piece_rows, pieces
from phf.corpora.rows import Row
from phf.corpora.streams import FingerprintedSource, Source, VersionedSource, from_hub, from_source
from phf.errors import InputError

__all__ = [
    "PIECE_BYTES", "Piece", "PythonDocs", "PythonSource", "Row", "Source", "behind", "counted", "inventory",
    "is_divided_when_counted", "mark_of", "piece_rows", "pieces", "read", "recorded", "rows",
]  # fmt: skip


def read(corpus: config.Corpus) -> Iterator[tuple[str, str]]:
    """Read a corpus as (id, text), always in the same order.

    Raises:
        InputError: for an input that is missing or cannot be read, and at the first row that cannot be used, naming the
            file and the line or row. `rows` yields such rows to callers that can set them aside.
    """
    for row in rows(corpus):
        if row.text is None:
            raise InputError(f"document {row.id!r}: {row.fault}")
        yield row.id, row.text


def mark_of(path: Path) -> str:
    """Return a text that changes when a local file does: of its size and its ends."""
    return "".join(files.mark(file).hex() for file in files.expand(str(path)))


def rows(corpus: config.Corpus, on_share: Callable[[float], None] = lambda share: None) -> Iterator[Row]:
    """Read a corpus row by row, those that cannot be used among them.

    Args:
        corpus: which documents.
        on_share: called now and then with the share of the corpus that is read, where that can be known.

    Raises:
        InputError: for an input that is missing, or whose fault is of the whole file.
    """
    return islice((row.writable() for row in _rows(corpus, on_share)), corpus.limit)


def inventory(corpus: config.Corpus) -> dict[str, Any]:
    """Describe the files of a corpus, so that a change is noticed: their number, bytes, and a fingerprint.

    The fingerprint covers names and sizes, and both ends of local files. Of a data set on the hub only its name is known. A
    source tells its own fingerprint, and the versions of what it reads.

    Raises:
        InputError: for an input that is missing, or a package of a source that is not installed.
    """
    digest = blake2b(digest_size=8)
    if corpus.source is not None:
        source = config.build("corpora", corpus.source)
        marks: dict[str, Any] = {"fingerprint": source.fingerprint()} if isinstance(source, FingerprintedSource) else {}
        return marks | ({"versions": source.versions()} if isinstance(source, VersionedSource) else {})
    named = [file for name in corpus.inputs if not name.startswith("hf:") for file in files.expand(name)]
    for file in named:
        digest.update(files.mark(file))
    return {"files": len(named), "bytes": sum(file.size for file in named), "fingerprint": digest.hexdigest()}


def recorded(corpus: config.Corpus) -> dict[str, Any]:
    """Return the configuration of a corpus as an output records it: addresses without user, password and query."""
    fields: dict[str, Any] = config.plain(corpus)
    return {**fields, "inputs": [files.public_address(name) for name in corpus.inputs]}


def _rows(corpus: config.Corpus, on_share: Callable[[float], None]) -> Iterator[Row]:
    if corpus.source is not None:
        yield from from_source(config.build("corpora", corpus.source), on_share)
        return
    if not corpus.inputs:
        raise InputError("corpus: neither inputs nor a source is given; say which files to read, or source=python-docs")
    inputs = [list(files.expand(name)) if not name.startswith("hf:") else [] for name in corpus.inputs]
    total = sum(file.size for named in inputs for file in named)
    known = all(inputs) and total > 0
    before = 0
    for name, named in zip(corpus.inputs, inputs, strict=True):
        if name.startswith("hf:"):
            yield from from_hub(name, corpus)
        for file in named:
            with file.open() as opened:
                for number, row in enumerate(read_file(opened, file, corpus)):
                    if known and number % ROWS_AT_ONCE == 0:
                        on_share((before + min(opened.tell(), file.size)) / total)
                    yield row
            before += file.size
