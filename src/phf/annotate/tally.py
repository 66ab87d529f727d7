"""Counts of a running annotation: what is finished, when to report it, and when too much has failed."""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from phf import config
from phf.annotate.journal import QUARANTINE
from phf.annotate.parts import Part
from phf.errors import InputError
from phf.progress import Listener, Progress

_REPORT_EVERY = 0.2  # seconds
_SHOWN = 5
_COUNTED = ("rows", "documents", "empty", "segments", "characters", "unscored")


@dataclass(frozen=True)
class Callbacks:
    """Who is called while parts are scored.

    Args:
        on_read: called with the rows read or counted so far, and the share of the corpus that they are; 0 while that is unknown.
        on_scored: called, by any thread, with a part's number and how many more documents of it are finished.
        on_wait: called now and then, by the caller's thread.
    """

    on_read: Callable[[int, float], None]
    on_scored: Callable[[int, int], None]
    on_wait: Callable[[], None]


class Tally:
    """What is done of an annotation.

    Args:
        out: the folder of the corpus.
        options: how much may fail.
        on_progress: called with where the annotation is.
        limit: documents that the corpus has at most.
        done: parts of earlier runs, by number.
    """

    def __init__(
        self, out: Path, options: config.Annotate, on_progress: Listener, limit: int | None, done: Mapping[int, Part]
    ) -> None:
        self._out = out
        self._options = options
        self._on_progress = on_progress
        self._limit = limit
        self._total: float | None = limit
        self._counts: Counter[str] = Counter()
        self._failures: dict[int, list[tuple[str, str]]] = {}
        for index, part in done.items():
            self._count(index, part)
        self._before = self._counts["rows"]
        self._within: dict[int, int] = {}  # documents that are finished, of parts that are not
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self._last_report, self._last_done = -math.inf, -1

    def __getitem__(self, name: str) -> int:
        """Return a count: rows, documents, empty, segments, characters, unscored or failed."""
        return self._counts[name]

    def counts(self) -> dict[str, int]:
        """Return the counts that the manifest holds."""
        return {name: self._counts[name] for name in (*_COUNTED[1:], "failed")}

    def on_read(self, rows: int, share: float) -> None:
        """Estimate the number of documents from what is read of the corpus."""
        if share > 0:
            self._total = min(self._limit or math.inf, round(rows / share))

    def on_scored(self, index: int, documents: int) -> None:
        """Count finished documents of a part; any thread may call this."""
        with self._lock:
            self._within[index] = self._within.get(index, 0) + documents

    def add(self, index: int, part: Part) -> None:
        """Count a finished part.

        Raises:
            InputError: if too much has failed.
        """
        self._count(index, part)
        with self._lock:
            self._within.pop(index, None)
        self.report()
        self.check()

    def report(self, last: bool = False) -> None:
        """Report the progress if there is any, and not too often."""
        now = time.monotonic()
        with self._lock:
            done = self._counts["rows"] + sum(self._within.values())
        if not last and (now - self._last_report < _REPORT_EVERY or done == self._last_done):
            return
        self._last_report, self._last_done = now, done
        facts: dict[str, float | str] = {"documents/s": (done - self._before) / max(now - self._start, 1e-9)}
        if self._counts["failed"]:
            facts["failed"] = self._counts["failed"]
        self._on_progress(Progress("annotate", done, done if last else self._total, "documents", facts))

    def check(self) -> None:
        """Stop if too much has failed.

        Raises:
            InputError: with the counts, and the first documents that failed with their reasons.
        """
        self._check_failed()
        self._check_unscored()

    def _check_failed(self) -> None:
        failed, rows, allowed = self._counts["failed"], self._counts["rows"], self._options.max_failures
        if failed <= allowed * rows:
            return
        first = [failure for index in sorted(self._failures) for failure in self._failures[index]][:_SHOWN]
        shown = "; ".join(f"{name}: {reason}" for name, reason in first)
        raise InputError(
            f"{self._out}: {failed} of {rows} documents failed, more than annotate.max_failures={allowed:g} allows. "
            f"{QUARANTINE} there lists them; the first: {shown}. Finished parts stay: correct the corpus or the scorer "
            "and delete the folder, or allow more failures and run again"
        )

    def _check_unscored(self) -> None:
        unscored, segments, allowed = self._counts["unscored"], self._counts["segments"], self._options.max_unscored
        unscored -= self._counts["failed_documents"]  # each is written as one unscored segment, and counted above
        if unscored <= allowed * segments:
            return
        scorers = ", ".join([self._options.scorer.name, *(each.name for each in self._options.also.values())])
        raise InputError(
            f"{self._out}: {unscored} of {segments} segments have no reward, more than annotate.max_unscored={allowed:g} "
            f"allows (scorer: {scorers}). Finished parts stay: find out why the scorer cannot score them and delete the "
            "folder, or allow more and run again"
        )

    def _count(self, index: int, part: Part) -> None:
        for name in _COUNTED:
            self._counts[name] += getattr(part, name)
        self._counts["failed"] += len(part.failures)
        self._counts["failed_documents"] += len(part.failures) - (part.rows - part.documents - part.empty)
        self._failures[index] = part.failures[:_SHOWN]
