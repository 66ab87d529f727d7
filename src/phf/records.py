"""Measured numbers, each with its error, its sample count and where it came from: one JSON line a number."""

import dataclasses
import functools
import json
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from phf.artifacts import whole_lines
from phf.errors import InputError
from phf.machine import usable_cores

Control = Literal["own", "misaligned", "plain"]
"""The condition that a model with control tokens is measured under: its own token, the other one, or none with all banned."""
_NAME = re.compile(r"(?P<base>.*?)(@gamma=(?P<gamma>[^@]+))?(@(?P<control>misaligned|plain))?", re.DOTALL)

_VERSIONED = ("phf", "torch", "transformers", "numpy")


@dataclass(frozen=True, slots=True)
class Stamp:
    """Where and when a number was measured.

    Args:
        time: UTC, ISO 8601, to the second.
        commit: of the phf checkout that measured, with "+changes" if it had uncommitted ones; "" outside a checkout.
        machine: processor, core count and system.
        versions: of phf, Python and the libraries that can change a number.
        command: the command line.
    """

    time: str
    commit: str
    machine: str
    versions: dict[str, str]
    command: str


@dataclass(frozen=True, slots=True)
class EvaluationName:
    """The name of an evaluation in records and file names: "no-prompt", "no-prompt@misaligned", "steer@gamma=2".

    Args:
        base: its name in the recipe.
        gamma: how far decoding was guided; None if it was not.
        control: the condition that the model was measured under.
    """

    base: str
    gamma: float | None = None
    control: Control = "own"

    def __str__(self) -> str:
        guided = "" if self.gamma is None else f"@gamma={self.gamma:g}"
        return self.base + guided + ("" if self.control == "own" else f"@{self.control}")

    @classmethod
    def parse(cls, name: str) -> "EvaluationName":
        """Read what `str` writes; anything else is a base alone."""
        match = _NAME.fullmatch(name)
        try:
            gamma = float(match["gamma"]) if match and match["gamma"] else None
        except ValueError:
            return cls(name)
        return cls(match["base"], gamma, match["control"] or "own") if match else cls(name)  # type: ignore[arg-type]

    def under(self, control: Control) -> "EvaluationName":
        """Return the name of the same evaluation under another condition."""
        return dataclasses.replace(self, control=control)


@dataclass(frozen=True, slots=True)
class Record:
    """One measured number.

    Args:
        run: the name of the run that was measured.
        step: its optimiser step.
        evaluation: what measured it, such as "no-prompt" or "heldout@misaligned"; see `EvaluationName`.
        metric: such as "misalignment"; lower or higher is better as the evaluation's page says.
        value: NaN when it could not be measured.
        stderr: standard error of `value`; NaN when there is none.
        n: how many samples it is a statistic of.
        stamp: where and when.
    """

    run: str
    step: int
    evaluation: str
    metric: str
    value: float
    stderr: float
    n: int
    stamp: Stamp

    def _check(self) -> None:
        names = (
            self.run,
            self.evaluation,
            self.metric,
            self.stamp.time,
            self.stamp.commit,
            self.stamp.machine,
            self.stamp.command,
        )
        if not all(isinstance(name, str) for name in names) or not isinstance(self.stamp.versions, dict):
            raise TypeError("run, evaluation, metric and the texts of stamp are text, and versions an object")
        if not isinstance(self.step, int) or not isinstance(self.n, int):
            raise TypeError(f"step is {self.step!r} and n {self.n!r}; expected whole numbers")
        if math.isinf(self.value) or math.isinf(self.stderr):
            raise ValueError(f"value is {self.value} and stderr {self.stderr}; expected finite numbers, or null")

    def to_json(self) -> str:
        """Write one line of JSON; NaN is null."""
        fields = dataclasses.asdict(self)
        for name in ("value", "stderr"):
            fields[name] = None if math.isnan(fields[name]) else fields[name]
        return json.dumps(fields, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> "Record":
        """Read one line of JSON.

        Raises:
            InputError: if it is not a record; the message says what is missing or wrong.
        """
        try:
            fields: dict[str, Any] = json.loads(line)
            for name in ("value", "stderr"):
                fields[name] = math.nan if fields[name] is None else float(fields[name])
            fields["stamp"] = Stamp(**fields["stamp"])
            record = cls(**fields)
            record._check()
            return record
        except json.JSONDecodeError as error:
            raise InputError(f"not JSON ({error.msg} at character {error.pos})") from None
        except KeyError as error:
            raise InputError(f"not a record: no {error.args[0]!r}") from None
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"not a record: {error}") from None


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Append records to a JSON-lines file, flushed to disk.

    A line that a killed process left without its end is cut off first: it was never whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(record.to_json() + "\n" for record in records)
    whole_lines(path, cut=True)
    with path.open("ab") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def read_records(path: Path) -> Iterator[Record]:
    """Read every record of a JSON-lines file. A torn last line (no newline at its end) is not a record and is skipped.

    Raises:
        InputError: if the file is missing or a line is not a record, with the line's number.
    """
    if not path.exists():
        raise InputError(f"{path}: not found; `phf evaluate` writes it")
    for number, line in enumerate(whole_lines(path), start=1):
        try:
            yield Record.from_json(line.decode())
        except (InputError, UnicodeDecodeError) as error:
            raise InputError(f"{path}, line {number}: {error}") from None


@functools.cache
def stamp() -> Stamp:
    """Return where and when this process is measuring."""
    versions = {"python": platform.python_version()}
    for package in _VERSIONED:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]) if sys.argv else ""
    return Stamp(datetime.now(UTC).isoformat(timespec="seconds"), _commit(), _machine(), versions, command)


def commit_of(file: Path) -> str:
    """Return the commit of the checkout that a file is of, with "+changes" if its folder has others; "" if it is of none."""
    try:
        _git(file.parent, "ls-files", "--error-unmatch", file.name)
        return _head(file.parent, ".")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _commit() -> str:
    here = Path(__file__).parent
    try:
        if Path(_git(here, "rev-parse", "--show-toplevel")) != here.parent.parent:
            return ""  # installed inside someone else's checkout
        return _head(here, ":/")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _head(folder: Path, changed: str) -> str:
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", changed)
    return _git(folder, "rev-parse", "--short=12", "HEAD") + ("+changes" if changes else "")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _machine() -> str:
    processor = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return f"{processor}, {usable_cores()} cores, {platform.system()}"
