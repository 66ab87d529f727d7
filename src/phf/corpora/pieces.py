"""Pieces of a corpus that are read side by side: files, ranges of bytes of a large one, row groups."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import IO, Any

from phf import config
from phf.corpora.files import File, expand
from phf.corpora.formats import Range, count_rows, divisible, read_file, row_groups
from phf.corpora.rows import Row
from phf.corpora.streams import from_hub, from_source
from phf.errors import InputError

PIECE_BYTES = 32 * 2**20
"""About how much of a corpus is one piece."""
_MOST_FILES = 1000  # in one piece


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of a corpus that follow one another.

    Args:
        files: that hold them.
        within: which range of the file, if they are not all of it.
        hub: instead of files: an input hf:NAME.
        source: instead of files: the corpus by name.
        rows: how many there are; None if they are not counted.
        lines: of the range: rows of Parquet, lines of JSON Lines.
    """

    files: tuple[File, ...] = ()
    within: Range | None = None
    hub: str = ""
    source: Any = None
    rows: int | None = None
    lines: int = 0

    @property
    def bytes(self) -> int:
        """The size of its files, or of its range of bytes; 0 for what has no files. Of pieces that are not counted."""
        return self.within.end - self.within.begin if self.within else sum(file.size for file in self.files)


def pieces(corpus: config.Corpus, size: int = PIECE_BYTES) -> list[Piece]:
    """Divide a corpus into pieces in its order. Files are listed, none is read.

    Args:
        corpus: which documents.
        size: bytes of a piece, about.

    Raises:
        InputError: for an input that is missing, or a corpus without any.
    """
    if corpus.source is not None:
        return [Piece(source=config.build("corpora", corpus.source))]
    if not corpus.inputs:
        raise InputError("corpus: neither inputs nor a source is given; say which files to read, or source=python-docs")
    made: list[Piece] = []
    for name in corpus.inputs:
        if name.startswith("hf:"):
            made.append(Piece(hub=name))
        else:
            made += _of_files(list(expand(name)), size)
    return made


def counted(piece: Piece, corpus: config.Corpus, size: int = PIECE_BYTES) -> list[Piece]:
    """Count the rows of a piece and, of large Parquet files, divide it further.

    Lines are counted without being parsed, and row groups without being read; other files are read.

    Raises:
        InputError: for a file that cannot be read.
    """
    if piece.within is not None:  # of bytes: of row groups the rows are known
        with _opened(piece.files[0]) as raw:
            lines, rows = count_rows(raw, piece.within)
        return [replace(piece, rows=rows, lines=lines)]
    if is_divided_when_counted(piece):
        return list(_row_groups(piece, size))
    return [replace(piece, rows=sum(1 for _ in piece_rows(piece, corpus)))]


def is_divided_when_counted(piece: Piece) -> bool:
    """Return whether `counted` may make several pieces of it: of a Parquet file, whose row groups are known once it is opened."""
    return piece.within is None and len(piece.files) == 1 and divisible(piece.files[0]) == "row groups"


def behind(piece: Piece, previous: Piece | None) -> Piece:
    """Return a piece that knows how many lines of its file are in those before it.

    Args:
        piece: counted or not.
        previous: the one before it, for which this was done.
    """
    if piece.within is None or piece.within.begin == 0:
        return piece
    assert previous is not None
    assert previous.within is not None
    return replace(piece, within=replace(piece.within, before=previous.within.before + previous.lines))


def piece_rows(piece: Piece, corpus: config.Corpus) -> Iterator[Row]:
    """Read the rows of a piece, those that cannot be used among them.

    Raises:
        InputError: as `rows` does.
    """
    if piece.source is not None:
        found = from_source(piece.source)
    elif piece.hub:
        found = from_hub(piece.hub, corpus)
    else:
        found = chain.from_iterable(_file_rows(file, piece.within, corpus) for file in piece.files)
    return (row.writable() for row in found)


def _file_rows(file: File, within: Range | None, corpus: config.Corpus) -> Iterator[Row]:
    with _opened(file) as raw:
        yield from read_file(raw, file, corpus, within)


def _opened(file: File) -> IO[bytes]:
    """Open a file, which this node may not have."""
    try:
        return file.open()
    except FileNotFoundError:
        raise InputError(f"{file.name}: no such file on {socket.gethostname()}; every node must reach the corpus") from None


def _of_files(files: list[File], size: int) -> Iterator[Piece]:
    """Divide the files of one input: several small ones together, a large one of JSON Lines into ranges, others alone."""
    together: list[File] = []
    total = 0
    for file in files:
        unit = divisible(file)
        alone = unit == "row groups" or (unit == "bytes" and file.size > size)
        if together and (alone or len(together) == _MOST_FILES or total + file.size > size):
            yield Piece(tuple(together))
            together, total = [], 0
        if not alone:
            together.append(file)
            total += file.size
        elif unit == "row groups":
            yield Piece((file,))
        else:
            for begin in range(0, file.size, size):
                yield Piece((file,), Range(begin, min(begin + size, file.size)))
    if together:
        yield Piece(tuple(together))


def _row_groups(piece: Piece, size: int) -> Iterator[Piece]:
    """Divide a Parquet file at its row groups."""
    (file,) = piece.files
    with _opened(file) as raw:
        groups = row_groups(raw, file)
    begin = 0
    while begin < len(groups) or begin == 0:
        end, taken = begin, 0
        while end < len(groups) and (end == begin or taken + groups[end][1] <= size):
            taken += groups[end][1]
            end += 1
        rows = sum(count for count, _ in groups[begin:end])
        yield replace(piece, within=Range(begin, end), rows=rows, lines=rows)
        begin = max(end, 1)
