"""What the command line draws: live progress, notes and tables, on a terminal or as plain lines in a log."""

import logging
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from phf.cli.remaining_time import RemainingTime
from phf.credentials import scrubbed
from phf.formatting import duration, percent
from phf.progress import Listener, Progress

LINE_EVERY = 15.0
"""Seconds between two lines of one stage where there is no terminal to draw on."""

_NUMBER = re.compile(r"[-+~<>=≥≤ ]*[0-9][-+0-9.,:%eEkMBGiTs/x ]*(\[[-+0-9.,e%nai ]*\])?")
_DIGIT = re.compile(r"[0-9]")
_SHORT = 24
"""Characters of a word that is never broken; longer ones, such as paths, may be."""

errors = Console(stderr=True, highlight=False, soft_wrap=True)
output = Console(highlight=False, soft_wrap=True)


@contextmanager
def progress(quiet: bool = False) -> Iterator[Listener]:
    """Draw what stages say of their progress, on standard error; notes and warnings appear above it."""
    handler = RichHandler(console=errors, show_time=False, show_path=False, markup=False)
    logger = logging.getLogger("phf")
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    try:
        if quiet:
            yield lambda _: None
        elif errors.is_terminal:
            with _bars() as bars:
                yield _Drawn(bars)
        else:
            yield _Lines()
    finally:
        logger.removeHandler(handler)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on standard output. Where it is too narrow for the numbers, each row is a list of lines instead."""
    console = Console(highlight=False)
    widest = [max((_unbreakable(cell) for cell in (column, *cells)), default=1) for column, *cells in zip(columns, *rows)]
    widest[0] = max(len(cell) for cell in (columns[0], *(row[0] for row in rows)))
    if sum(widest) + 2 * (len(widest) - 1) > console.width:
        console.print(title, markup=False, style="italic", soft_wrap=True)
        for row in rows:
            lines = [f"{column}: {cell}" for column, cell in zip(columns, row, strict=True) if cell]
            console.print("\n  ".join(lines), markup=False, soft_wrap=True)
        return
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        made.add_column(column, overflow="fold", no_wrap=number == 0, min_width=widest[number])
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    console.print(made)


def _unbreakable(cell: str) -> int:
    """Return the columns of the longest part of a cell that must stay in one line: a word, or a number and its interval."""
    parts = [cell] if _NUMBER.fullmatch(cell) else cell.split()
    return max((len(part) for part in parts if _DIGIT.search(part) or len(part) <= _SHORT), default=1)


def say(text: str) -> None:
    """Print on standard output, as it is."""
    output.print(text, markup=False)


def write(text: str) -> None:
    """Write a model's text on standard output at once. On a terminal without what could command it, such as escape sequences."""
    if output.is_terminal:
        text = "".join(character if character.isprintable() or character in "\n\t" else "\ufffd" for character in text)
    sys.stdout.write(text)
    sys.stdout.flush()


def fail(text: str) -> None:
    """Print an error on standard error, without what is secret in an address."""
    errors.print(f"phf: {scrubbed(text)}", style="red", markup=False)


class _Drawn:
    """One bar a stage."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._left: dict[str, RemainingTime] = {}

    def __call__(self, progress: Progress) -> None:
        if progress.stage not in self._tasks:
            self._tasks[progress.stage] = self._bars.add_task(progress.stage, total=progress.total, facts="", left="")
        left = self._left.setdefault(progress.stage, RemainingTime()).update(progress.done, progress.total)
        self._bars.update(
            self._tasks[progress.stage],
            completed=progress.done,
            total=progress.total,
            facts=f"{_count(progress.done)} {progress.unit}  {_facts(progress.facts)}",
            left=f"{duration(left)} left" if left is not None else "",
        )


class _Lines:
    """A line a stage now and then, and one when it is done."""

    def __init__(self) -> None:
        self._left: dict[str, RemainingTime] = {}
        self._said: dict[str, float] = {}

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        left = self._left.setdefault(progress.stage, RemainingTime()).update(progress.done, progress.total)
        finished = progress.total is not None and progress.done >= progress.total
        if not finished and now - self._said.get(progress.stage, 0.0) < LINE_EVERY:
            return
        self._said[progress.stage] = now
        share = f" of {_count(progress.total)} ({percent(progress.done / progress.total)})" if progress.total else ""
        facts = f", {_facts(progress.facts)}" if progress.facts else ""
        ending = f", {duration(left)} left" if left is not None else ""
        errors.print(f"{progress.stage}: {_count(progress.done)}{share} {progress.unit}{facts}{ending}", markup=False)


def _bars() -> Bars:
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[facts]}", justify="left"),
        console=errors,
    )


def _facts(facts: Mapping[str, float | str]) -> str:
    shown = (f"{name} {value}" if isinstance(value, str) else f"{name} {_count(value)}" for name, value in facts.items())
    return "  ".join(shown)


def _count(value: float) -> str:
    if isinstance(value, float) and not value.is_integer() and abs(value) < 1000:
        return f"{value:.4g}"
    return f"{value:,.0f}"
