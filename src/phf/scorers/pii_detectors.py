"""Detectors of personal data: scrubadub's own, those it lacks (address, named entities), and faster twins that find the same."""

import functools
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

from phf.errors import InputError, require
from phf.scorers.pii_birth import fast_date_of_birth_detector
from phf.scorers.pii_gates import LOCAL_LENGTH, US_STATE, email_signs, fold


def detector(name: str, fast: bool, spacy_model: str | None = None) -> Any:
    """Make one detector, locale en_US.

    Args:
        name: one of scrubadub's names, "address", or "spacy".
        fast: take the faster of two detectors that find the same.
        spacy_model: the model of "spacy".
    """
    scrubadub = require("scrubadub", "pii", "the pii scorer")
    if name == "spacy":
        return _entity_detector(spacy_model)
    if name == "address" and not fast:
        return _address_detector()(locale="en_US")
    if name in _FAST and fast:
        return _FAST[name]()(locale="en_US")
    return scrubadub.detectors.catalogue.detector_catalogue.get(name)(locale="en_US")


@functools.cache
def _fast_email_detector() -> Any:
    """Make scrubadub's email detector, but one that matches only before an "@" or " at " with a domain after it."""
    detector_class: Any = require("scrubadub", "pii", "the pii scorer").detectors.EmailDetector

    class EmailDetector(detector_class):  # type: ignore[misc]
        def iter_filth(self, text: str, document_name: str | None = None) -> Iterator[Any]:
            end = 0
            for sign in email_signs(text):
                for start in range(max(end, sign - LOCAL_LENGTH), sign):
                    match = self.regex.match(text, start)
                    if match:
                        yield self.filth_cls(
                            match=match, detector_name=self.name, document_name=document_name, locale=self.locale
                        )
                        end = match.end()
                        break

    return EmailDetector


@functools.cache
def _fast_phone_detector() -> Any:
    """Make scrubadub's phone detector, but one that parses no candidate that has too few digits to be valid."""
    scrubadub = require("scrubadub", "pii", "the pii scorer")
    phonenumbers = require("phonenumbers", "pii", "the pii scorer")
    matcher_class: Any = phonenumbers.PhoneNumberMatcher
    detector_class: Any = scrubadub.detectors.PhoneDetector

    class PhoneNumberMatcher(matcher_class):  # type: ignore[misc]
        def _parse_and_verify(self, candidate: str, offset: int) -> Any:
            return super()._parse_and_verify(candidate, offset) if could_be_phone_number(candidate) else None

    class PhoneDetector(detector_class):  # type: ignore[misc]
        def iter_filth(self, text: str, document_name: str | None = None) -> Iterator[Any]:
            for match in PhoneNumberMatcher(text, self.region):
                yield self.filth_cls(
                    beg=match.start,
                    end=match.end,
                    text=match.raw_string,
                    detector_name=self.name,
                    document_name=document_name,
                    locale=self.locale,
                )

    return PhoneDetector


def could_be_phone_number(candidate: str) -> bool:
    """Tell whether a candidate has the digits of a valid number.

    These are ten in the United States, six with an international prefix, or those of a Canadian 310-1234. Letters count as
    digits, since phonenumbers reads them so when there are three or more.
    """
    digits = re.sub(r"\D", "", candidate)
    characters = sum(map(str.isalnum, candidate))
    return (
        characters >= 10
        or (characters >= 6 and ("+" in candidate or digits.startswith("011")))
        or (characters >= 7 and (characters > len(digits) or re.fullmatch(r"1?310\d{4}", digits) is not None))
        or not candidate.isascii()
    )


@functools.cache
def _address_detector() -> Any:
    """Make the detector of postal addresses of the United States, as pyap reads them."""
    scrubadub = require("scrubadub", "pii", "the pii scorer")
    parser = require("pyap.parser", "pii", "the pii scorer").AddressParser(country="US")
    detector_class: Any = scrubadub.detectors.Detector

    class AddressDetector(detector_class):  # type: ignore[misc]
        name = "address"
        filth_cls = scrubadub.filth.AddressFilth

        def spans(self, text: str) -> list[tuple[int, int]]:
            """List (start, end) of each address in the text as pyap normalises it."""
            return [(address.match_start, address.match_end) for address in parser.parse(text)]

        def iter_filth(self, text: str, document_name: str | None = None) -> Iterator[Any]:
            spans = self.spans(text)
            if not spans:
                return
            normalised, offsets = normalise(text), normalised_offsets(text)
            for first, last in spans:
                length = len(normalised[first:last].rstrip(", "))
                start, end = offsets[first], offsets[first + length - 1] + 1
                yield self.filth_cls(
                    beg=start,
                    end=end,
                    text=text[start:end],
                    detector_name=self.name,
                    document_name=document_name,
                    locale=self.locale,
                )

    return AddressDetector


@functools.cache
def _fast_address_detector() -> Any:
    """Make the same detector, but one that looks only around the names and codes of states."""
    rules = re.compile(require("pyap.source_US.data", "pii", "the pii scorer").full_address, re.VERBOSE)
    detector_class: Any = _address_detector()

    class FastAddressDetector(detector_class):  # type: ignore[misc]
        def spans(self, text: str) -> list[tuple[int, int]]:
            normalised = normalise(text)
            found: list[tuple[int, int]] = []
            for start in address_starts(normalised):
                if not found or start >= found[-1][1]:
                    match = rules.match(normalised, start)
                    if match:
                        found.append(match.span())
            return found

    return FastAddressDetector


# An address starts with digits or one of these words, less than 300 characters before its state, unless a long run of letters or
# digits (a route, a floor, a post box) stretches it.
_NUMBER_WORDS = [
    "and",
    "thousand",
    "hundred",
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
]
_NUMBER_WORDS += ["eleven", "twelve", "thirteen", "fifteen", "twenty", "thirty", "forty", "fourty", "fifty", "eighty"]
_BEFORE_STATE = 400
_STRETCH = re.compile(r"[A-Za-z0-9]{50}").search


def address_starts(normalised: str) -> list[int]:
    """List where in a normalised text an address could start, in order."""
    folded = fold(normalised)
    starts: set[int] = set()
    searched = 0
    states = (
        [(0, len(folded))]
        if _STRETCH(folded)
        else [(state.start() - _BEFORE_STATE, state.start()) for state in US_STATE.finditer(normalised)]
    )
    for start, end in states:
        start = max(start, searched)
        starts.update(match.start() for match in _DIGIT.finditer(folded, start, end))
        for word in _NUMBER_WORDS:
            place = folded.find(word, start, end)
            while place >= 0:
                starts.add(place)
                place = folded.find(word, place + 1, end)
        searched = max(searched, end - 10)
    return sorted(starts)


def normalise(text: str) -> str:
    """Normalise a text as pyap does: each run of white space and commas becomes ", " or " ", dashes become "-"."""
    if _ODD_SEPARATOR(text):
        text = _SEPARATORS.sub(_separator, text)
    return text if text.isascii() else text.translate(_DASHES)


def normalised_offsets(text: str) -> list[int]:
    """Give the place in the text of each character of the normalised text."""
    offsets: list[int] = []
    end = 0
    for run in _SEPARATORS.finditer(text):
        offsets.extend(range(end, run.start() + 1))
        if len(_separator(run)) == 2:
            offsets.append(run.end() - 1)
        end = run.end()
    offsets.extend(range(end, len(text)))
    return offsets


def _separator(run: re.Match[str]) -> str:
    return ", " if "," in run[0] or "\n" in run[0] else " "


_DIGIT = re.compile(r"\d")
_SEPARATORS = re.compile(r"[\s,]+")
_ODD_SEPARATOR = re.compile(r"[^\S ]|  |,(?! )| ,").search
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—―", "-"))


def _entity_detector(model: str | None) -> Any:
    """Make the detector of names of people and organisations, as a spaCy model recognises them."""
    scrubadub = require("scrubadub", "pii", "the pii scorer")
    spacy = require("spacy", "sentences", "named entities in the pii scorer")
    detector_class: Any = scrubadub.detectors.Detector
    filth = {"PERSON": scrubadub.filth.NameFilth, "PER": scrubadub.filth.NameFilth, "ORG": scrubadub.filth.OrganizationFilth}
    try:
        pipeline = spacy.load(model, exclude=["tagger", "attribute_ruler", "lemmatizer"])
    except OSError:
        raise InputError(
            f"spaCy model {model!r}: not installed and not a folder. Install it with: python -m spacy download {model}, "
            "or give spacy_model: null to do without named entities"
        ) from None

    class EntityDetector(detector_class):  # type: ignore[misc]
        name = "spacy"

        def iter_filth(self, text: str, document_name: str | None = None) -> Iterator[Any]:
            for entity in pipeline(text).ents:
                if entity.label_ in filth:
                    yield filth[entity.label_](
                        beg=entity.start_char,
                        end=entity.end_char,
                        text=entity.text,
                        detector_name=self.name,
                        document_name=document_name,
                        locale=self.locale,
                    )

    return EntityDetector(locale="en_US")


_FAST = {
    "email": _fast_email_detector,
    "phone": _fast_phone_detector,
    "address": _fast_address_detector,
    "date_of_birth": fast_date_of_birth_detector,
}


@functools.cache
def installed_spacy_model() -> str | None:
    """Name the English spaCy model to use: en_core_web_sm if it is installed, else the first one that is, else None."""
    names = sorted(entry.name for entry in entry_points(group="spacy_models") if entry.name.startswith("en_"))
    return "en_core_web_sm" if "en_core_web_sm" in names else next(iter(names), None)
