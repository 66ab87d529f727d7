"""File formats: JSON Lines, Parquet and text, compressed or not, to rows."""

import bz2
import codecs
import functools
import gzip
import io
import json
import logging
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from phf import config
from phf.corpora.files import File
from phf.corpora.rows import PUBLISHED_SCORES, Row, read_row, text_column
from phf.errors import InputError

_log = logging.getLogger("phf")
ROWS_AT_ONCE = 256
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_JSON_LINES = (".jsonl", ".ndjson")
_TEXT = (".txt", ".text", ".md", ".rst", ".tex", ".html", ".xml", ".yaml", ".yml", ".toml", ".py")
_TABLES = (".csv", ".tsv", ".arrow", ".feather", ".orc", ".avro", ".xlsx")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class Range:
    """A range of a file that is read alone.

    Args:
        begin, end: bytes of JSON Lines, where a line belongs to the range that it begins in; row groups of Parquet.
        before: lines or rows of the file before it.
    """

    begin: int
    end: int
    before: int = 0


def divisible(file: File) -> Literal["bytes", "row groups"] | None:
    """Return what ranges of a file are counted in; None for a file that is read whole, as compressed ones are."""
    suffixes = [suffix.lower() for suffix in file.path.suffixes]
    kind = _kind(suffixes)
    if not file.is_seekable or (suffixes and suffixes[-1] in _COMPRESSED):
        return None
    if kind == ".parquet":
        return "row groups"
    return "bytes" if _is_json_lines(kind, file) else None


def read_file(raw: IO[bytes], file: File, corpus: config.Corpus, within: Range | None = None) -> Iterator[Row]:
    """Read one file by its suffix: rows of Parquet or JSON Lines, or one text.

    Args:
        raw: the opened file.
        file: its name and suffixes.
        corpus: which columns to read.
        within: read this range alone, of a file that is `divisible`. Only a range at the beginning checks for the column.

    Raises:
        InputError: for a fault of the whole file.
    """
    suffixes = [suffix.lower() for suffix in file.path.suffixes]
    stream = _decompressed(raw, suffixes[-1]) if suffixes and suffixes[-1] in _COMPRESSED else raw
    kind = _kind(suffixes)
    try:
        if kind == ".parquet":
            yield from _parquet(stream, file.name, corpus, within)
        elif _is_json_lines(kind, file):
            first = within is None or within.begin == 0
            yield from checked_rows(_json_lines(stream, file.name, within), corpus, first)
        else:
            if kind in _TABLES and not file.in_folder:
                raise InputError(f"{file.name}: {kind} files are not read; convert it to JSON Lines (.jsonl) or Parquet")
            if kind in _TABLES:
                _warn_once(f"{file.name}: {kind} files are read as one document each; leave them out if they are tables")
            yield from _text(stream, file, is_known=kind in _TEXT or kind == "" or file.in_folder)
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        if "too much memory" in str(error) or "window" in str(error).lower():  # as zstd words it
            raise InputError(
                f"{file.name}: its zstd window is larger than the 128 MiB that are read; "
                "compress it without --long, or decompress it first with: zstd -d --long=31"
            ) from None
        raise InputError(f"{file.name}: cannot be read to its end ({error}); is it whole?") from None


def count_rows(raw: IO[bytes], within: Range) -> tuple[int, int]:
    """Count the lines in a range of JSON Lines, and the rows among them: those that are not blank."""
    lines = rows = 0
    for number, line in _lines(raw, within):
        lines += 1
        rows += bool((line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).strip())
    return lines, rows


def row_groups(raw: IO[bytes], file: File) -> list[tuple[int, int]]:
    """Return (rows, bytes) of each row group of a Parquet file."""
    metadata = _open_parquet(raw, file.name).metadata
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    return [(group.num_rows, group.total_byte_size) for group in groups]


def checked_rows(found: Iterable[tuple[str, Any]], corpus: config.Corpus, first: bool = True) -> Iterator[Row]:
    """Yield a row for each (where, columns); one that cannot be used carries its fault.

    Args:
        found: where each row is, and its columns.
        corpus: which columns to read.
        first: whether to check that the first row has a text column.

    Raises:
        InputError: if it has none: then no row has.
    """
    for where, fields in found:
        if isinstance(fields, InputError):
            yield Row(where, None, str(fields))
            continue
        if not isinstance(fields, Mapping):
            yield Row(where, None, f"found a {type(fields).__name__}, expected an object with {corpus.text_column!r}")
            continue
        if first:
            text_column(fields, corpus, where)
        first = False
        yield read_row(where, fields, corpus)


def _kind(suffixes: list[str]) -> str:
    """Return the suffix that says what a file is: of part.jsonl.0001.gz it is .jsonl."""
    known = (*_JSON_LINES, ".json", ".parquet", *_TABLES, *_TEXT)
    inner = [suffix for suffix in reversed(suffixes) if suffix not in _COMPRESSED]
    numbered = next((suffix for suffix in inner if not re.fullmatch(r"\.\d+", suffix)), "")
    return next((suffix for suffix in inner if suffix in known), numbered)


@functools.cache
def _warn_once(message: str) -> None:
    _log.warning("%s", message)


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


def _text(stream: IO[bytes], file: File, is_known: bool) -> Iterator[Row]:
    content = stream.read()
    fault = ""
    if content.startswith(_UTF_16):
        fault = "UTF-16; expected UTF-8 text. Convert it with: iconv -f UTF-16 -t UTF-8"
    elif file.in_folder and b"\0" in content[:8192]:
        _log.info("%s: not text, left out", file.name)
        return
    elif not is_known and content.lstrip()[:1] == b"{":
        fault = "looks like JSON, but its suffix is unknown; rename it to .jsonl if it holds an object a line, else to .txt"
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        fault = fault or f"not UTF-8: byte 0x{content[error.start]:02x} in line {line}; expected UTF-8 text"
    if fault and not file.in_folder:
        raise InputError(f"{file.name}: {fault}")
    if fault:
        yield Row(file.name, None, fault)
        return
    if not is_known:
        _log.warning("%s: its suffix is unknown; read as one text document", file.name)
    yield Row(file.name, text)


def _is_json_lines(kind: str, file: File) -> bool:
    return kind in _JSON_LINES or (kind == ".json" and not file.in_folder)


def _lines(stream: IO[bytes], within: Range | None) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a stream, or those that begin in a range of it, with their numbers in the file, from 1 on."""
    if within is None:
        yield from enumerate(stream, start=1)
        return
    position, number = within.begin, within.before
    if within.begin > 0:  # the line that goes on here belongs to the range before
        stream.seek(within.begin - 1)
        position += len(stream.readline()) - 1
    while position < within.end and (line := stream.readline()):
        position, number = position + len(line), number + 1
        yield number, line


def _json_lines(stream: IO[bytes], shown: str, within: Range | None = None) -> Iterator[tuple[str, Any]]:
    """Yield (where, object) for each line that is not blank, or (where, error) for a line that is not JSON."""
    first = within is None or within.begin == 0
    for number, line in _lines(stream, within):
        where = f"{shown}, line {number}"
        if number == 1:
            _check_first_line(line, shown)
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.strip():
            continue
        if first and line.lstrip().startswith(b"["):
            raise InputError(f"{shown}: a JSON array; expected an object a line. Convert it with: jq -c '.[]'")
        first = False
        try:
            yield where, json.loads(line.decode())
        except UnicodeDecodeError as error:
            yield where, InputError(f"not UTF-8: byte 0x{line[error.start]:02x} at {error.start} of the line")
        except (ValueError, RecursionError) as error:
            if b"\r" in line.strip():
                raise InputError(
                    f"{shown}: its lines end in carriage returns alone; expected line feeds. Convert it with: tr '\\r' '\\n'"
                ) from None
            yield where, InputError(f"not JSON: {error}")


def _check_first_line(line: bytes, shown: str) -> None:
    if line.startswith(_UTF_16):
        raise InputError(f"{shown}: UTF-16; expected UTF-8. Convert it with: iconv -f UTF-16 -t UTF-8")
    if line.strip() == b"{":
        raise InputError(f"{shown}: a JSON object over several lines; expected an object a line. Convert it with: jq -c .")


def _open_parquet(stream: Any, shown: str) -> Any:
    try:
        return pq.ParquetFile(stream)
    except pa.ArrowInvalid as error:
        raise InputError(f"{shown}: not a Parquet file ({error})") from None


def _parquet(stream: Any, shown: str, corpus: config.Corpus, within: Range | None) -> Iterator[Row]:
    table = _open_parquet(stream, shown)
    groups = range(table.metadata.num_row_groups) if within is None else range(within.begin, within.end)
    names = table.schema_arrow.names
    column = text_column(names, corpus, shown)
    wanted = [column] + [name for name in (corpus.id_column, PUBLISHED_SCORES) if name in names and name != column]
    for name in wanted:
        if names.count(name) > 1:
            raise InputError(f"{shown}: {names.count(name)} columns are called {name!r}; rename all but one")

    def found() -> Iterator[tuple[str, Any]]:
        row = within.before if within else 0
        try:
            for batch in table.iter_batches(ROWS_AT_ONCE, row_groups=list(groups), columns=wanted):
                for index in range(len(batch)):
                    where = f"{shown}, row {row + index}"
                    try:
                        yield where, {name: batch.column(name)[index].as_py() for name in wanted}
                    except UnicodeDecodeError as error:
                        yield where, InputError(f"not UTF-8: {error.reason} at byte {error.start} of the text")
                row += len(batch)
        except pa.ArrowInvalid as error:
            raise InputError(f"{shown}: damaged from row {row} on ({error})") from None

    yield from checked_rows(found(), corpus)
