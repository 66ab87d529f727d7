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
from typing import IO, Any

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


def read_file(raw: IO[bytes], file: File, corpus: config.Corpus) -> Iterator[Row]:
    """Read one file by its suffix: rows of Parquet or JSON Lines, or one text.

    Raises:
        InputError: for a fault of the whole file.
    """
    suffixes = [suffix.lower() for suffix in file.path.suffixes]
    stream = _decompressed(raw, suffixes[-1]) if suffixes and suffixes[-1] in _COMPRESSED else raw
    kind = _kind(suffixes)
    try:
        if kind == ".parquet":
            yield from _parquet(stream, file.name, corpus)
        elif kind in _JSON_LINES or (kind == ".json" and not file.in_folder):
            yield from checked_rows(_json_lines(stream, file.name), corpus)
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


def checked_rows(found: Iterable[tuple[str, Any]], corpus: config.Corpus) -> Iterator[Row]:
    """Yield a row for each (where, columns); one that cannot be used carries its fault.

    Raises:
        InputError: if the first row has no text column: then none has.
    """
    first = True
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


def _json_lines(stream: Iterable[bytes], shown: str) -> Iterator[tuple[str, Any]]:
    """Yield (where, object) for each line that is not blank, or (where, error) for a line that is not JSON."""
    first = True
    for number, line in enumerate(stream, start=1):
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


def _parquet(stream: Any, shown: str, corpus: config.Corpus) -> Iterator[Row]:
    try:
        table = pq.ParquetFile(stream)
    except pa.ArrowInvalid as error:
        raise InputError(f"{shown}: not a Parquet file ({error})") from None
    names = table.schema_arrow.names
    column = text_column(names, corpus, shown)
    wanted = [column] + [name for name in (corpus.id_column, PUBLISHED_SCORES) if name in names and name != column]
    for name in wanted:
        if names.count(name) > 1:
            raise InputError(f"{shown}: {names.count(name)} columns are called {name!r}; rename all but one")

    def found() -> Iterator[tuple[str, Any]]:
        row = 0
        try:
            for batch in table.iter_batches(ROWS_AT_ONCE, columns=wanted):
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
