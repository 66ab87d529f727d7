"""Parts of an annotated corpus: their names, their rows, and the summary of each."""

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from phf import config, corpora, object_store
from phf.checksums import Checksum
from phf.errors import InputError

_MOST = 100_000  # parts: their names are sorted as text


@dataclass(frozen=True, slots=True)
class Part:
    """What was done of one part.

    Args:
        rows: of the corpus: documents, empty ones and rows that could not be used.
        documents: written, the failed among them.
        empty: rows whose text has no characters; they are left out.
        segments: of the documents.
        characters: of the documents.
        unscored: segments whose reward is NaN, in any column.
        failures: (id, reason) of documents that failed and rows that could not be used, in order.
        seconds: spent segmenting and scoring.
        slowest: (id, seconds) of the slowest documents; time spent on many texts at once is shared out by characters.
        versions: of the libraries that could change a reward.
        bytes: of the file; 0 where an earlier version of phf wrote it, which did not note them.
        blake2b: of the file, 32 hex digits; "" where an earlier version of phf wrote it.
    """

    rows: int
    documents: int
    empty: int
    segments: int
    characters: int
    unscored: int
    failures: list[tuple[str, str]]
    seconds: float
    slowest: list[tuple[str, float]]
    versions: dict[str, str]
    bytes: int = 0
    blake2b: str = ""

    @property
    def checksum(self) -> Checksum | None:
        """The checksum of its file; None where an earlier version of phf wrote it."""
        return Checksum(self.bytes, self.blake2b) if self.blake2b else None

    def is_at(self, path: Path) -> bool:
        """Return whether the part's file is there as it was written: its size, and of a small one its checksum.

        Of one that is on an object store alone the size is compared.
        """
        if path.is_file():
            return self.checksum is None or not self.checksum.problem(path, complete=False)
        size = object_store.size_of(path)
        return size is not None and self.bytes in (0, size)


def part_name(index: int) -> str:
    """Return the file name of a part."""
    return f"part-{index:05d}.parquet"


def check_number(index: int, size: int) -> None:
    """Check that parts have names for so many.

    Raises:
        InputError: if there are too many parts of this size.
    """
    if index >= _MOST:
        raise InputError(f"the corpus has more than {_MOST:,} parts of {size:,} documents; make annotate.part larger")


def waiting_parts(
    corpus: config.Corpus,
    size: int,
    done: Collection[int],
    on_read: Callable[[int, float], None] = lambda rows, share: None,
) -> Iterator[tuple[int, list[corpora.Row]]]:
    """Yield the number and the rows of each part that is not done.

    Args:
        corpus: which documents.
        size: rows in a part.
        done: numbers of the parts that are there.
        on_read: called after each part with the rows read so far, and the share of the corpus that they are; 0 while
            that is unknown.
    """
    share = 0.0

    def on_share(now: float) -> None:
        nonlocal share
        share = now

    rows = corpora.rows(corpus, on_share)
    total = 0
    for index in count():
        part = list(islice(rows, size))
        total += len(part)
        if len(part) < size:
            share = 1.0
        on_read(total, share)
        if not part:
            return
        check_number(index, size)
        if index not in done:
            yield index, part


def part_from_json(line: str | bytes) -> Part:
    """Read the summary of a part from a line of the journal."""
    fields = json.loads(line)
    fields.pop("part", None)
    pairs = {name: [(first, second) for first, second in fields[name]] for name in ("failures", "slowest")}
    return Part(**{**fields, **pairs})
