"""PEP 8: violations that pycodestyle finds, per character, of a whole file or line by line."""

import bisect
import functools
import itertools
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from phf.errors import require
from phf.python_statements import whole_statements
from phf.scorers import Finding

DEFAULT_IGNORE = ("E121", "E123", "E126", "E226", "E24", "E704", "W503", "W504")

log = logging.getLogger("phf")


@dataclass(frozen=True, kw_only=True)
class Pep8:
    """-(violations found by pycodestyle) / characters.

    The number is pycodestyle's own, of `pycodestyle.Checker(lines=...)` on the text split after each "\\n"; configuration files
    on the machine are not read. A text on which pycodestyle itself fails has an unknown reward, NaN; in an empty text nothing
    is wrong, 0.

    Args:
        max_line_length: longest line allowed, in characters.
        ignore: prefixes of codes that do not count; the default is pycodestyle's own.
    """

    max_line_length: int = 79
    ignore: list[str] = field(default_factory=lambda: list(DEFAULT_IGNORE))

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return the reward of each text, taken as a whole file: (N,) float32."""
        return np.array([self._reward(text) for text in texts], dtype=np.float32)

    def score_segments(self, segments: Sequence[str]) -> np.ndarray:
        """Return the reward of each segment of one file: (S,) float32.

        The file is checked whole; a violation is counted in the segment where its line starts, and the count is divided by the
        characters of that segment.
        """
        violations = self._violations("".join(segments))
        if violations is None:
            return np.full(len(segments), np.nan, dtype=np.float32)
        ends = list(itertools.accumulate(map(len, segments)))
        counts = np.zeros(len(segments))
        for line_start, _, _ in violations:
            counts[bisect.bisect_right(ends, line_start)] += 1
        lengths = np.array([max(len(segment), 1) for segment in segments])
        rewards: np.ndarray = (0.0 - counts / lengths).astype(np.float32)
        return rewards

    def findings(self, text: str) -> list[Finding]:
        """Return each violation, from where pycodestyle points to the end of the word (or white space) there, by position."""
        findings = []
        for line_start, offset, code in self._violations(text) or []:
            line_end = text.find("\n", line_start) + 1 or len(text)
            start = min(line_start + max(offset, 0), line_end - 1)
            run = re.compile(r"\s+|\S+").match(text, start, line_end)
            assert run
            findings.append(Finding(start, run.end(), code))
        return sorted(findings, key=lambda finding: (finding.start, finding.end, finding.kind))

    def whole_part(self, text: str) -> str:
        """Return the whole statements that a text begins with: in half of one the end is missing, not style."""
        return whole_statements(text)

    def _reward(self, text: str) -> float:
        violations = self._violations(text)
        if violations is None:
            return np.nan
        return -len(violations) / max(len(text), 1)

    def _violations(self, text: str) -> list[tuple[int, int, str]] | None:
        """List (start of the line in the text, offset in the line, code) of each violation; None where pycodestyle fails."""
        lines = text.split("\n")
        lines = [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
        check = _checker(self.max_line_length, tuple(self.ignore))
        if not lines:
            return []
        try:
            violations = check(list(lines))
        except Exception as error:  # a crash of the linter says nothing about the style of the text
            log.debug("pycodestyle failed on a text of %d characters: %r", len(text), error)
            return None
        starts = [0, *itertools.accumulate(map(len, lines))]
        return [(starts[min(max(row, 1), len(lines)) - 1], offset, code) for row, offset, code in violations]


@functools.cache
def _checker(max_line_length: int, ignore: tuple[str, ...]) -> Callable[[list[str]], list[tuple[int, int, str]]]:
    """Set pycodestyle up once. Every option that a user's configuration file could change is passed."""
    pycodestyle = require("pycodestyle", "pep8", "the pep8 scorer")
    guide = pycodestyle.StyleGuide(
        ignore=ignore or ("!",),  # no code starts with it; an empty list would mean pycodestyle's default
        select=(),
        max_line_length=max_line_length,
        max_doc_length=None,
        indent_size=4,
        hang_closing=False,
        quiet=2,
        verbose=0,
    )
    from phf.scorers.pep8.checker import Checker, Report

    def check(lines: list[str]) -> list[tuple[int, int, str]]:
        report = Report(ignore)
        Checker(lines=lines, options=guide.options, report=report).check_all()
        return report.found

    return check
