"""Corpora: any input to a stream of (id, text), in constant memory however large it is."""

import logging
from collections.abc import Callable, Iterator
from hashlib import blake2b
from itertools import islice
from typing import Any

from phf import config
from phf.corpora import files
from phf.corpora.formats import ROWS_AT_ONCE, checked_row, read_file
from phf.corpora.formats import Row as Row
from phf.corpora.installed_python import PythonDocs as PythonDocs
from phf.corpora.installed_python import PythonSource as PythonSource
from phf.errors import InputError, require

_log = logging.getLogger("phf")


def read(corpus: config.Corpus) -> Iterator[tuple[str, str]]:
    """Read a corpus as (id, text), in an order that is always the same.

    Raises:
        InputError: for an input that is missing or cannot be read, and at the first row that cannot be used, naming the
            file and the line or row. `rows` gives such rows to those who can set them aside.
    """
    for row in rows(corpus):
        if row.text is None:
            raise InputError(f"document {row.id!r}: {row.fault}")
        yield row.id, row.text


def rows(corpus: config.Corpus, reached: Callable[[float], None] = lambda share: None) -> Iterator[Row]:
    """Read a corpus row by row, those that cannot be used among them.

    Args:
        corpus: which documents.
        reached: told now and then what share of the corpus is read, where that can be known.

    Raises:
        InputError: for an input that is missing, or whose fault is of the whole file.
    """
    return islice(map(_writable, _rows(corpus, reached)), corpus.limit)


def inventory(corpus: config.Corpus) -> dict[str, Any]:
    """Say what a corpus is made of, so that a change of it is seen: the number of its files, their bytes, and a fingerprint.

    The fingerprint covers names and sizes, and what stands at both ends of local files. Of a data set on the hub nothing
    is known but its name.
    """
    digest = blake2b(digest_size=8)
    if corpus.source is not None:
        source = config.build("corpora", corpus.source)
        return {"fingerprint": source.fingerprint()} if hasattr(source, "fingerprint") else {}
    found = [file for name in corpus.inputs if not name.startswith("hf:") for file in files.expand(name)]
    for file in found:
        digest.update(files.mark(file))
    return {"files": len(found), "bytes": sum(file.size for file in found), "fingerprint": digest.hexdigest()}


def _rows(corpus: config.Corpus, reached: Callable[[float], None]) -> Iterator[Row]:
    if corpus.source is not None:
        yield from _made(config.build("corpora", corpus.source), reached)
        return
    if not corpus.inputs:
        raise InputError("corpus: neither inputs nor a source is given; say which files to read, or source=python-docs")
    every = [list(files.expand(name)) if not name.startswith("hf:") else [] for name in corpus.inputs]
    total = sum(file.size for named in every for file in named)
    known = all(every) and total > 0
    before = 0
    for name, named in zip(corpus.inputs, every, strict=True):
        if name.startswith("hf:"):
            yield from _hub(name, corpus)
        for file in named:
            with file.open() as opened:
                for number, row in enumerate(read_file(opened, file, corpus)):
                    if known and number % ROWS_AT_ONCE == 0:
                        reached((before + min(opened.tell(), file.size)) / total)
                    yield row
            before += file.size


def _made(source: Any, reached: Callable[[float], None]) -> Iterator[Row]:
    limit = getattr(source, "limit_characters", None)
    characters = 0
    for name, text in source.texts():
        characters += len(text)
        if limit:
            reached(min(1.0, characters / limit))
        yield Row(name, text)


def _writable(row: Row) -> Row:
    """Return a row that UTF-8 can hold: a text or id with a lone surrogate makes it unusable."""
    try:
        if row.text is not None:
            row.text.encode()
        row.id.encode()
        row.fault.encode()
    except UnicodeEncodeError as error:
        code = f"U+{ord(error.object[error.start]):04X} at character {error.start}"
        fault = row.fault or f"the text or id has a lone surrogate: {error.reason} ({code}), which UTF-8 cannot hold"
        return Row(row.id.encode("utf-8", "replace").decode(), None, fault.encode("utf-8", "replace").decode())
    return row


def _hub(name: str, corpus: config.Corpus) -> Iterator[Row]:
    """Stream a data set of the hub, or one that `datasets` finds in a folder: hf:NAME, or hf:NAME#CONFIGURATION."""
    datasets = require("datasets", "data", f"the input {name}")
    address, _, configuration = name.removeprefix("hf:").partition("#")
    try:
        stream = datasets.load_dataset(address, configuration or None, split=corpus.split, streaming=True)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"{name}, split {corpus.split!r}: cannot be opened: {error}") from None
    yield from checked_row(((f"{name}, row {index}", row) for index, row in enumerate(stream)), name, corpus)


# rows of them -----------------------------------------------------------------------------------------------------
