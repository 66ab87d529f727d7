"""Personal data: what scrubadub's detectors find, counted once, per character."""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Literal

import numpy as np

from phf.errors import require
from phf.scorers import Finding
from phf.scorers.pii.prefilters import GATES, Gate, digits, fold

DEFAULT = ("credential", "credit_card", "email", "phone", "twitter", "url", "social_security_number")
EXTENDED = (*DEFAULT, "date_of_birth", "skype", "address")

log = logging.getLogger("phf")


@dataclass(frozen=True, kw_only=True)
class PII:
    """-(personal data found by scrubadub) / characters.

    What is counted is what `scrubadub.Scrubber.iter_filth` yields: detections that overlap or touch are one. The detections are
    those of the detectors run plainly (`plain`), but a detector is run only on texts that have what it cannot match without.
    A text on which a detector fails has an unknown reward, NaN; an empty text has nothing in it, 0.

    Args:
        detectors: "default" for scrubadub's default detectors (credential, credit card, email, phone, twitter, url, social
            security number; locale en_US); "extended" for these and date of birth, Skype name, address (pyap) and named entities
            (people and organisations).
        spacy_model: name or folder of the spaCy model that recognises the named entities; "auto" for en_core_web_sm, or else
            another English model, if one is installed, with a warning if none is; null for no named entities.

    Raises:
        InputError: at the first text, for a named spaCy model that is not installed.
    """

    detectors: Literal["default", "extended"] = "extended"
    spacy_model: str | None = "auto"

    def __post_init__(self) -> None:
        if self.detectors == "extended" and self.spacy_model == "auto" and installed_spacy_model() is None:
            _warn_of_names()

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return the reward of each text: (N,) float32."""
        return np.array([self._reward(text) for text in texts], dtype=np.float32)

    def findings(self, text: str) -> list[Finding]:
        """Return what was found, by position; the kind is scrubadub's, joined by "+" where detections of several kinds merge."""
        return [Finding(filth.beg, filth.end, _kind(filth)) for filth in self._filth(text) or ()]

    def plain(self) -> Any:
        """Make the `scrubadub.Scrubber` that finds the same, every detector asked about every text."""
        scrubber = require("scrubadub", "pii", "the pii scorer").Scrubber
        return scrubber([_make(name, False, model) for name, model in _names(self.detectors, self.spacy_model)], locale="en_US")

    def _reward(self, text: str) -> float:
        filth = self._filth(text)
        return np.nan if filth is None else -len(filth) / max(len(text), 1)

    def _filth(self, text: str) -> list[Any] | None:
        gated, merge = _gated(self.detectors, self.spacy_model)
        folded = fold(text)
        number = digits(folded)
        detections = []
        try:
            for may_match, find in gated:
                if may_match(text, folded, number):
                    detections += [filth for filth in find(text) if filth.is_valid()]
            return merge(detections) if detections else detections
        except (ValueError, OverflowError, RecursionError, IndexError) as error:  # a detector's crash says nothing about the text
            log.debug("scrubadub failed on a text of %d characters: %r", len(text), error)
            return None


def _make(name: str, fast: bool, model: str | None) -> Any:
    for module in ("scrubadub", "pyap"):
        require(module, "pii", "the pii scorer")
    from phf.scorers.pii.detectors import make

    return make(name, fast, model)


def _names(detectors: str, spacy_model: str | None) -> list[tuple[str, str | None]]:
    """List the detectors, in scrubadub's order, and the model that each needs."""
    if detectors == "default":
        return [(name, None) for name in DEFAULT]
    model = installed_spacy_model() if spacy_model == "auto" else spacy_model
    return [(name, None) for name in EXTENDED] + ([("spacy", model)] if model else [])


def installed_spacy_model() -> str | None:
    """Return the English spaCy model to use: en_core_web_sm if it is installed, else the first one that is, else None."""
    names = sorted(entry.name for entry in entry_points(group="spacy_models") if entry.name.startswith("en_"))
    return "en_core_web_sm" if "en_core_web_sm" in names else next(iter(names), None)


@functools.cache
def _warn_of_names() -> None:
    log.warning(
        "pii: no English spaCy model is installed, so names of people and organisations are not found. Install one with: "
        "python -m spacy download en_core_web_sm; or set spacy_model to null, to do without them"
    )


@functools.cache
def _gated(detectors: str, spacy_model: str | None) -> tuple[list[tuple[Gate, Callable[[str], Any]]], Callable[[list[Any]], Any]]:
    """Make the detectors, each behind its gate, and return what merges their detections."""
    gated = [(GATES.get(name, _always), _make(name, True, model).iter_filth) for name, model in _names(detectors, spacy_model)]
    from phf.scorers.pii.detectors import merge

    return gated, merge


def _kind(filth: Any) -> str:
    return "+".join(dict.fromkeys(filth.placeholder.lower().split("+")))


def _always(text: str, folded: str, number: int) -> bool:
    return True
