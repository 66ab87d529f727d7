"""File formats: JSON Lines, Parquet and text, compressed or not, to rows."""

import bz2
import gzip
import io
import json
import logging
import lzma
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from phf import config
from phf.corpora import files
from phf.documents import content_id
from phf.errors import InputError

_log = logging.getLogger("phf")
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


_PUBLISHED = "texts"  # the column of data published already cut into segments


ROWS_AT_ONCE = 256


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


def read_file(raw: IO[bytes], named: files.File, corpus: config.Corpus) -> Iterator[Row]:
    """Read one file by its suffix: rows of Parquet or JSON lines, or one text."""
    shown = named.name
    suffixes = [suffix.lower() for suffix in named.path.suffixes]
    file = _decompressed(raw, suffixes[-1]) if suffixes and suffixes[-1] in _COMPRESSED else raw
    kind = next((suffix for suffix in reversed(suffixes) if suffix not in _COMPRESSED), "")
    try:
        if kind == ".parquet":
            yield from _parquet(file, shown, corpus)
        elif kind in (".jsonl", ".ndjson") or (kind == ".json" and not named.found):
            yield from checked_row(_json_lines(file, shown), shown, corpus)
        else:
            yield from _text(file, shown, named.found)
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


def _text(file: IO[bytes], shown: str, found: bool) -> Iterator[Row]:
    content = file.read()
    if found and b"\0" in content[:8192]:
        _log.info("%s: not text, left out", shown)
        return
    try:
        yield Row(shown, content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        fault = f"not UTF-8: byte 0x{content[error.start]:02x} in line {line}; expected UTF-8 text"
        if not found:
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
        for batch in table.iter_batches(ROWS_AT_ONCE, columns=wanted):
            for index in range(len(batch)):
                where = f"{shown}, row {row + index}"
                try:
                    yield where, {name: batch.column(name)[index].as_py() for name in wanted}
                except UnicodeDecodeError as error:
                    yield where, InputError(f"not UTF-8: {error.reason} at byte {error.start} of the text")
            row += len(batch)

    yield from checked_row(found(), shown, corpus)


def checked_row(found: Iterable[tuple[str, Any]], shown: str, corpus: config.Corpus) -> Iterator[Row]:
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
        fault = f"{corpus.text_column!r} is {what}, expected a string"
        return Row(where, None, fault) if name is None else Row(name, None, f"{fault} ({where})")
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
