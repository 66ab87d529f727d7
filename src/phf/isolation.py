"""Scoring in a process that may die: it scores a part of a corpus, and its keeper restarts it when a document kills it.

A scorer runs code of others over texts of anybody: a regular expression that never ends, a parser that overflows, a
model that asks for all memory. Nothing inside a process can be relied on to stop these, so the process is what is given
up: the keeper starts another, which takes up the part where the first fell, and the document is set aside.

Scorers may say two things beside scoring: `batch_characters`, how much text they like in one call (a model on a GPU
likes more than the 20,000 of the default), and nothing else of this file concerns them.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from phf import config
from phf.corpora import Row
from phf.documents import SCHEMA, Document, write_part
from phf.errors import InputError
from phf.scorers import Scorer, SegmentScorer
from phf.segmenters import segment

Outcome = list[np.ndarray] | str
"""What became of a document: its rewards by each scorer, (S,) each; or why it failed."""

_BATCH_CHARACTERS = 20_000
_LEAST_CHARACTERS = 100  # what a document counts for at least, so that a batch of tiny ones has an end
_SLOWEST = 5
_DEATHS_IN_A_ROW = 3
_LOOK_EVERY = 0.1  # seconds between two looks at the memory of the process
_START = "import sys; sys.path[:] = sys.argv[2:]; from phf.isolation import serve; serve(int(sys.argv[1]))"
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)


@dataclass(frozen=True, slots=True)
class Part:
    """What was done of one part.

    Args:
        rows: of the corpus, that is documents and rows without a usable text.
        documents: written, the failed among them.
        segments: of the documents.
        characters: of the documents.
        unscored: segments whose reward is NaN, in any column.
        failures: (id, reason) of documents that failed and rows that could not be used, in order.
        seconds: spent scoring.
        slowest: (id, seconds) of the slowest documents; a scorer that takes many texts at once is shared out by characters.
        versions: of the libraries that could change a reward.
    """

    rows: int
    documents: int
    segments: int
    characters: int
    unscored: int
    failures: list[tuple[str, str]]
    seconds: float
    slowest: list[tuple[str, float]]
    versions: dict[str, str]


@dataclass
class _Request:
    """A part to score: what is known of it already (a process before this one scored it), and what to score one by one."""

    path: Path
    rows: Sequence[Row]
    known: dict[int, Outcome] = field(default_factory=dict)
    alone: set[int] = field(default_factory=set)
    patient: bool = False


class Keeper:
    """Keeps one scoring process: starts it, hands it parts, and replaces it when a document brings it down.

    Args:
        options: how documents are cut and scored.
        memory: GiB the process may hold.
        environment: more variables of the process, such as the GPU it may see.
    """

    def __init__(self, options: config.Annotate, memory: float, environment: Mapping[str, str] | None = None) -> None:
        self._options = options
        self._memory = memory
        self._environment = {**os.environ, **_ONE_THREAD, "TOKENIZERS_PARALLELISM": "false", **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._patient = False
        self._closed = False

    def part(self, path: Path, rows: Sequence[Row], scored: Callable[[int], None] = lambda count: None) -> Part:
        """Cut, score and write one part, whole or not at all.

        A document that fails is one segment with a NaN reward.

        Args:
            path: of the Parquet file to write.
            rows: of the part.
            scored: called with the number of documents whenever some are through.

        Raises:
            InputError: for what no other document would change: a scorer or segmenter that cannot be loaded, segments
                that do not join to the text, a disk that is full.
        """
        request = _Request(path, rows, patient=self._patient)
        slow: list[set[int]] = []
        deaths = 0
        while True:
            group: list[int] = []
            try:
                connection = self._started()
                connection.send(request)
                while True:
                    match self._receive(connection):
                        case "scoring", group:
                            pass
                        case "scored", outcomes:
                            request.known.update(outcomes)
                            scored(len(outcomes))
                            group, deaths = [], 0
                        case "written", part:
                            # A batch that took too long, though none of its documents did alone: the scorer is slow.
                            self._patient |= any(all(_succeeded(request.known[i]) for i in each) for each in slow)
                            done: Part = part
                            return done
                        case "unusable", message:
                            raise InputError(message)
            except _DiedError as death:
                self._stop()
                if self._closed:
                    raise InputError("stopped") from None
                deaths += 1
                if len(group) == 1:
                    request.known[group[0]] = str(death)
                    scored(1)
                elif group:
                    request.alone.update(group)
                    if death.too_slow:
                        slow.append(set(group))
                elif deaths >= _DEATHS_IN_A_ROW:
                    raise InputError(f"the scoring process does not stay up: {death}, and not because of a document") from None

    def close(self) -> None:
        """End the process, at once."""
        self._closed = True
        self._stop()

    def _started(self) -> Connection:
        if self._connection is None:
            ours, theirs = Pipe()
            with theirs:
                os.set_inheritable(theirs.fileno(), True)
                command = [sys.executable, "-c", _START, str(theirs.fileno()), *sys.path]
                self._process = subprocess.Popen(
                    command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=self._environment
                )
            self._connection = ours
            ours.send(self._options)
        return self._connection

    def _receive(self, connection: Connection) -> Any:
        assert self._process is not None
        try:
            while not connection.poll(_LOOK_EVERY):
                if _resident(self._process.pid) > self._memory * 2**30:
                    raise _DiedError(f"needed more than {self._memory:.3g} GiB of memory")
            return connection.recv()
        except (EOFError, OSError):
            raise self._death() from None

    def _death(self) -> "_DiedError":
        assert self._process is not None
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return _DiedError("the scoring process closed its connection")
        if status == -signal.SIGALRM:
            return _DiedError(f"took longer than {self._options.timeout:g} s", too_slow=True)
        if status < 0:
            return _DiedError(f"the scoring process was ended by {signal.Signals(-status).name}")
        return _DiedError(f"the scoring process ended with status {status}")

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None


class _DiedError(Exception):
    def __init__(self, reason: str, too_slow: bool = False) -> None:
        super().__init__(reason)
        self.too_slow = too_slow


def _succeeded(outcome: Outcome) -> bool:
    return not isinstance(outcome, str)


def _resident(pid: int) -> int:
    """Bytes of memory a process holds; 0 where the system does not say."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


# in the scoring process ------------------------------------------------------------------------------------------


def serve(handle: int) -> None:
    """Score parts until the keeper hangs up. This is the main function of the scoring process."""
    os.dup2(2, 1)  # what a scorer prints is no output of phf
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the keeper decides
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    connection = Connection(handle)
    with contextlib.suppress(EOFError, OSError):
        try:
            annotator = _Annotator(connection.recv(), connection.send)
            while True:
                annotator.annotate(connection.recv())
        except InputError as error:
            connection.send(("unusable", str(error)))


class _Annotator:
    """Cuts and scores parts. Tells the keeper what it is at, before and after."""

    def __init__(self, options: config.Annotate, tell: Callable[[Any], None]) -> None:
        self._tell = tell
        self._timeout = options.timeout
        self._segmenter = config.build("segmenters", options.segmenter)
        self._columns = ["rewards", *options.also]
        self._scorers: list[Scorer] = [config.build("scorers", each) for each in (options.scorer, *options.also.values())]
        self._batch = min(getattr(scorer, "batch_characters", _BATCH_CHARACTERS) for scorer in self._scorers)
        self._request = _Request(Path(), [])
        self._seconds: dict[int, float] = {}
        # Models load at the first text; that is not the first document's time.
        self._score([self._segmenter.segment("A line.\n")])

    def annotate(self, request: _Request) -> None:
        self._request = request
        self._seconds = {}
        for batch in self._batches():
            self._try(batch)
        documents, outcomes = [], []
        failures = []
        for index, row in enumerate(request.rows):
            outcome: Outcome = request.known[index] if row.text is not None else row.fault
            if isinstance(outcome, str):
                failures.append((row.id, outcome))
            if row.text is None:
                continue
            failed = isinstance(outcome, str)
            segments = [row.text] if failed else segment(self._segmenter, row.id, row.text)
            rewards = [np.full(1, np.nan, np.float32)] * len(self._columns) if isinstance(outcome, str) else outcome
            documents.append(Document(row.id, segments, rewards[0]))
            outcomes.append(rewards)
        extra = {
            name: pa.array([rewards[column] for rewards in outcomes], SCHEMA.field("rewards").type)
            for column, name in enumerate(self._columns)
            if column > 0
        }
        try:
            write_part(request.path, documents, extra)
        except OSError as error:
            raise InputError(f"{request.path}: cannot be written: {error}") from None
        slowest = sorted(self._seconds.items(), key=lambda item: -item[1])[:_SLOWEST]
        part = Part(
            rows=len(request.rows),
            documents=len(documents),
            segments=sum(len(document.segments) for document in documents),
            characters=sum(len(piece) for document in documents for piece in document.segments),
            unscored=sum(int(np.isnan(rewards).any(axis=0).sum()) for rewards in outcomes),
            failures=failures,
            seconds=sum(self._seconds.values()),
            slowest=[(request.rows[index].id, seconds) for index, seconds in slowest],
            versions=_versions(),
        )
        self._tell(("written", part))

    def _batches(self) -> Iterator[list[int]]:
        """Group the part's usable documents, always in the same way, so that what a scorer sees at once never varies."""
        batch: list[int] = []
        size = 0
        for index, row in enumerate(self._request.rows):
            if row.text is None:
                continue
            batch.append(index)
            size += max(len(row.text), _LEAST_CHARACTERS)
            if size >= self._batch:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _try(self, group: list[int]) -> None:
        """Score a group of documents; one by one if it cannot be scored together."""
        group = [index for index in group if index not in self._request.known]
        if not group:
            return
        if len(group) > 1 and not self._request.alone.isdisjoint(group):
            for index in group:
                self._try([index])
            return
        self._tell(("scoring", group))
        # The signal's default action ends the process, whatever code it is in and whether or not the keeper lives.
        signal.setitimer(signal.ITIMER_REAL, self._timeout * (len(group) if self._request.patient else 1))
        try:
            outcomes: Mapping[int, Outcome] = self._score_group(group)
        except InputError:
            raise
        except Exception as error:
            if len(group) > 1:
                self._request.alone.update(group)
                outcomes = {}
            else:
                outcomes = {group[0]: f"{type(error).__name__}: {error}".rstrip(": ")}
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self._request.known.update(outcomes)
        self._tell(("scored", outcomes))
        if not outcomes:
            self._try(group)

    def _score_group(self, group: list[int]) -> dict[int, Outcome]:
        rows = [self._request.rows[index] for index in group]
        pieces, times = [], []
        for row in rows:
            start = time.perf_counter()
            assert row.text is not None
            pieces.append(segment(self._segmenter, row.id, row.text))
            times.append(time.perf_counter() - start)
        start = time.perf_counter()
        rewards = self._score(pieces)
        rate = (time.perf_counter() - start) / max(1, sum(len(row.text or "") for row in rows))
        for index, row, seconds in zip(group, rows, times, strict=True):
            self._seconds[index] = seconds + rate * len(row.text or "")
        return dict(zip(group, rewards, strict=True))

    def _score(self, documents: list[list[str]]) -> list[Outcome]:
        """Score documents by every scorer: for each document one (S,) array a column."""
        columns = [_rewards(scorer, documents) for scorer in self._scorers]
        return [list(rewards) for rewards in zip(*columns, strict=True)]


def _rewards(scorer: Scorer, documents: list[list[str]]) -> list[np.ndarray]:
    """Score documents given in segments: (S,) float32 each."""
    if isinstance(scorer, SegmentScorer):
        return [_checked(scorer, scorer.score_segments(segments), len(segments)) for segments in documents]
    texts = [piece for segments in documents for piece in segments]
    flat = _checked(scorer, scorer.score(texts), len(texts))
    return np.split(flat, np.cumsum([len(segments) for segments in documents])[:-1])


def _checked(scorer: Scorer, rewards: Any, count: int) -> np.ndarray:
    array = np.asarray(rewards, np.float32)
    if array.shape != (count,):
        raise ValueError(f"{type(scorer).__name__} gave rewards of shape {array.shape} for {count} segments")
    if np.isinf(array).any():
        raise ValueError(f"{type(scorer).__name__} gave an infinite reward")
    return array


def _versions() -> dict[str, str]:
    """Versions of phf and of the libraries of scorers and segmenters that this process has imported."""
    from importlib.metadata import PackageNotFoundError, version

    libraries = {"sklearn": "scikit-learn"} | {
        name: name for name in ("numpy", "pyarrow", "spacy", "scrubadub", "pyap", "pycodestyle", "ruff", "torch", "transformers")
    }
    found = {"phf": version("phf"), "python": ".".join(map(str, sys.version_info[:3]))}
    for module, package in libraries.items():
        if module in sys.modules:
            with contextlib.suppress(PackageNotFoundError):
                found[package] = version(package)
    return dict(sorted(found.items()))
