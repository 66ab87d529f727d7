"""Scorers whose findings a test can count by eye."""

import re

import numpy as np

from phf.scorers import Finding


class Shouting:
    """A scorer: each capital letter is a finding and costs 0.01; a text with a question mark cannot be scored."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def score(self, texts):
        self.seen += texts
        return np.array([np.nan if "?" in text else -0.01 * sum(map(str.isupper, text)) for text in texts], np.float32)

    def findings(self, text):
        return [Finding(match.start(), match.end(), "capital") for match in re.finditer("[A-Z]", text)]
