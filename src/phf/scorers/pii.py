"""Personal data: what scrubadub detects, counted once, per character."""

import functools
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from phf.errors import require
from phf.scorers import Finding

log = logging.getLogger("phf")


@dataclass(frozen=True, kw_only=True)
class PII:
    """-(personal data found by scrubadub) / characters.

    What is counted is what `scrubadub.Scrubber.iter_filth` gives: detections that overlap or touch are one. A text on which a
    detector fails has an unknown reward, NaN; an empty text has nothing in it, 0.

    Args:
        detectors: "default" for scrubadub's default detectors (credential, credit card, email, phone, social security number,
            twitter, url; locale en_US); "extended" for these and date of birth, Skype name and address (pyap).
    """

    detectors: Literal["default", "extended"] = "extended"

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Give the reward of each text: (N,) float32."""
        return np.array([self._reward(text) for text in texts], dtype=np.float32)

    def findings(self, text: str) -> list[Finding]:
        """Give what was found, by position; the kind is scrubadub's, joined by "+" where several detections are one."""
        return [Finding(filth.beg, filth.end, filth.placeholder.lower()) for filth in self._filth(text) or ()]

    def _reward(self, text: str) -> float:
        filth = self._filth(text)
        return np.nan if filth is None else -len(filth) / max(len(text), 1)

    def _filth(self, text: str) -> list[Any] | None:
        try:
            return list(_scrubber(self.detectors).iter_filth(text))
        except (ValueError, OverflowError, RecursionError, IndexError) as error:  # a detector's crash says nothing about the text
            log.debug("scrubadub failed on a text of %d characters: %r", len(text), error)
            return None


@functools.cache
def _scrubber(detectors: str) -> Any:
    scrubadub = require("scrubadub", "pii", "the pii scorer")
    scrubber = scrubadub.Scrubber(locale="en_US")
    if detectors == "extended":
        scrubber.add_detector("date_of_birth")
        scrubber.add_detector("skype")
        scrubber.add_detector(_address_detector()(locale="en_US"))
    return scrubber


def _address_detector() -> Any:
    """Make the detector of postal addresses of the United States, as pyap reads them."""
    scrubadub = require("scrubadub", "pii", "the pii scorer")
    detector: Any = scrubadub.detectors.Detector
    parser = require("pyap.parser", "pii", "the pii scorer").AddressParser(country="US")

    class AddressDetector(detector):  # type: ignore[misc]
        name = "address"
        filth_cls = scrubadub.filth.AddressFilth

        def iter_filth(self, text: str, document_name: str | None = None) -> Iterator[Any]:
            addresses = parser.parse(text)
            offsets = _offsets(text) if addresses else []
            for address in addresses:
                found = parser.clean_text[address.match_start : address.match_end].rstrip(", ")
                start, end = offsets[address.match_start], offsets[address.match_start + len(found) - 1] + 1
                yield self.filth_cls(
                    beg=start,
                    end=end,
                    text=text[start:end],
                    detector_name=self.name,
                    document_name=document_name,
                    locale=self.locale,
                )

    return AddressDetector


def _offsets(text: str) -> list[int]:
    """Give the place in the text of each character of the text as pyap normalises it.

    pyap makes each run of white space and commas a ", " if a comma or a line end is in it, else a " "; all else keeps its length.
    """
    offsets: list[int] = []
    end = 0
    for run in re.finditer(r"[\s,]+", text):
        offsets.extend(range(end, run.start() + 1))
        if "," in run[0] or "\n" in run[0]:
            offsets.append(run.end() - 1)
        end = run.end()
    offsets.extend(range(end, len(text)))
    return offsets
