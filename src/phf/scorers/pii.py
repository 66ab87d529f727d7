"""Personal data: what scrubadub's detectors find, counted once, per character."""

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from phf.errors import require
from phf.scorers import Finding
from phf.scorers.pii_detectors import detector, installed_spacy_model
from phf.scorers.pii_gates import GATES, Gate, fold, has_number

DEFAULT = ("credential", "credit_card", "email", "phone", "twitter", "url", "social_security_number")
EXTENDED = (*DEFAULT, "date_of_birth", "skype", "address")

log = logging.getLogger("phf")


@dataclass(frozen=True, kw_only=True)
class PII:
    """-(personal data found by scrubadub) / characters.

    What is counted is what `scrubadub.Scrubber.iter_filth` gives: detections that overlap or touch are one. The detections are
    those of the detectors run plainly (`plain`), but a detector is asked only about texts that have what it cannot match without.
    A text on which a detector fails has an unknown reward, NaN; an empty text has nothing in it, 0.

    Args:
        detectors: "default" for scrubadub's default detectors (credential, credit card, email, phone, twitter, url, social
            security number; locale en_US); "extended" for these and date of birth, Skype name, address (pyap) and named entities
            (people and organisations).
        spacy_model: name or folder of the spaCy model that recognises the named entities; "auto" for en_core_web_sm, or else
            another English model, if one is installed; null for no named entities.
    """

    detectors: Literal["default", "extended"] = "extended"
    spacy_model: str | None = "auto"

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Give the reward of each text: (N,) float32."""
        return np.array([self._reward(text) for text in texts], dtype=np.float32)

    def findings(self, text: str) -> list[Finding]:
        """Give what was found, by position; the kind is scrubadub's, joined by "+" where several detections are one."""
        return [Finding(filth.beg, filth.end, filth.placeholder.lower()) for filth in self._filth(text) or ()]

    def plain(self) -> Any:
        """Make the `scrubadub.Scrubber` that finds the same, every detector asked about every text."""
        scrubadub = require("scrubadub", "pii", "the pii scorer")
        return scrubadub.Scrubber([detector(name, False, model) for name, model in self._names()], locale="en_US")

    def _names(self) -> list[tuple[str, str | None]]:
        if self.detectors == "default":
            return [(name, None) for name in DEFAULT]
        model = installed_spacy_model() if self.spacy_model == "auto" else self.spacy_model
        return [(name, None) for name in EXTENDED] + ([("spacy", model)] if model else [])

    def _reward(self, text: str) -> float:
        filth = self._filth(text)
        return np.nan if filth is None else -len(filth) / max(len(text), 1)

    def _filth(self, text: str) -> list[Any] | None:
        gated, merge = _gated(tuple(self._names()))
        folded = fold(text)
        number = has_number(folded)
        found = []
        try:
            for may_match, find in gated:
                if may_match(text, folded, number):
                    found += [filth for filth in find(text) if filth.is_valid()]
            return list(merge(found)) if found else found
        except (ValueError, OverflowError, RecursionError, IndexError) as error:  # a detector's crash says nothing about the text
            log.debug("scrubadub failed on a text of %d characters: %r", len(text), error)
            return None


@functools.cache
def _gated(names: tuple[tuple[str, str | None], ...]) -> tuple[list[tuple[Gate, Any]], Any]:
    """Make the detectors, each behind its gate, and find what merges their detections."""
    scrubadub = require("scrubadub", "pii", "the pii scorer")
    gated = [(GATES.get(name, lambda *facts: True), detector(name, True, model).iter_filth) for name, model in names]
    return gated, scrubadub.Scrubber._merge_filths
