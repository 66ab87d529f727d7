"""The program ruff: many texts to one process of it, and back what it finds by pycodestyle's rules."""

import contextlib
import fcntl
import functools
import itertools
import json
import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from phf.errors import InputError, MissingExtra, require

_IN_MEMORY = "/dev/shm"  # where there is one: making thousands of small files on a disk takes longer than checking them
_FOLDER = "phf-ruff-"
_LOCK = ".lock"
_LINE_END = re.compile(r"\r\n|\r|\n")
_NOQA = re.compile(r"# no(?:qa|pep8)\b", re.IGNORECASE)
# What pycodestyle lets pass on a line that has a noqa comment; all else it reports all the same.
_HEEDS_NOQA = {"E402", "E501", "E711", "E712", "E721", "E722", "W605"}
_SYNTAX_ERROR = "E901"
LAST_ROW = 2**31
"""Where W391 is: ruff points to the first of the empty lines at the end, pycodestyle to the last."""
# A row of ruff's shortest report; its JSON is three to ten times as long, and more than half of the time goes into that.
_ROW = re.compile(rb"^(\d+)\.py:(\d+):(\d+): ([\w-]+)", re.MULTILINE)

log = logging.getLogger("phf")


Violation = tuple[int, int, str]
"""Row and column where it starts, from 1, and its code."""


def check(sources: Mapping[int, bytes], max_line_length: int) -> dict[int, list[Violation] | None]:
    """Check texts, by their numbers; None for one on which ruff crashes.

    Raises:
        InputError: if ruff does not take its options, or the texts cannot be written for it.
    """
    excused = {number: lines for number, source in sources.items() if (lines := _excused(source))}
    violations = _halved({number: source for number, source in sources.items() if number not in excused}, max_line_length, {})
    return violations | _halved({number: sources[number] for number in excused}, max_line_length, excused)


Row = tuple[bytes, bytes | int, bytes | int, bytes]
"""Place of a text, row and column from 1, and what ruff calls the rule."""
Excused = Mapping[int, set[tuple[int, str]]]
"""By the number of a text: (line from 1, code) of what ruff reports there and pycodestyle lets pass."""


def _halved(sources: dict[int, bytes], max_line_length: int, excused: Excused) -> dict[int, list[Violation] | None]:
    """Run ruff on the sources; if it crashes, on halves of them, down to the one that it crashes on: None."""
    if not sources:
        return {}
    try:
        return dict(_run(sources, max_line_length, excused))
    except _CrashError as error:
        if len(sources) == 1:
            log.debug("ruff failed on a text of %d bytes: %s", *map(len, sources.values()), error)
            return dict.fromkeys(sources)
    numbers = list(sources)
    halves = [
        {number: sources[number] for number in half} for half in (numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :])
    ]
    return {number: rows for half in halves for number, rows in _halved(half, max_line_length, excused).items()}


class _CrashError(Exception):
    """Ruff crashed on one of the texts; the message is the end of its output."""


def _run(sources: dict[int, bytes], max_line_length: int, excused: Excused) -> dict[int, list[Violation]]:
    """Run ruff once. Its short report does for texts without excuses; with them, JSON says which noqa comment counts."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUFF_")}
    command = _command(max_line_length, "json-lines" if excused else "concise")
    with _written(sources) as name, tempfile.TemporaryFile() as messages:
        with subprocess.Popen(
            command, cwd=name, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages
        ) as process:
            report, _ = process.communicate()
        messages.seek(0)
        message = messages.read().decode(errors="replace").strip()
    if process.returncode == 2 and "panic" not in message:
        raise InputError(f"the pep8-ruff scorer: ruff does not run with its options: {message[:500]}")
    if process.returncode not in (0, 1) or "panic" in message:
        raise _CrashError(f"status {process.returncode}: {message[:200]}")
    return _sorted(_from_json(report, excused) if excused else _from_report(report), sources)


def _command(max_line_length: int, report: str) -> list[str]:
    """Call ruff so that nothing on the machine, and no comment in a text but `# noqa`, changes its report."""
    options = {
        "--select": "E,W",
        "--line-length": str(max_line_length),
        "--target-version": "py314",
        "--output-format": report,
        "--config": "exclude=[]",
    }
    switches = ["--isolated", "--no-cache", "--preview", "--ignore-noqa", "--no-respect-gitignore", "--quiet"]
    return [_ruff(), "check", *itertools.chain(*options.items()), *switches, "."]


@contextlib.contextmanager
def _written(sources: dict[int, bytes]) -> Iterator[str]:
    """Write each source to a file named by its number, in a temporary folder; in memory if they fit.

    Raises:
        InputError: if they cannot be written.
    """
    with contextlib.ExitStack() as stack:
        for parent in (_IN_MEMORY, None):
            try:
                if parent:
                    _sweep(parent)
                name = stack.enter_context(tempfile.TemporaryDirectory(prefix=_FOLDER, dir=parent))
                lock = stack.enter_context(open(f"{name}/{_LOCK}", "wb"))
                fcntl.flock(lock, fcntl.LOCK_EX)
                for number, source in sources.items():
                    with open(f"{name}/{number}.py", "wb", buffering=0) as file:
                        file.write(source)
                break
            except OSError as error:
                stack.close()
                reason = error
        else:
            raise InputError(f"texts cannot be written to a temporary folder for ruff: {reason}; TMPDIR names another place")
        yield name


@functools.cache
def _sweep(parent: str) -> None:
    """Remove, once a process, what processes left in memory that were killed: folders whose lock nobody holds."""
    for lock in Path(parent).glob(f"{_FOLDER}*/{_LOCK}"):
        with contextlib.suppress(OSError), lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)


def _sorted(rows: Iterable[Row], sources: Mapping[int, bytes]) -> dict[int, list[Violation]]:
    """Sort rows by text; of syntax errors the first of each text counts."""
    violations_of: dict[bytes, list[Violation]] = {str(number).encode(): [] for number in sources}
    broken: dict[bytes, Violation] = {}
    codes: dict[bytes, str] = {}
    for number, row, column, rule in rows:
        code = codes.get(rule)
        if code is None:
            code = codes[rule] = _code(rule.decode())
        if code == _SYNTAX_ERROR:
            if number not in broken:
                broken[number] = (int(row), int(column), code)
        else:
            violations_of[number].append((LAST_ROW if code == "W391" else int(row), int(column), code))
    for number, error in broken.items():
        violations_of[number].append(error)
    return {int(number): violations for number, violations in violations_of.items()}


def _from_report(report: bytes) -> list[Row]:
    """Read the short report: "NUMBER.py:ROW:COLUMN: CODE message", or a rule's name in place of its code."""
    rows = _ROW.findall(report)
    if len(rows) != report.count(b"\n"):
        raise _CrashError("a row that is none")
    return rows


def _from_json(report: bytes, excused: Excused) -> Iterator[Row]:
    """Read JSON, less what is excused."""
    for line in report.splitlines():
        fields = json.loads(line)
        at, number, rule = fields["location"], Path(fields["filename"]).stem, fields["code"] or "SyntaxError"
        if (fields["noqa_row"] or 0, rule) not in excused[int(number)]:
            yield number.encode(), at["row"], at["column"], rule.encode()


def _code(rule: str) -> str:
    """Return the code of a rule that a report, depending on ruff's version, calls by code or by name.

    Raises:
        _CrashError: if it is no rule of pycodestyle's.
    """
    if rule in ("SyntaxError", "invalid-syntax"):
        return _SYNTAX_ERROR
    code = rule if re.fullmatch(r"[A-Z]+\d+", rule) else _names().get(rule, rule)
    if code[0] not in "EW" or code == "E902":
        raise _CrashError(code)  # it could not read or check a file
    return code


@functools.cache
def _names() -> dict[str, str]:
    rules = json.loads(subprocess.run([_ruff(), "rule", "--all", "--output-format", "json"], capture_output=True).stdout)
    return {rule["name"]: rule["code"] for rule in rules if (rule["code"] or "-")[0] in "EW"}


def _excused(source: bytes) -> set[tuple[int, str]]:
    """List what ruff reports and pycodestyle lets pass: (line from 1, code), by a `# noqa` there or a form feed at its end."""
    folded = source.lower()
    excused: set[tuple[int, str]] = set()
    if any(sign in folded for sign in (b"noqa", b"nopep8", b"\x0c")):
        for row, line in enumerate(_LINE_END.split(source.decode()), start=1):
            if _NOQA.search(line):
                excused |= {(row, code) for code in _HEEDS_NOQA}
            if line.endswith("\f") and not line.rstrip("\f").endswith((" ", "\t", "\v")):
                excused |= {(row, "W291"), (row, "W293")}
    return excused


def _ruff() -> str:
    """Find the program that the ruff package installs, or one on the path."""
    try:
        program: str = require("ruff.__main__", "pep8", "the pep8-ruff scorer").find_ruff_bin()
        return program
    except (MissingExtra, FileNotFoundError):
        on_path = shutil.which("ruff")
        if on_path is None:
            raise MissingExtra("the pep8-ruff scorer needs ruff. Install it with: pip install 'phf[pep8]'") from None
        return on_path
