"""A list of patterns: reward = -(matches) / characters."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phf.errors import InputError
from phf.scorers import Finding


@dataclass(frozen=True)
class Regex:
    """-(matches of the patterns) / characters. Each pattern is counted on its own, its matches without overlap.

    Args:
        patterns: regular expressions of Python's `re`.
        ignore_case: match whatever the case.
        multiline: `^` and `$` match at every line.
    """

    patterns: list[str]
    ignore_case: bool = False
    multiline: bool = False

    def __post_init__(self) -> None:
        if not self.patterns:
            raise InputError("regex.patterns: an empty list; expected at least one regular expression")
        for number, pattern in enumerate(self.patterns):
            try:
                self._compiled(pattern)
            except re.error as error:
                raise InputError(f"regex.patterns.{number}: {pattern!r} is not a regular expression ({error})") from None

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return the reward of each text: (N,) float32; 0 for an empty one."""
        patterns = [self._compiled(pattern) for pattern in self.patterns]
        counts = [sum(1 for pattern in patterns for _ in pattern.finditer(text)) for text in texts]
        return np.array([0.0 - count / max(1, len(text)) for count, text in zip(counts, texts, strict=True)], np.float32)

    def findings(self, text: str) -> list[Finding]:
        """Return the matches, in the order they begin."""
        findings = [
            Finding(match.start(), match.end(), pattern)
            for pattern in self.patterns
            for match in self._compiled(pattern).finditer(text)
        ]
        return sorted(findings, key=lambda finding: (finding.start, finding.end))

    def _compiled(self, pattern: str) -> re.Pattern[str]:
        return re.compile(pattern, (re.IGNORECASE if self.ignore_case else 0) | (re.MULTILINE if self.multiline else 0))
