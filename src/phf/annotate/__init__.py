"""Annotation: a corpus to a folder of Parquet parts, every document cut into segments and every segment scored."""

import contextlib
import dataclasses
import json
import logging
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phf import config, corpora
from phf.annotate import local_executor, ray_executor
from phf.annotate.parts import Part, part_from_json, part_name
from phf.artifacts import check_unchanged, read_json, sweep, whole_file, write_json
from phf.errors import InputError
from phf.progress import Listener, Progress, silent

_log = logging.getLogger("phf")
_JOURNAL = "journal.jsonl"
_QUARANTINE = "quarantine.jsonl"
_REPORT_EVERY = 0.2  # seconds
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Summary:
    """What an annotated corpus holds.

    Args:
        folder: where it is.
        documents: in its parts.
        empty: documents without a character; they are left out.
        segments: of the documents.
        characters: of the documents.
        unscored: segments whose reward is NaN, in any column.
        failed: documents that failed in a scorer and rows that could not be used; quarantine.jsonl lists them.
        seconds: of cutting and scoring, summed over workers.
        parts: file names.
        was_finished: it was there already and has been left alone.
    """

    folder: Path
    documents: int
    empty: int
    segments: int
    characters: int
    unscored: int
    failed: int
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
    scoring = {name: config.plain(options)[name] for name in ("segmenter", "scorer", "also", "part")}
    made_from = {"corpus": config.plain(corpus), "annotate": scoring, "inputs": corpora.inventory(corpus)}
    finished = _begin(out, made_from, of_installed=corpus.source is not None)
    if finished is not None:
        return finished
    run = _Run(out, options, progress, corpus.limit)
    if options.engine == "ray":
        parts = ray_executor.on_ray(corpus, options, out, run.done)
    else:
        parts = local_executor.local(corpus, options, out, run.done, run.read, run.scored, run.report)
    run.check_failures()
    try:
        with contextlib.closing(parts):
            for index, part in parts:
                run.finish(index, part)
    finally:
        run.write_quarantine()
    return run.end(corpus, made_from)


def _begin(out: Path, made_from: dict[str, Any], of_installed: bool) -> Summary | None:
    """Check whether `out` can be begun or continued (None), or is to be left alone (what it holds)."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; expected a folder to write to")
    manifest = out / "manifest.json"
    if not manifest.exists():
        if out.exists() and any(out.glob("*.parquet")):
            raise InputError(f"{out}: holds Parquet files that annotation did not write; choose another output folder")
        write_json(manifest, {"made_from": made_from, "finished": False})
        return None
    found = read_json(manifest)
    if found["finished"] and of_installed:
        # What is installed may grow afterwards; a finished annotation of what was there is still good.
        made_from = {**made_from, "inputs": found["made_from"]["inputs"]}
    check_unchanged(out, found["made_from"], made_from)
    if not found["finished"]:
        sweep(out)
        return None
    return _summary(out, found, was_finished=True)


def _summary(out: Path, fields: dict[str, Any], was_finished: bool) -> Summary:
    own = {field.name: fields[field.name] for field in dataclasses.fields(Summary) if field.name in fields}
    return Summary(folder=out, was_finished=was_finished, **own)


class _Run:
    """What is done of an annotation: its journal, its counts, and who is told."""

    def __init__(self, out: Path, options: config.Annotate, progress: Listener, limit: int | None) -> None:
        self._out = out
        self._options = options
        self._progress = progress
        self._limit = limit
        self._total: float | None = limit
        self.done: dict[int, Part] = dict(_read_journal(out))
        self._counts: Counter[str] = Counter()
        for part in self.done.values():
            self._count(part)
        self._before = self._counts["rows"]
        self._within: dict[int, int] = {}  # documents through, of parts that are not written yet
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self._reported = -math.inf
        self._told = -1

    def read(self, rows: int, share: float) -> None:
        """Guess from what is read of the corpus how many documents there are."""
        if share > 0:
            self._total = min(self._limit or math.inf, round(rows / share))

    def scored(self, index: int, documents: int) -> None:
        """Count documents of a part that are through; any thread may."""
        with self._lock:
            self._within[index] = self._within.get(index, 0) + documents

    def finish(self, index: int, part: Part) -> None:
        """Note a written part.

        Raises:
            InputError: if too many documents have failed.
        """
        line = json.dumps({"part": index, **dataclasses.asdict(part)}, ensure_ascii=False)
        with (self._out / _JOURNAL).open("ab") as file:
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.done[index] = part
        self._count(part)
        with self._lock:
            self._within.pop(index, None)
        self.report()
        self.check_failures()

    def report(self, last: bool = False) -> None:
        """Tell the listener where the run is, if it has moved, and not too often."""
        now = time.monotonic()
        with self._lock:
            through = self._counts["rows"] + sum(self._within.values())
        if not last and (now - self._reported < _REPORT_EVERY or through == self._told):
            return
        self._reported, self._told = now, through
        facts: dict[str, float | str] = {"documents/s": (through - self._before) / max(now - self._start, 1e-9)}
        if self._counts["failed"]:
            facts["failed"] = self._counts["failed"]
        self._progress(Progress("annotate", through, through if last else self._total, "documents", facts))

    def check_failures(self) -> None:
        """Stop if too many documents have failed.

        Raises:
            InputError: naming counts, and the first documents with their reasons.
        """
        failed, rows, allowed = self._counts["failed"], self._counts["rows"], self._options.max_failures
        if failed > allowed * rows:
            first = [failure for index in sorted(self.done) for failure in self.done[index].failures[:_SHOWN]][:_SHOWN]
            shown = "; ".join(f"{name}: {reason}" for name, reason in first)
            raise InputError(
                f"{self._out}: {failed} of {rows} documents failed, more than annotate.max_failures={allowed:g} allows. "
                f"{_QUARANTINE} there lists them; the first: {shown}. Finished parts stay: correct the corpus or the scorer "
                "and delete the folder, or allow more failures and run again"
            )

    def write_quarantine(self) -> None:
        """List what failed, in the order of the corpus."""
        with whole_file(self._out / _QUARANTINE) as temporary, temporary.open("w", encoding="utf-8") as file:
            for index in sorted(self.done):
                for name, reason in self.done[index].failures:
                    line = {"id": name, "reason": reason, "part": part_name(index)}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def end(self, corpus: config.Corpus, made_from: dict[str, Any]) -> Summary:
        """Write the manifest of the finished annotation."""
        if not self._counts["documents"]:
            what = ", ".join(corpus.inputs) if corpus.source is None else f"source {corpus.source.name}"
            raise InputError(f"{what}: no documents in it" + (", only empty ones" if self._counts["empty"] else ""))
        names = [part_name(index) for index in sorted(self.done)]
        seconds = sum(part.seconds for part in self.done.values())
        counts = {name: self._counts[name] for name in ("documents", "empty", "segments", "characters", "unscored", "failed")}
        versions = {name: value for index in sorted(self.done) for name, value in self.done[index].versions.items()}
        fields: dict[str, Any] = {**counts, "seconds": seconds, "parts": names, "versions": versions, "journal": _JOURNAL}
        write_json(self._out / "manifest.json", {"made_from": made_from, "finished": True, **fields})
        self.report(last=True)
        if counts["failed"]:
            message = "%s: %d of %d documents failed and have no reward; %s there says which and why"
            _log.warning(message, self._out, counts["failed"], self._counts["rows"], _QUARANTINE)
        return _summary(self._out, fields, was_finished=False)

    def _count(self, part: Part) -> None:
        for name in ("rows", "documents", "empty", "segments", "characters", "unscored"):
            self._counts[name] += getattr(part, name)
        self._counts["failed"] += len(part.failures)


def _read_journal(out: Path) -> Iterator[tuple[int, Part]]:
    """Read what earlier runs have finished: parts that are noted and there. A line that was never whole is cut off."""
    path = out / _JOURNAL
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        os.truncate(path, len(whole))
    for line in whole.splitlines():
        index = json.loads(line)["part"]
        if (out / part_name(index)).exists():
            yield index, part_from_json(line)
