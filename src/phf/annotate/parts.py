"""Parts of an annotated corpus: their names, their rows, and the summary of each."""

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import count, islice

from phf import config, corpora
from phf.errors import InputError


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
        seconds: spent cutting and scoring.
        slowest: (id, seconds) of the slowest documents; what a scorer takes for many texts at once is shared out by characters.
        versions: of the libraries that could change a reward.
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


_MOST = 100_000  # parts: their names are sorted as texts


def part_name(index: int) -> str:
    """Name the file of a part."""
    return f"part-{index:05d}.parquet"


def waiting_parts(
    corpus: config.Corpus, size: int, done: Collection[int], read: Callable[[int, float], None] = lambda rows, share: None
) -> Iterator[tuple[int, list[corpora.Row]]]:
    """Give the parts that are not done, with their numbers.

    Args:
        corpus: which documents.
        size: rows in a part.
        done: numbers of the parts that are there.
        read: told, part by part, how many rows are read, and what share of the corpus that is; 0 while that is unknown.
    """
    share = 0.0

    def reached(now: float) -> None:
        nonlocal share
        share = now

    rows = corpora.rows(corpus, reached)
    total = 0
    for index in count():
        part = list(islice(rows, size))
        total += len(part)
        if len(part) < size:
            share = 1.0
        read(total, share)
        if not part:
            return
        if index == _MOST:
            raise InputError(f"the corpus has more than {_MOST:,} parts of {size:,} documents; make annotate.part larger")
        if index not in done:
            yield index, part


def part_from_json(line: str | bytes) -> Part:
    """Read what was done of a part, as JSON holds it."""
    fields = json.loads(line)
    fields.pop("part", None)
    pairs = {name: [(each, value) for each, value in fields[name]] for name in ("failures", "slowest")}
    return Part(**{**fields, **pairs})
