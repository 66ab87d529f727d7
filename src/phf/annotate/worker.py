"""Score one part of a corpus and write it: what a scoring process does, told message by message to its keeper.

Scorers are given texts in batches of about 20,000 characters. One with an attribute `batch_characters` says itself how much
text it likes in one call; one with a field `device` that is not "cpu" runs on a GPU where there is one, and gets more. Of several
scorers each is given what it likes: documents are taken in batches of the largest size, and cut again for the others.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from phf import config
from phf.annotate.parts import Part
from phf.corpora.formats import Row
from phf.documents import SCHEMA, Document, write_part
from phf.errors import InputError
from phf.scorers import Scorer, SegmentScorer
from phf.segmenters import segment

Outcome = list[np.ndarray] | str
"""What became of a document: its rewards by each scorer, (S,) each; or why it failed."""

_BATCH_CHARACTERS = 20_000
_BATCH_CHARACTERS_ON_GPU = 500_000
_LEAST_CHARACTERS = 100  # what a document counts for at least, so that a batch of tiny ones has an end
_SLOWEST = 5
_REWARDS = SCHEMA.field("rewards").type
_LIBRARIES = ("numpy", "pyarrow", "spacy", "scrubadub", "pyap", "pycodestyle", "ruff", "sklearn", "torch", "transformers")


@dataclass
class Request:
    """A part to score and write.

    Args:
        path: of the Parquet file.
        rows: of the part.
        known: what became of rows that another process has scored, by their place in the part.
        alone: places of rows that are to be scored one by one, since one of them brought a process down.
        patient: allow a batch the time of all its documents, since the scorer is slow.
    """

    path: Path
    rows: Sequence[Row]
    known: dict[int, Outcome] = field(default_factory=dict)
    alone: set[int] = field(default_factory=set)
    patient: bool = False


def serve(handle: int) -> None:
    """Score parts until the keeper hangs up: the main function of a scoring process."""
    os.dup2(2, 1)  # what a scorer prints is no output of phf
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the keeper decides
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    connection = Connection(handle)
    with contextlib.suppress(EOFError, OSError):
        try:
            annotator = Annotator(connection.recv(), connection.send)
            while True:
                annotator.annotate(connection.recv())
        except InputError as error:
            connection.send(("unusable", str(error)))


class Annotator:
    """Cuts and scores parts.

    Args:
        options: how documents are cut and scored.
        tell: takes ("scoring", places) before a batch is scored, ("scored", {place: outcome}) after it, and
            ("written", Part) when the part is there.

    Raises:
        InputError: for a segmenter or scorer that cannot be loaded.
    """

    def __init__(self, options: config.Annotate, tell: Callable[[Any], None]) -> None:
        self._tell = tell
        self._timeout = options.timeout
        self._segmenter = config.build("segmenters", options.segmenter)
        self._scorers: list[Scorer] = [config.build("scorers", each) for each in (options.scorer, *options.also.values())]
        self._also = list(options.also)
        self._batches = [_batch_characters(scorer) for scorer in self._scorers]
        self._request = Request(Path(), [])
        self._seconds: dict[int, float] = {}
        # Models are loaded at the first text they see; that is not to be the first document's time.
        with _only_input_errors():
            for scorer in self._scorers:
                _rewards(scorer, [self._segmenter.segment("A line.\n")])

    def annotate(self, request: Request) -> None:
        """Score a part and write it.

        A document that fails is written as one segment with a NaN reward.

        Raises:
            InputError: for what no other document would change: segments that do not join to the text, a disk that is
                full, anything that a scorer reports as such.
        """
        self._request = request
        self._seconds = {}
        places = [place for place, row in enumerate(request.rows) if row.text]
        # Always grouped in the same way, so that what a scorer sees at once never varies.
        for group in _groups([len(request.rows[place].text or "") for place in places], max(self._batches)):
            self._try([places[number] for number in group])
        documents, outcomes, failures = [], [], []
        for place, row in enumerate(request.rows):
            outcome = request.known.get(place, row.fault)
            if isinstance(outcome, str) and outcome:
                failures.append((row.id, outcome))
            if not row.text:
                continue
            if isinstance(outcome, str):
                segments, rewards = [row.text], [np.full(1, np.nan, np.float32)] * len(self._scorers)
            else:
                segments, rewards = segment(self._segmenter, row.id, row.text), outcome
            documents.append(Document(row.id, segments, rewards[0]))
            outcomes.append(rewards)
        also = {
            name: pa.array([rewards[column] for rewards in outcomes], _REWARDS) for column, name in enumerate(self._also, start=1)
        }
        try:
            write_part(request.path, documents, also)
        except OSError as error:
            raise InputError(f"{request.path}: cannot be written: {error}") from None
        slowest = sorted(self._seconds.items(), key=lambda item: -item[1])[:_SLOWEST]
        part = Part(
            rows=len(request.rows),
            documents=len(documents),
            empty=sum(row.text == "" for row in request.rows),
            segments=sum(len(document.segments) for document in documents),
            characters=sum(len(piece) for document in documents for piece in document.segments),
            unscored=sum(int(np.isnan(rewards).any(axis=0).sum()) for rewards in outcomes),
            failures=failures,
            seconds=sum(self._seconds.values()),
            slowest=[(request.rows[place].id, seconds) for place, seconds in slowest],
            versions=_versions(),
        )
        self._tell(("written", part))

    def _try(self, group: list[int]) -> None:
        """Score a group of documents; one by one if it cannot be scored together."""
        group = [place for place in group if place not in self._request.known]
        if not group:
            return
        if len(group) > 1 and not self._request.alone.isdisjoint(group):
            for place in group:
                self._try([place])
            return
        self._tell(("scoring", group))
        try:
            outcomes = self._outcomes(group)
        except InputError:
            raise
        except Exception as error:
            if len(group) > 1:
                self._request.alone.update(group)
                return self._try(group)
            outcomes = {group[0]: f"{type(error).__name__}: {error}".rstrip(": ")}
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self._request.known.update(outcomes)
        self._tell(("scored", outcomes))

    def _outcomes(self, group: list[int]) -> dict[int, Outcome]:
        pieces = []
        for place in group:
            row = self._request.rows[place]
            start = time.perf_counter()
            self._set_timer(1)
            pieces.append(segment(self._segmenter, row.id, row.text or ""))
            self._seconds[place] = time.perf_counter() - start
        start = time.perf_counter()
        rewards = zip(*[self._column(scorer, batch, pieces) for scorer, batch in zip(self._scorers, self._batches, strict=True)])
        lengths = [len(self._request.rows[place].text or "") for place in group]
        rate = (time.perf_counter() - start) / sum(lengths)
        for place, length in zip(group, lengths, strict=True):
            self._seconds[place] += rate * length
        return {place: list(columns) for place, columns in zip(group, rewards, strict=True)}

    def _column(self, scorer: Scorer, batch: int, documents: list[list[str]]) -> list[np.ndarray]:
        """Score documents given in segments, as many at a time as the scorer likes: for each an (S,) array."""
        rewards: list[np.ndarray] = []
        for group in _groups([sum(map(len, segments)) for segments in documents], batch):
            self._set_timer(len(group))
            rewards += _rewards(scorer, [documents[place] for place in group])
        return rewards

    def _set_timer(self, documents: int) -> None:
        """Allow the time of one document for what comes, or that of all of them, if the scorer is known to be slow.

        The signal's default action ends the process, whatever code it is in and whether or not a keeper lives.
        """
        signal.setitimer(signal.ITIMER_REAL, self._timeout * (documents if self._request.patient else 1))


def _groups(sizes: Iterable[int], batch: int) -> Iterator[list[int]]:
    """Group what has these sizes in characters, by place, so that each group but the last has at least `batch` of them."""
    group: list[int] = []
    total = 0
    for place, size in enumerate(sizes):
        group.append(place)
        total += max(size, _LEAST_CHARACTERS)
        if total >= batch:
            yield group
            group, total = [], 0
    if group:
        yield group


def _batch_characters(scorer: Scorer) -> int:
    if getattr(scorer, "device", "cpu") == "cpu":
        usual = _BATCH_CHARACTERS
    else:
        import torch

        usual = _BATCH_CHARACTERS_ON_GPU if torch.cuda.is_available() else _BATCH_CHARACTERS
    return int(getattr(scorer, "batch_characters", usual))


def _rewards(scorer: Scorer, documents: list[list[str]]) -> list[np.ndarray]:
    """Score documents given in segments: (S,) float32 each."""
    together: Any = getattr(scorer, "score_documents", None)
    if together is not None:  # one process of a linter for all of them
        return [_checked(scorer, found, len(segments)) for found, segments in zip(together(documents), documents, strict=True)]
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
    """Versions of phf, Python and the libraries of scorers and segmenters that this process has imported."""
    found = {"phf": version("phf"), "python": ".".join(map(str, sys.version_info[:3]))}
    for module in _LIBRARIES:
        if module in sys.modules:
            package = "scikit-learn" if module == "sklearn" else module
            with contextlib.suppress(PackageNotFoundError):
                found[package] = version(package)
    return dict(sorted(found.items()))
