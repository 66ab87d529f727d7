"""Reading a corpus on a Ray cluster: pieces of it side by side, by tasks, which leave rows where the actors find them.

Parts have the boundaries of the local executor, so where a piece begins in the corpus must be known before it is read: the
pieces before it are counted, side by side too. This process learns numbers only; rows go from node to node.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from phf import config, corpora
from phf.corpora import Piece, Row
from phf.errors import InputError
from phf.ray_cluster import adopt, surroundings

_PORTION_CHARACTERS = 4 * 2**20
_LEAST_BYTES = 2**20  # of a piece that is worth a task
_UNREAD_PORTIONS = 4  # that a task makes ahead of what is asked for


@dataclass(frozen=True)
class Stretch:
    """A piece and where it is in the corpus.

    Args:
        piece: of the corpus.
        first: number of its first row.
        stop: number of the row after its last; None if that is not known, which only the last stretch may not.
        last: whether the corpus ends with it.
    """

    piece: Piece
    first: int
    stop: int | None
    last: bool


@dataclass(frozen=True)
class Portion:
    """Rows of one part that were read together.

    Args:
        part: number of the part.
        start: of the first row, in the part.
        count: of the rows.
        ends: whether the part ends with them.
        rows: a reference to them, wherever in the cluster they are.
    """

    part: int
    start: int
    count: int
    ends: bool
    rows: Any


class Plan:
    """The stretches of a corpus in order, as soon as what is before them is counted.

    Args:
        ray: the module, connected.
        corpus: which documents.
        at_least: how many pieces there are, if the corpus is not too small for it.
        ahead: pieces that are counted ahead of those that are read.
    """

    def __init__(self, ray: Any, corpus: config.Corpus, at_least: int, ahead: int) -> None:
        self._ray, self._corpus, self._size = ray, corpus, corpora.PIECE_BYTES
        pieces = corpora.pieces(corpus, self._size)
        self.bytes = sum(piece.bytes for piece in pieces)
        if self.bytes < self._size * at_least:
            self._size = max(_LEAST_BYTES, self.bytes // at_least)
            pieces = corpora.pieces(corpus, self._size)
        self._waiting = deque(pieces)
        self._counting: deque[tuple[Piece, Any]] = deque()
        self._ahead = ahead
        self._count = ray.remote(num_cpus=0, max_retries=-1, scheduling_strategy="SPREAD")(_count)
        self._previous: Piece | None = None
        self.rows = self.counted_bytes = 0
        self._advance()

    @property
    def awaited(self) -> Any:
        """What the next stretch waits for; None if there is no further one."""
        return self._counting[0][1] if self._counting else None

    def take(self) -> list[Stretch]:
        """Return the stretches that the piece which was awaited makes.

        Raises:
            InputError: if it cannot be read.
        """
        piece, reference = self._counting.popleft()
        counted = self._ray.get(reference)
        if isinstance(counted, str):
            raise InputError(counted)
        self.counted_bytes += piece.bytes
        self._advance()
        made: list[Stretch] = []
        limit = self._corpus.limit
        for index, each in enumerate(counted):
            self._previous = each = corpora.behind(each, self._previous)
            stop = None if each.rows is None else self.rows + each.rows
            last = not self._counting and index == len(counted) - 1
            if limit is not None and stop is not None and stop >= limit:
                stop, last = limit, True
            made.append(Stretch(each, self.rows, stop, last))
            self.rows = self.rows if stop is None else stop
            if last:
                self._counting.clear()
                self._waiting.clear()
                break
        return made

    def _advance(self) -> None:
        while self._waiting and len(self._counting) < self._ahead:
            piece = self._waiting.popleft()
            if not self._waiting and not corpora.is_divided_when_counted(piece):
                reference = self._ray.put([piece])  # nothing comes behind the last piece: it is read to its end, uncounted
            else:
                reference = self._count.remote(piece, self._corpus, self._size, *surroundings())
            self._counting.append((piece, reference))


def _count(piece: Piece, corpus: config.Corpus, size: int, folder: str, path: list[str]) -> list[Piece] | str:
    """Count a piece; a fault of the corpus is returned as its message."""
    adopt(folder, path)
    try:
        return corpora.counted(piece, corpus, size)
    except InputError as error:
        return str(error)


def start_reader(
    ray: Any, stretch: Stretch, corpus: config.Corpus, part: int, done: frozenset[int], only: frozenset[int] | None
) -> Any:
    """Start a task that reads a stretch, and return the generator of references to what `read` yields.

    Args:
        ray: the module, connected.
        stretch: to read.
        corpus: which columns to read.
        part: rows of a part.
        done: numbers of parts to leave out.
        only: numbers of the parts to read; None for all but those of `done`.
    """
    options = {"num_cpus": 0, "max_retries": 0, "num_returns": "streaming", "scheduling_strategy": "SPREAD"}
    task = ray.remote(**options, _generator_backpressure_num_objects=_UNREAD_PORTIONS)(_read_on_ray)
    return task.remote(stretch, corpus, part, done, only, *surroundings())


def _read_on_ray(
    stretch: Stretch,
    corpus: config.Corpus,
    part: int,
    done: frozenset[int],
    only: frozenset[int] | None,
    folder: str,
    path: list[str],
) -> Iterator[Portion | str]:
    import ray

    adopt(folder, path)
    try:
        for portion in read(stretch, corpus, part, done, only):
            # Put here, so that rows never travel with the portion, however few they are, to the process that asked for it.
            yield Portion(portion.part, portion.start, portion.count, portion.ends, ray.put(portion.rows))
    except InputError as error:
        yield str(error)


def read(
    stretch: Stretch, corpus: config.Corpus, size: int, done: frozenset[int] = frozenset(), only: frozenset[int] | None = None
) -> Iterator[Portion]:
    """Read the rows of a stretch, cut where parts begin; `rows` of a portion are the rows themselves.

    Args:
        stretch: to read.
        corpus: which columns to read.
        size: rows of a part.
        done: numbers of parts to leave out.
        only: numbers of the parts to read; None for all but those of `done`.
    """
    position = stretch.first
    most = stretch.stop if stretch.stop is not None else corpus.limit
    rows: list[Row] = []
    characters = 0

    def portion(ends: bool) -> Portion:
        begin = position - len(rows)
        return Portion(begin // size, begin % size, len(rows), ends, list(rows))

    for row in corpora.piece_rows(stretch.piece, corpus):
        if most is not None and position >= most:
            break
        number = position // size
        position += 1
        if number not in done and (only is None or number in only):
            rows.append(row)
            characters += len(row.text or "")
            if position % size == 0 or characters >= _PORTION_CHARACTERS:
                yield portion(ends=position % size == 0)
                rows, characters = [], 0
        elif only is not None and number > max(only):
            return
    if stretch.stop is not None and position < stretch.stop:
        raise InputError(
            f"{_name(stretch.piece)}: {stretch.stop - position} rows fewer than were counted; it was changed meanwhile"
        )
    number = position // size
    wanted = number not in done and (only is None or number in only)
    if rows or (stretch.last and position % size and wanted):
        yield portion(ends=stretch.last)


def _name(piece: Piece) -> str:
    return piece.hub or ", ".join(file.name for file in piece.files[:3]) or "corpus.source"
