"""The scoring process: scores one part of a corpus after the other, writes it, and reports to its supervisor.

Scorers are given texts in batches of about 20,000 characters. A `BatchScorer` chooses the size itself; a `DeviceScorer`
gets more where it runs on a GPU. With several scorers, documents are taken in batches of the largest size, and split
again for the others.
"""

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from phf import config
from phf.annotate import messages
from phf.annotate.batches import batch_characters, document_rewards, groups
from phf.annotate.messages import Finished, Message, Outcome, Request, Scored, Unusable, Working, Written, printable
from phf.annotate.parts import Part
from phf.checksums import Checksum
from phf.corpora import Row
from phf.documents import SCHEMA, Document, write_part
from phf.errors import InputError, MissingExtra
from phf.scorers import PUBLISHED, RemoteScorer, Scorer, ScorerUnusable
from phf.segmenters import segment

_SLOWEST = 5
_WRITE_LIMIT = 600.0  # seconds
_ORPHAN_GRACE = 5.0  # seconds that the supervisor, if there still is one, has to act first
_REWARDS = SCHEMA.field("rewards").type
_LIBRARIES = ("numpy", "pyarrow", "spacy", "scrubadub", "pyap", "pycodestyle", "ruff", "sklearn", "torch", "transformers")
_FATAL = (MissingExtra, ScorerUnusable)


def serve(handle: int) -> None:
    """Score parts until the supervisor closes the connection: the main function of a scoring process."""
    os.dup2(2, 1)  # what a scorer prints is no output of phf
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    logging.getLogger("phf").setLevel(logging.ERROR)  # the parent has built the same scorers, and has warned already
    connection = Connection(handle)
    with contextlib.suppress(EOFError, OSError):
        try:
            options = config.check(config.Annotate, messages.receive_options(connection), "annotate")
            annotator = Annotator(options, lambda message: messages.send(connection, message))
            while True:
                annotator.annotate(messages.receive_request(connection))
        except InputError as error:
            messages.send(connection, Unusable(printable(str(error))))


class Annotator:
    """Segments and scores parts.

    Args:
        options: how documents are segmented and scored.
        on_message: called with `Working` before rows are segmented or scored, `Finished` after it, and `Written` when
            the part is on disk.

    Raises:
        InputError: for a segmenter or scorer that cannot be loaded.
    """

    def __init__(self, options: config.Annotate, on_message: Callable[[Message], None]) -> None:
        self._on_message = on_message
        self._timeout = options.timeout
        self._segmenter = config.build("segmenters", options.segmenter)
        components = [options.scorer, *options.also.values()]
        self._scorers: list[Scorer] = [config.build("scorers", component) for component in components]
        self._published = [component.name == PUBLISHED for component in components]
        self._also = list(options.also)
        self._batches = [batch_characters(scorer) for scorer in self._scorers]
        self._request = Request(Path(), [])
        self._seconds: dict[int, float] = {}
        # Models are loaded at the first text they see, which should not count as the first document's time.
        with _only_input_errors():
            for scorer, published in zip(self._scorers, self._published, strict=True):
                if not published and not isinstance(scorer, RemoteScorer):
                    document_rewards(scorer, [self._segmenter.segment("A line.\n")])

    def annotate(self, request: Request) -> None:
        """Score a part and write it.

        A document that fails is written as one segment with a NaN reward.

        Raises:
            InputError: for a fault that no other document would change: a disk that is full, a missing library, anything
                that a scorer reports as `ScorerUnusable`.
        """
        self._request = request
        self._seconds = {}
        rows = [index for index, row in enumerate(request.rows) if row.text]
        # Always grouped in the same way, so that what a scorer sees at once never varies.
        for group in groups([len(request.rows[index].text or "") for index in rows], max(self._batches)):
            self._try([rows[number] for number in group])
        self._on_message(Working([], _WRITE_LIMIT))
        self._on_message(Written(self._write()))

    def _write(self) -> Part:
        request = self._request
        documents, columns, failures = [], [], []
        for index, row in enumerate(request.rows):
            outcome = request.known.get(index, row.fault)
            if isinstance(outcome, str) and outcome:
                failures.append((row.id, outcome))
            if not row.text:
                continue
            if isinstance(outcome, str):
                segments, rewards = [row.text], [np.full(1, np.nan, np.float32)] * len(self._scorers)
            else:
                segments, rewards = outcome.segments(row.text), outcome.columns()
            documents.append(Document(row.id, segments, rewards[0]))
            columns.append(rewards)
        also = {
            name: pa.array([rewards[column] for rewards in columns], _REWARDS) for column, name in enumerate(self._also, start=1)
        }
        try:
            write_part(request.path, documents, also)
            checksum = Checksum.of(request.path)
        except OSError as error:
            raise InputError(f"{request.path}: cannot be written: {error}") from None
        slowest = sorted(self._seconds.items(), key=lambda item: -item[1])[:_SLOWEST]
        return Part(
            rows=len(request.rows),
            documents=len(documents),
            empty=sum(row.text == "" for row in request.rows),
            segments=sum(len(document.segments) for document in documents),
            characters=sum(len(row.text or "") for row in request.rows),
            unscored=sum(int(np.isnan(rewards).any(axis=0).sum()) for rewards in columns),
            failures=failures,
            seconds=sum(self._seconds.values()),
            slowest=[(request.rows[index].id, seconds) for index, seconds in slowest],
            versions=_versions(),
            bytes=checksum.bytes,
            blake2b=checksum.blake2b,
        )

    def _try(self, group: list[int]) -> None:
        """Score a group of documents; one by one if it cannot be scored together."""
        group = [index for index in group if index not in self._request.known]
        if not group:
            return
        if len(group) > 1 and not self._request.alone.isdisjoint(group):
            for index in group:
                self._try([index])
            return
        outcomes: dict[int, Outcome] = {}
        try:
            outcomes.update(self._score(group))
        except _FATAL:
            raise
        except Exception as error:
            if len(group) > 1:
                self._request.alone.update(group)
                return self._try(group)
            reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}".rstrip(": ")
            outcomes[group[0]] = printable(reason)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self._request.known.update(outcomes)
        self._on_message(Finished(outcomes))

    def _score(self, group: list[int]) -> dict[int, Scored]:
        self._announce(group, self._timeout)
        rows = [self._request.rows[index] for index in group]
        documents = []
        for index, row in zip(group, rows, strict=True):
            start = time.perf_counter()
            documents.append(self._segments(row))
            self._seconds[index] = time.perf_counter() - start
        start = time.perf_counter()
        columns = [
            [_published_rewards(row) for row in rows] if published else self._column(scorer, batch, group, documents)
            for scorer, batch, published in zip(self._scorers, self._batches, self._published, strict=True)
        ]
        lengths = [len(row.text or "") for row in rows]
        rate = (time.perf_counter() - start) / sum(lengths)
        for index, length in zip(group, lengths, strict=True):
            self._seconds[index] += rate * length
        return {
            index: Scored([len(piece) for piece in segments], [rewards.tolist() for rewards in document])
            for index, segments, document in zip(group, documents, zip(*columns, strict=True), strict=True)
        }

    def _segments(self, row: Row) -> list[str]:
        """Segment a document, or return the segments that it was published in."""
        text = row.text or ""
        if not any(self._published):
            return segment(self._segmenter, row.id, text)
        if row.lengths is None or row.rewards is None:
            raise InputError("no published scores; expected the columns 'texts', a list of segments, and 'scores', one for each")
        if len(row.lengths) != len(row.rewards):
            raise InputError(f"{len(row.lengths)} published texts but {len(row.rewards)} scores; expected one for each")
        ends = np.cumsum(row.lengths).tolist()
        return [text[start:end] for start, end in zip([0, *ends], ends, strict=False) if end > start]

    def _column(self, scorer: Scorer, batch: int, group: list[int], documents: list[list[str]]) -> list[np.ndarray]:
        """Score segmented documents, as many at a time as the scorer wants: for each an (S,) array."""
        rewards: list[np.ndarray] = []
        for numbers in groups([sum(map(len, segments)) for segments in documents], batch):
            if isinstance(scorer, RemoteScorer):
                seconds = scorer.seconds_for(sum(len(documents[number]) for number in numbers))
            else:  # a scorer that is known to be slow is allowed the time of all documents
                seconds = self._timeout * (len(numbers) if self._request.patient else 1)
            self._announce(group, seconds)
            rewards += document_rewards(scorer, [documents[number] for number in numbers])
        return rewards

    def _announce(self, group: list[int], seconds: float) -> None:
        """Announce what these documents may take.

        The supervisor keeps the time. The alarm ends the process if there is no supervisor any more, and it works in the
        middle of any code, since its default action ends a process.
        """
        signal.setitimer(signal.ITIMER_REAL, seconds + _ORPHAN_GRACE)
        self._on_message(Working(group, seconds))


def _published_rewards(row: Row) -> np.ndarray:
    """Return the rewards that a document was published with, without those of empty segments."""
    rewards = zip(row.lengths or [], row.rewards or [], strict=True)
    return np.array([reward for length, reward in rewards if length], np.float32)


@contextlib.contextmanager
def _only_input_errors() -> Iterator[None]:
    """Let a scorer fail on a made-up text; documents will show whether it fails on them."""
    try:
        yield
    except InputError:
        raise
    except Exception:
        pass


def _versions() -> dict[str, str]:
    """Return the versions of phf, Python and the libraries of scorers and segmenters that this process has imported."""
    versions: dict[str, Any] = {"phf": version("phf"), "python": ".".join(map(str, sys.version_info[:3]))}
    for module in _LIBRARIES:
        if module in sys.modules:
            package = "scikit-learn" if module == "sklearn" else module
            with contextlib.suppress(PackageNotFoundError):
                versions[package] = version(package)
    return dict(sorted(versions.items()))
