"""PEP 8 in minutes: violations that ruff finds by pycodestyle's rules, per character, many documents to one process."""

import io
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from phf.python_statements import whole_statements
from phf.scorers import Finding
from phf.scorers.pep8 import DEFAULT_IGNORE
from phf.scorers.pep8.ruff_process import Violation, check

_FILES = 10_000  # texts and
_CHARACTERS = 8_000_000  # characters of them that one process of ruff is given at most


@dataclass(frozen=True, kw_only=True)
class Pep8Ruff:
    """-(violations found by ruff's rules E and W) / characters.

    Close to `pep8`, not equal to it: docs/scorers/pep8-ruff.md lists the differences. A text that does not parse has one
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
        """Return the reward of each text, taken as a whole file: (N,) float32."""
        checked = zip(texts, self._violations(texts), strict=True)
        rewards = [np.nan if rows is None else 0.0 - len(rows) / max(len(text), 1) for text, rows in checked]
        return np.array(rewards, dtype=np.float32)

    def score_segments(self, segments: Sequence[str]) -> np.ndarray:
        """Return the reward of each segment of one file: (S,) float32.

        The file is checked whole; a violation is counted in the segment where its line starts, and the count is divided by
        the characters of that segment. Each call starts ruff: `score_documents` takes many files at once.
        """
        return self.score_documents([segments])[0]

    def score_documents(self, documents: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Return what `score_segments` returns for each of many files: an (S,) float32 array each."""
        texts = ["".join(segments) for segments in documents]
        checked = zip(documents, texts, self._violations(texts), strict=True)
        return [_rewards(segments, text, rows) for segments, text, rows in checked]

    def whole_part(self, text: str) -> str:
        """Return the whole statements that a text begins with: in half of one the end is missing, not style."""
        return whole_statements(text)

    def findings(self, text: str) -> list[Finding]:
        """Return each violation, from where ruff points to the end of the word (or white space) there, by position."""
        starts = _line_starts(text)
        findings = []
        for row, column, code in self._violations([text])[0] or []:
            line_start = starts[min(row, len(starts)) - 1]
            line_end = next((start for start in starts[row : row + 1]), len(text))
            # ruff does not count the byte order mark as a column
            start = line_start + column - 1 + (line_start == 0 and text.startswith("\ufeff"))
            start = min(start, line_end - 1)
            run = re.compile(r"\s+|\S+").match(text, start, line_end)
            assert run
            findings.append(Finding(start, run.end(), code))
        return sorted(findings, key=lambda finding: (finding.start, finding.end, finding.kind))

    def _violations(self, texts: Sequence[str]) -> list[list[Violation] | None]:
        """List the violations of each text; None where they are unknown."""
        violations: list[list[Violation] | None] = [[] for _ in texts]
        ignored = tuple(self.ignore)
        for batch in _batches(texts):
            sources = {}
            for number in batch:
                try:
                    sources[number] = texts[number].encode()
                except UnicodeEncodeError:  # a lone surrogate
                    violations[number] = None
            for number, rows in check(sources, self.max_line_length).items():
                violations[number] = None if rows is None else [row for row in rows if not row[2].startswith(ignored)]
        return violations


def _rewards(segments: Sequence[str], text: str, rows: list[Violation] | None) -> np.ndarray:
    if rows is None:
        return np.full(len(segments), np.nan, dtype=np.float32)
    lengths = np.fromiter(map(len, segments), np.int64, len(segments))
    counts = np.zeros(len(segments))
    if rows:
        starts = np.array(_line_starts(text))
        positions = starts[np.minimum([row for row, _, _ in rows], len(starts)) - 1]
        counts += np.bincount(np.searchsorted(np.cumsum(lengths), positions, side="right"), minlength=len(segments))
    rewards: np.ndarray = (0.0 - counts / np.maximum(lengths, 1)).astype(np.float32)
    return rewards


def _line_starts(text: str) -> list[int]:
    r"""List where each line starts, as ruff counts lines: they end in `\n`, `\r\n` or `\r`; at least one."""
    ends = itertools.accumulate(map(len, io.StringIO(text, newline="")))
    return [0, *ends][:-1] or [0]


def _batches(texts: Sequence[str]) -> Iterator[list[int]]:
    """Group the texts that are not empty, by their numbers, so that one process is given neither too many nor too much."""
    batch: list[int] = []
    size = 0
    for number, text in enumerate(texts):
        if not text:
            continue
        batch.append(number)
        size += len(text)
        if len(batch) == _FILES or size >= _CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
