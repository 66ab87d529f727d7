"""Corpora: any input to a stream of (id, text), in constant memory however large it is."""

import bz2
import glob
import gzip
import io
import json
import logging
import lzma
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from phf import config
from phf.documents import content_id
from phf.errors import InputError, require
from phf.installed import PythonDocs as PythonDocs
from phf.installed import PythonSource as PythonSource

_log = logging.getLogger("phf")
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_PUBLISHED = "texts"  # the column of data published already cut into segments
_ROWS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Row:
    """A document as it was found, usable or not.

    Args:
        id: names the document; where it was found, if it could not be read that far.
        text: None if it cannot be used.
        fault: why it cannot be used; "" if it can.
    """

    id: str
    text: str | None
    fault: str = ""


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


def rows(corpus: config.Corpus) -> Iterator[Row]:
    """Read a corpus row by row, those that cannot be used among them.

    Raises:
        InputError: for an input that is missing, or whose fault is of the whole file.
    """
    return islice(map(_writable, _rows(corpus)), corpus.limit)


def inputs_fingerprint(corpus: config.Corpus) -> str:
    """Give 16 hex digits that change when the corpus does.

    They cover names, sizes, and the first and last 64 KiB of local files (not their times, so that a copy is the same);
    sizes of remote files; only the name of a data set on the hub; names and sizes of the files a made corpus is made of.
    """
    digest = blake2b(digest_size=8)
    if corpus.source is not None:
        digest.update(config.build("corpora", corpus.source).fingerprint().encode())
    for name in corpus.inputs:
        digest.update(f"{name}\n".encode())
        if name.startswith("hf:"):
            continue
        if "://" in name:
            for address, filesystem in _remote(name):
                digest.update(f"{address} {filesystem.size(address)}\n".encode())
            continue
        for path, shown, _ in _local(name):
            size = path.stat().st_size
            digest.update(f"{shown} {size}\n".encode())
            with path.open("rb") as file:
                digest.update(file.read(65536))
                file.seek(max(65536, size - 65536))
                digest.update(file.read(65536))
    return digest.hexdigest()


def _rows(corpus: config.Corpus) -> Iterator[Row]:
    if corpus.source is not None:
        for name, text in config.build("corpora", corpus.source).texts():
            yield Row(name, text)
        return
    if not corpus.inputs:
        raise InputError("corpus: neither inputs nor a source is given; say which files to read, or source=python-docs")
    for name in corpus.inputs:
        if name.startswith("hf:"):
            yield from _hub(name, corpus)
        elif "://" in name:
            for address, filesystem in _remote(name):
                with filesystem.open(address, "rb") as file:
                    yield from _file(file, address, PurePosixPath(address), corpus, within_tree=False)
        else:
            for path, shown, within_tree in _local(name):
                with path.open("rb") as file:
                    yield from _file(file, shown, path, corpus, within_tree)


def _writable(row: Row) -> Row:
    """Set aside a text that no UTF-8 file can hold."""
    try:
        if row.text is not None:
            row.text.encode()
        row.id.encode()
    except UnicodeEncodeError as error:
        found = f"{error.reason} (U+{ord(error.object[error.start]):04X} at character {error.start}), which UTF-8 cannot hold"
        return Row(row.id.encode("utf-8", "replace").decode(), None, f"the text or id has a lone surrogate: {found}")
    return row


# where inputs are ------------------------------------------------------------------------------------------------


def _local(name: str) -> Iterator[tuple[Path, str, bool]]:
    """Find the files that a path, folder or glob names: (path, name to show, whether it was found in a folder)."""
    path = Path(name).expanduser()
    if path.is_dir():
        files = list(_walk(path))
        if not files:
            raise InputError(f"{name}: no files in this folder")
        for file in files:
            yield file, f"{path.resolve().name}/{file.relative_to(path).as_posix()}", True
    elif path.exists():
        yield path, name, False
    elif glob.has_magic(name):
        found = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
        files = [file for file in found if file.is_file()]
        if not files:
            raise InputError(f"{name}: matches no files")
        for file in files:
            yield file, file.as_posix(), False
    else:
        raise InputError(f"{name}: no such file or folder; expected a path, a glob, hf:NAME or an address such as s3://...")


def _walk(folder: Path) -> Iterator[Path]:
    """List the files of a tree in order, but not what is hidden or compiled."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__pycache__":
            continue
        if path.is_dir():
            yield from _walk(path)
        elif path.is_file():
            yield path


def _remote(name: str) -> Iterator[tuple[str, Any]]:
    fsspec = require("fsspec", "data", f"the input {name}")
    try:
        filesystem, path = fsspec.core.url_to_fs(name)
        found = sorted(filesystem.glob(path)) if glob.has_magic(path) else [path]
        if not glob.has_magic(path) and filesystem.isdir(path):
            found = sorted(filesystem.find(path))
        if not found or not filesystem.exists(found[0]):
            raise InputError(f"{name}: no such file")
    except (ImportError, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: cannot be opened: {error}") from None
    for address in found:
        yield address, filesystem


def _hub(name: str, corpus: config.Corpus) -> Iterator[Row]:
    """Stream a data set of the hub, or one that `datasets` finds in a folder: hf:NAME, or hf:NAME#CONFIGURATION."""
    datasets = require("datasets", "data", f"the input {name}")
    address, _, configuration = name.removeprefix("hf:").partition("#")
    try:
        stream = datasets.load_dataset(address, configuration or None, split=corpus.split, streaming=True)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"{name}, split {corpus.split!r}: cannot be opened: {error}") from None
    yield from _checked(((f"{name}, row {index}", row) for index, row in enumerate(stream)), name, corpus)


# what is in them -------------------------------------------------------------------------------------------------


def _file(raw: IO[bytes], shown: str, path: PurePosixPath | Path, corpus: config.Corpus, within_tree: bool) -> Iterator[Row]:
    """Read one file by its suffix: rows of Parquet or JSON lines, or one text."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    file = _decompressed(raw, suffixes[-1]) if suffixes and suffixes[-1] in _COMPRESSED else raw
    kind = next((suffix for suffix in reversed(suffixes) if suffix not in _COMPRESSED), "")
    try:
        if kind == ".parquet":
            yield from _parquet(file, shown, corpus)
        elif kind in (".jsonl", ".ndjson") or (kind == ".json" and not within_tree):
            yield from _checked(_json_lines(file, shown), shown, corpus)
        else:
            yield from _text(file, shown, within_tree)
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{shown}: cannot be read to its end ({error}); is it whole?") from None


def _decompressed(raw: IO[bytes], suffix: str) -> Any:
    match suffix:
        case ".gz":
            return gzip.open(raw)
        case ".bz2":
            return bz2.open(raw)
        case ".xz":
            return lzma.open(raw)
        case _:
            return io.BufferedReader(pa.CompressedInputStream(raw, "zstd"))


def _text(file: IO[bytes], shown: str, within_tree: bool) -> Iterator[Row]:
    content = file.read()
    if within_tree and b"\0" in content[:8192]:
        _log.info("%s: not text, left out", shown)
        return
    try:
        yield Row(shown, content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        fault = f"not UTF-8: byte 0x{content[error.start]:02x} in line {line}; expected UTF-8 text"
        if not within_tree:
            raise InputError(f"{shown}: {fault}. Convert it, or leave it out") from None
        yield Row(shown, None, fault)


def _json_lines(file: Iterable[bytes], shown: str) -> Iterator[tuple[str, Any]]:
    """Give (where, object) for each line that is not blank, or (where, error) for a line that is not JSON."""
    for number, line in enumerate(file, start=1):
        where = f"{shown}, line {number}"
        if not line.strip():
            continue
        try:
            yield where, json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError as error:
            yield where, InputError(f"not UTF-8: byte 0x{line[error.start]:02x} at {error.start} of the line")
        except (ValueError, RecursionError) as error:
            yield where, InputError(f"not JSON: {error}")


def _parquet(file: Any, shown: str, corpus: config.Corpus) -> Iterator[Row]:
    try:
        table = pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise InputError(f"{shown}: not a Parquet file ({error})") from None
    names = table.schema_arrow.names
    text_column = _text_column(names, corpus, shown)
    wanted = [text_column] + [name for name in (corpus.id_column,) if name in names]

    def found() -> Iterator[tuple[str, Any]]:
        row = 0
        for batch in table.iter_batches(_ROWS_AT_ONCE, columns=wanted):
            for index in range(len(batch)):
                where = f"{shown}, row {row + index}"
                try:
                    yield where, {name: batch.column(name)[index].as_py() for name in wanted}
                except UnicodeDecodeError as error:
                    yield where, InputError(f"not UTF-8: {error.reason} at byte {error.start} of the text")
            row += len(batch)

    yield from _checked(found(), shown, corpus)


def _checked(found: Iterable[tuple[str, Any]], shown: str, corpus: config.Corpus) -> Iterator[Row]:
    """Take id and text out of rows; a row that does not have them carries its fault.

    Raises:
        InputError: if the first row has no text column: then none has.
    """
    first = True
    for where, row in found:
        if isinstance(row, InputError):
            yield Row(where, None, str(row))
            continue
        if not isinstance(row, Mapping):
            yield Row(where, None, f"found a {type(row).__name__}, expected an object with {corpus.text_column!r}")
            continue
        if first:
            _text_column(list(row), corpus, where)
        first = False
        yield _row(where, row, corpus)


def _row(where: str, row: Mapping[str, Any], corpus: config.Corpus) -> Row:
    column = corpus.text_column if corpus.text_column in row else _PUBLISHED
    text = row.get(column)
    if isinstance(text, list) and all(isinstance(piece, str) for piece in text):
        text = "".join(text)
    found = row.get(corpus.id_column) if corpus.id_column else None
    name = str(found) if isinstance(found, (str, int)) else None
    if found is not None and name is None:
        return Row(where, None, f"{corpus.id_column!r} is {_kind(found)}, expected a string or an integer")
    if not isinstance(text, str):
        what = "missing" if column not in row else _kind(text)
        return Row(name or where, None, f"{corpus.text_column!r} is {what}, expected a string ({where})")
    return Row(content_id(text) if name is None else name, text)


def _kind(value: Any) -> str:
    return "null" if value is None else f"of type {type(value).__name__}"


def _text_column(names: list[str], corpus: config.Corpus, where: str) -> str:
    for column in (corpus.text_column, _PUBLISHED):
        if column in names:
            return column
    raise InputError(
        f"{where}: no column {corpus.text_column!r} (found: {', '.join(sorted(names)) or 'none'}); "
        "say which one holds the text with corpus.text_column"
    )
