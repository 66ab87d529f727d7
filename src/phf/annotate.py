"""Annotation: a corpus to a folder of Parquet parts, every document cut into segments and every segment scored."""

import dataclasses
import itertools
import json
import logging
import math
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from phf import config, corpora
from phf.errors import InputError
from phf.isolation import Keeper, Part
from phf.outputs import check_unchanged, read_json, sweep, whole_file, write_json
from phf.progress import Listener, Progress, silent

_log = logging.getLogger("phf")
_REPORT_EVERY = 0.2  # seconds


@dataclass(frozen=True, slots=True)
class Summary:
    """What an annotated corpus holds.

    Args:
        folder: where it is.
        documents: in its parts.
        segments: of the documents.
        characters: of the documents.
        unscored: segments whose reward is NaN, in any column.
        failed: documents that failed in a scorer and rows that could not be used; quarantine.jsonl lists them.
        empty: documents without a character; they are left out.
        seconds: of scoring, summed over workers.
        parts: file names.
        was_finished: it was there already and has been left alone.
    """

    folder: Path
    documents: int
    segments: int
    characters: int
    unscored: int
    failed: int
    empty: int
    seconds: float
    parts: list[str]
    was_finished: bool = False


def annotate(corpus: config.Corpus, options: config.Annotate, out: Path, progress: Listener = silent) -> Summary:
    """Cut and score a corpus into `out`, or go on where an earlier run was stopped.

    The parts do not depend on the number of workers, on the engine or on interruptions, byte for byte.

    Args:
        corpus: which documents.
        options: how they are cut and scored, and by how many processes.
        out: a new folder, or one that this function began with the same corpus and options.
        progress: told how many documents are through.

    Raises:
        InputError: for a corpus that cannot be read or is empty, a scorer that cannot be loaded, a folder made from
            something else, or more failed documents than `options.max_failures` allows; finished parts stay.
    """
    made_from = {
        "corpus": config.plain(corpus),
        "annotate": {name: config.plain(options)[name] for name in ("segmenter", "scorer", "also", "part")},
        "inputs": corpora.inputs_fingerprint(corpus),
    }
    finished = _begin(out, made_from, corpus)
    if finished is not None:
        return finished
    run = _Run(out, made_from, options, progress, corpus.limit)
    rows = run.counted(corpora.rows(corpus))
    try:
        if options.engine == "ray":
            raise InputError("annotate.engine: only 'local' is there yet")
        _locally(run, rows, options, out)
    finally:
        run.write_quarantine()
    return run.end(corpus)


def _begin(out: Path, made_from: dict[str, Any], corpus: config.Corpus) -> Summary | None:
    """Check that `out` can be begun, continued (None) or left alone (what it holds)."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; expected a folder to write to")
    manifest = out / "manifest.json"
    if not manifest.exists():
        if out.exists() and any(out.glob("*.parquet")):
            raise InputError(f"{out}: holds Parquet files but no manifest.json of phf; choose another output folder")
        write_json(manifest, {"made_from": made_from, "finished": False})
        return None
    found = read_json(manifest)
    if found["finished"] and corpus.source is not None:
        # A made corpus follows what is installed. A finished annotation of it stays good when something more is.
        made_from = {**made_from, "inputs": found["made_from"]["inputs"]}
    check_unchanged(out, found["made_from"], made_from)
    sweep(out)
    if not found["finished"]:
        return None
    fields = {field.name for field in dataclasses.fields(Summary)} & set(found)
    return Summary(folder=out, was_finished=True, **{name: found[name] for name in fields})


class _Run:
    """What is done of an annotation: the journal, the counts, and who is told."""

    def __init__(self, out: Path, made_from: Any, options: config.Annotate, progress: Listener, limit: int | None) -> None:
        self._out = out
        self._made_from = made_from
        self._options = options
        self._progress = progress
        self._total = limit
        self._journal = out / "journal.jsonl"
        self._parts = dict(_read_journal(self._journal, out))
        self._rows = self._empty = 0
        self._before = sum(part.documents for part in self._parts.values())
        self._through = 0
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self._reported = -math.inf

    def counted(self, rows: Iterator[corpora.Row]) -> Iterator[corpora.Row]:
        """Pass on rows that are not empty; count all."""
        for row in rows:
            if row.text == "":
                self._empty += 1
                continue
            self._rows += 1
            yield row
        self._total = self._rows

    def waiting(self, rows: Iterator[corpora.Row]) -> Iterator[tuple[int, list[corpora.Row]]]:
        """Give the parts that are not done, with their numbers."""
        for index in itertools.count():
            part = list(itertools.islice(rows, self._options.part))
            if not part:
                return
            if index not in self._parts:
                yield index, part

    def scored(self, count: int) -> None:
        """Count documents that are through; any thread may."""
        with self._lock:
            self._through += count

    def finish(self, index: int, part: Part) -> None:
        """Note a written part.

        Raises:
            InputError: if too many documents have failed.
        """
        self._parts[index] = part
        line = {"part": index, **dataclasses.asdict(part)}
        with self._journal.open("a+b") as file:
            _cut_torn_line(file)
            file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._check_failures()

    def report(self) -> None:
        """Tell the listener where the run is, not too often."""
        now = time.monotonic()
        if now - self._reported < _REPORT_EVERY:
            return
        self._reported = now
        facts: dict[str, float | str] = {"documents/s": self._through / max(now - self._start, 1e-9)}
        failed = sum(len(part.failures) for part in self._parts.values())
        if failed:
            facts["failed"] = failed
        self._progress(Progress("annotate", self._before + self._through, self._total, "documents", facts))

    def end(self, corpus: config.Corpus) -> Summary:
        """Write the manifest of a finished run."""
        parts = [self._parts[index] for index in sorted(self._parts)]
        if not any(part.documents for part in parts):
            what = ", ".join(corpus.inputs) or f"source {corpus.source.name if corpus.source else None}"
            raise InputError(f"{what}: no documents in it" + (f" ({self._empty} are empty)" if self._empty else ""))
        failed = sum(len(part.failures) for part in parts)
        totals = {
            name: sum(getattr(part, name) for part in parts)
            for name in ("documents", "segments", "characters", "unscored", "seconds")
        }
        names = [_part_name(index) for index in sorted(self._parts)]
        summary = Summary(folder=self._out, failed=failed, empty=self._empty, parts=names, **totals)
        fields = {name: value for name, value in dataclasses.asdict(summary).items() if name not in ("folder", "was_finished")}
        versions = {name: value for part in parts for name, value in part.versions.items()}
        write_json(
            self._out / "manifest.json",
            {"made_from": self._made_from, "finished": True, **fields, "journal": self._journal.name, "versions": versions},
        )
        self._reported = -math.inf
        self.report()
        if failed:
            _log.warning(
                "%s: %d of %d documents failed; quarantine.jsonl there says which and why", self._out, failed, self._rows
            )
        return summary

    def write_quarantine(self) -> None:
        """List what failed, in the order of the corpus."""
        with whole_file(self._out / "quarantine.jsonl") as temporary, temporary.open("w", encoding="utf-8") as file:
            for index in sorted(self._parts):
                for name, reason in self._parts[index].failures:
                    line = {"id": name, "reason": reason, "part": _part_name(index)}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def _check_failures(self) -> None:
        failed = sum(len(part.failures) for part in self._parts.values())
        rows = sum(part.rows for part in self._parts.values())
        allowed = self._options.max_failures
        if failed > allowed * rows:
            failures = [failure for index in sorted(self._parts) for failure in self._parts[index].failures]
            shown = "; ".join(f"{name}: {reason}" for name, reason in failures[:5])
            more = f"; and {failed - 5} more" if failed > 5 else ""
            raise InputError(
                f"{self._out}: {failed} of {rows} documents failed, more than the share annotate.max_failures={allowed:g} "
                f"allows: {shown}{more}. Finished parts stay; correct the corpus or the scorer, or allow more, and run again"
            )


def _part_name(index: int) -> str:
    return f"part-{index:05d}.parquet"


def _read_journal(path: Path, out: Path) -> Iterator[tuple[int, Part]]:
    """Read what earlier runs have finished: parts that are noted and there."""
    if not path.exists():
        return
    for line in path.read_bytes().split(b"\n")[:-1]:
        fields = json.loads(line)
        index = fields.pop("part")
        if (out / _part_name(index)).exists():
            fields["failures"] = [(name, reason) for name, reason in fields["failures"]]
            yield index, Part(**fields)


def _cut_torn_line(file: Any) -> None:
    """Cut off what a killed process left of its last line."""
    size = file.seek(0, os.SEEK_END)
    if size:
        file.seek(0)
        content = file.read()
        if not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


# on this machine -------------------------------------------------------------------------------------------------


def _locally(run: _Run, rows: Iterator[corpora.Row], options: config.Annotate, out: Path) -> None:
    """Score the waiting parts with a pool of processes, each with a keeper in a thread of its own."""
    workers = options.workers or cores()
    keepers = [Keeper(options, options.memory or memory_each(workers)) for _ in range(workers)]
    idle: SimpleQueue[Keeper] = SimpleQueue()
    for keeper in keepers:
        idle.put(keeper)

    def score(index: int, part: list[corpora.Row]) -> Part:
        keeper = idle.get()
        try:
            return keeper.part(out / _part_name(index), part, run.scored)
        finally:
            idle.put(keeper)

    waiting = run.waiting(rows)
    pending: dict[Future[Part], int] = {}
    exhausted = False
    with ThreadPoolExecutor(workers) as threads:
        try:
            while pending or not exhausted:
                # One part more than workers is read ahead, so that none waits for the corpus.
                while not exhausted and len(pending) <= workers:
                    following = next(waiting, None)
                    if following is None:
                        exhausted = True
                    else:
                        pending[threads.submit(score, *following)] = following[0]
                done, _ = wait(pending, timeout=_REPORT_EVERY, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=pending.__getitem__):
                    run.finish(pending.pop(future), future.result())
                run.report()
        finally:
            for future in pending:
                future.cancel()
            for keeper in keepers:
                keeper.close()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_each(workers: int) -> float:
    """GiB a worker may hold: its share of 80% of the memory of the machine or container, and 2 at least."""
    limits = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(float(Path(path).read_text()))
        except (OSError, ValueError):
            continue
    return max(2.0, 0.8 * min(limits) / 2**30 / workers)
