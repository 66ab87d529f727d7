"""PEP 8 in minutes: violations that ruff finds by pycodestyle's rules, per character, many documents to one process."""

import contextlib
import io
import itertools
import json
import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np

from phf.errors import InputError, MissingExtra, require
from phf.scorers import Finding
from phf.scorers.pep8 import DEFAULT_IGNORE

_FILES = 10_000  # texts and
_CHARACTERS = 8_000_000  # characters of them that one process of ruff is given at most
_IN_MEMORY = "/dev/shm"  # where there is one: making thousands of small files on a disk takes longer than checking them
_LINE_END = re.compile(r"\r\n|\r|\n")
_NOQA = re.compile(r"# no(?:qa|pep8)\b", re.IGNORECASE)
# What pycodestyle lets pass on a line that has a noqa comment; all else it reports all the same.
_HEEDS_NOQA = {"E402", "E501", "E711", "E712", "E721", "E722", "W605"}
_SYNTAX_ERROR = "E901"
# A row as ruff writes it today, read several times faster than by json; that reads whatever does not look like this.
_ROW = re.compile(
    rb'"code":"?([\w-]+)"?,"end_location":{"column":\d+,"row":(\d+)},"filename":"[^"]*?(\d+)\.py",'
    rb'.*"location":{"column":(\d+),"row":(\d+)},"message":.*"noqa_row":(\d+),"'
)

log = logging.getLogger("phf")


class _Violation(NamedTuple):
    """Where it starts, from 1, and its code."""

    row: int
    column: int
    code: str


@dataclass(frozen=True, kw_only=True)
class Pep8Ruff:
    """-(violations found by ruff's rules E and W) / characters.

    Close to `pep8`, not equal to it: docs/scorers/pep8-ruff.md says where they part. A text that does not parse has one
    violation more, E901, at its first error. A text that cannot be encoded, or on which ruff fails, has an unknown reward,
    NaN; in an empty text nothing is wrong, 0. Configuration files on the machine are not read.

    Args:
        max_line_length: longest line allowed, in columns.
        ignore: prefixes of codes that do not count; the default is pycodestyle's own.
    """

    batch_characters: ClassVar[int] = 2_000_000  # so that starting ruff costs nothing that matters

    max_line_length: int = 79
    ignore: list[str] = field(default_factory=lambda: list(DEFAULT_IGNORE))

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Give the reward of each text, taken as a whole file: (N,) float32."""
        found = zip(texts, self._violations(texts), strict=True)
        rewards = [np.nan if rows is None else 0.0 - len(rows) / max(len(text), 1) for text, rows in found]
        return np.array(rewards, dtype=np.float32)

    def score_segments(self, segments: Sequence[str]) -> np.ndarray:
        """Give the reward of each segment of one file: (S,) float32.

        The file is checked whole; a violation is counted in the segment where its line starts, and the count is divided by
        the characters of that segment. Each call starts ruff: `score_documents` takes many files at once.
        """
        return self.score_documents([segments])[0]

    def score_documents(self, documents: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Give what `score_segments` gives for each of many files: an (S,) float32 array each."""
        texts = ["".join(segments) for segments in documents]
        found = zip(documents, texts, self._violations(texts), strict=True)
        return [_rewards(segments, text, rows) for segments, text, rows in found]

    def findings(self, text: str) -> list[Finding]:
        """Give each violation, from where ruff points to the end of the word (or white space) there, by position."""
        starts = _line_starts(text)
        found = []
        for each in self._violations([text])[0] or []:
            line_start = starts[min(each.row, len(starts)) - 1]
            line_end = next((start for start in starts[each.row : each.row + 1]), len(text))
            # ruff does not count the byte order mark as a column
            start = line_start + each.column - 1 + (line_start == 0 and text.startswith("\ufeff"))
            start = min(start, line_end - 1)
            run = re.compile(r"\s+|\S+").match(text, start, line_end)
            assert run
            found.append(Finding(start, run.end(), each.code))
        return sorted(found, key=lambda finding: (finding.start, finding.end, finding.kind))

    def _violations(self, texts: Sequence[str]) -> list[list[_Violation] | None]:
        """List the violations of each text; None where they are unknown."""
        found: list[list[_Violation] | None] = [[] for _ in texts]
        command, ignored = self._command(), tuple(self.ignore)
        for places in _batches(texts):
            sources = {}
            for place in places:
                try:
                    sources[place] = texts[place].encode()
                except UnicodeEncodeError:  # a lone surrogate
                    found[place] = None
            for place, rows in _check(command, sources).items():
                found[place] = None if rows is None else [each for each in rows if not each.code.startswith(ignored)]
        return found

    def _command(self) -> list[str]:
        """Call ruff so that nothing on the machine, and no comment in a text but `# noqa`, changes what it says."""
        options = {
            "--select": "E,W",
            "--line-length": str(self.max_line_length),
            "--target-version": "py314",
            "--output-format": "json-lines",
            "--config": "exclude=[]",
        }
        switches = ["--isolated", "--no-cache", "--preview", "--ignore-noqa", "--no-respect-gitignore", "--quiet"]
        return [_ruff(), "check", *itertools.chain(*options.items()), *switches, "."]


def _rewards(segments: Sequence[str], text: str, rows: list[_Violation] | None) -> np.ndarray:
    if rows is None:
        return np.full(len(segments), np.nan, dtype=np.float32)
    lengths = np.fromiter(map(len, segments), np.int64, len(segments))
    counts = np.zeros(len(segments))
    if rows:
        starts = np.array(_line_starts(text))
        places = starts[np.minimum([each.row for each in rows], len(starts)) - 1]
        counts += np.bincount(np.searchsorted(np.cumsum(lengths), places, side="right"), minlength=len(segments))
    rewards: np.ndarray = (0.0 - counts / np.maximum(lengths, 1)).astype(np.float32)
    return rewards


def _line_starts(text: str) -> list[int]:
    r"""Say where each line starts, as ruff counts lines: they end in `\n`, `\r\n` or `\r`; at least one."""
    ends = itertools.accumulate(map(len, io.StringIO(text, newline="")))
    return [0, *ends][:-1] or [0]


def _batches(texts: Sequence[str]) -> Iterator[list[int]]:
    """Group the texts that are not empty, by their places, so that one process is given neither too many nor too much."""
    batch: list[int] = []
    size = 0
    for place, text in enumerate(texts):
        if not text:
            continue
        batch.append(place)
        size += len(text)
        if len(batch) == _FILES or size >= _CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _check(command: list[str], sources: dict[int, bytes]) -> dict[int, list[_Violation] | None]:
    """Run ruff over the sources; where it falls, over halves of them, down to the one that it falls on: None."""
    if not sources:
        return {}
    try:
        return dict(_run(command, sources))
    except _CrashError as error:
        if len(sources) == 1:
            log.debug("ruff failed on a text of %d bytes: %s", *map(len, sources.values()), error)
            return dict.fromkeys(sources)
    places = list(sources)
    halves = places[: len(places) // 2], places[len(places) // 2 :]
    return {place: rows for half in halves for place, rows in _check(command, {key: sources[key] for key in half}).items()}


class _CrashError(Exception):
    """Ruff has fallen over one of the texts; the message is what it said last."""


def _run(command: list[str], sources: dict[int, bytes]) -> dict[int, list[_Violation]]:
    """Run ruff once.

    Raises:
        _CrashError: if it panicked or was ended by a signal.
        InputError: if it does not take its options, or the texts cannot be written for it.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUFF_")}
    with _written(sources) as name, tempfile.TemporaryFile() as said:
        with subprocess.Popen(
            command, cwd=name, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
        ) as process:
            assert process.stdout
            try:
                found = _read(process.stdout, sources)
            except (json.JSONDecodeError, _CrashError):
                process.kill()
                raise _CrashError("a row that is none") from None
        said.seek(0)
        message = said.read().decode(errors="replace").strip()
    if process.returncode == 2 and "panic" not in message:
        raise InputError(f"the pep8-ruff scorer: ruff does not run with its options: {message[:500]}")
    if process.returncode not in (0, 1) or "panic" in message:
        raise _CrashError(f"status {process.returncode}: {message[:200]}")
    return found


@contextlib.contextmanager
def _written(sources: dict[int, bytes]) -> Iterator[str]:
    """Write each source to a file named by its place, in a folder that goes afterwards; in memory if they fit.

    Raises:
        InputError: if there is no room for them.
    """
    with contextlib.ExitStack() as stack:
        for parent in (_IN_MEMORY, None):
            try:
                name = stack.enter_context(tempfile.TemporaryDirectory(prefix="phf-ruff-", dir=parent))
                for place, source in sources.items():
                    with open(f"{name}/{place}.py", "wb") as file:
                        file.write(source)
                break
            except OSError as error:
                stack.close()
                reason = error
        else:
            raise InputError(f"texts cannot be written to a temporary folder for ruff: {reason}; TMPDIR names another place")
        yield name


def _read(lines: Iterable[bytes], sources: dict[int, bytes]) -> dict[int, list[_Violation]]:
    """Read ruff's rows: of syntax errors the first of each text, of the others those that pycodestyle does not let pass."""
    found: dict[int, list[_Violation]] = {place: [] for place in sources}
    broken: dict[int, _Violation] = {}
    excused = {place: _excused(source) for place, source in sources.items()}
    for line in lines:
        place, code, row, column, last_row, noqa_row = _fields(line)
        if code in ("null", "invalid-syntax"):
            broken.setdefault(place, _Violation(row, column, _SYNTAX_ERROR))
        elif code == "E902" or code[0] not in "EW":
            raise _CrashError(line.decode(errors="replace"))  # it could not read or check the file
        elif code == "W391":  # ruff points to the first of the empty lines, pycodestyle to the last
            found[place].append(_Violation(last_row, 1, code))
        elif (noqa_row, code) not in excused[place]:
            found[place].append(_Violation(row, column, code))
    for place, error in broken.items():
        found[place].append(error)
    return found


def _fields(line: bytes) -> tuple[int, str, int, int, int, int]:
    """Read one row: the file's number, the code, row and column of the start, the last row, and that of its noqa comment."""
    found = _ROW.search(line)
    if found:
        code, last_row, place, column, row, noqa_row = found.groups()
        return int(place), code.decode(), int(row), int(column), int(last_row), int(noqa_row)
    fields = json.loads(line)
    at = fields["location"]
    place = int(os.path.basename(fields["filename"]).removesuffix(".py"))
    return place, fields["code"] or "null", at["row"], at["column"], fields["end_location"]["row"], fields["noqa_row"] or 0


def _excused(source: bytes) -> set[tuple[int, str]]:
    """List what ruff reports and pycodestyle lets pass: (line from 1, code), by a `# noqa` there or a form feed at its end."""
    folded = source.lower()
    found: set[tuple[int, str]] = set()
    if any(sign in folded for sign in (b"noqa", b"nopep8", b"\x0c")):
        for row, line in enumerate(_LINE_END.split(source.decode()), start=1):
            if _NOQA.search(line):
                found |= {(row, code) for code in _HEEDS_NOQA}
            if line.endswith("\f") and not line.rstrip("\f").endswith((" ", "\t", "\v")):
                found |= {(row, "W291"), (row, "W293")}
    return found


def _ruff() -> str:
    """Find the program that the ruff package installs, or one on the path."""
    try:
        found: str = require("ruff.__main__", "pep8", "the pep8-ruff scorer").find_ruff_bin()
        return found
    except (MissingExtra, FileNotFoundError):
        on_path = shutil.which("ruff")
        if on_path is None:
            raise MissingExtra("the pep8-ruff scorer needs ruff. Install it with: pip install 'phf[pep8]'") from None
        return on_path
