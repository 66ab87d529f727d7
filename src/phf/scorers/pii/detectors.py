"""Detectors of personal data: scrubadub's own, those it lacks (address, named entities), and faster twins that find the same.

Imported when a `pii` scorer first scores: scrubadub takes seconds to import.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any, ClassVar

import phonenumbers
import scrubadub
import textblob  # type: ignore[import-untyped]
from pyap.parser import AddressParser
from pyap.source_US.data import full_address

from phf.errors import InputError, require
from phf.scorers.pii.prefilters import LOCAL_LENGTH, email_signs, fold, states


def make(name: str, fast: bool, spacy_model: str | None = None) -> Any:
    """Make one detector, locale en_US.

    Args:
        name: one of scrubadub's names, "address", or "spacy".
        fast: take the faster of two detectors that find the same.
        spacy_model: the model of "spacy".
    """
    if name == "spacy":
        return EntityDetector(spacy_model, locale="en_US")
    if name == "date_of_birth" and fast and version("dateparser").startswith("1.5."):  # the releases it was tested with
        from phf.scorers.pii.date_of_birth import DateOfBirthDetector

        return DateOfBirthDetector(locale="en_US")
    if name == "address" and not fast:
        return AddressDetector(locale="en_US")
    if name in _FAST and fast:
        return _FAST[name](locale="en_US")
    return scrubadub.detectors.catalogue.detector_catalogue.get(name)(locale="en_US")


def merge(filth: list[Any]) -> list[Any]:
    """Make one of detections that overlap or touch, as `Scrubber.iter_filth` does."""
    return list(scrubadub.Scrubber._merge_filths(filth))


class EmailDetector(scrubadub.detectors.EmailDetector):  # type: ignore[misc]
    """scrubadub's, but one that matches only before an "@" or " at " with a domain after it."""

    def iter_filth(self, text: str, document_name: str | None = None) -> Iterator[Any]:
        """Yield the addresses of a text."""
        end = 0
        for sign in email_signs(text):
            for start in range(max(end, sign - LOCAL_LENGTH), sign):
                match = self.regex.match(text, start)
                if match:
                    yield self.filth_cls(match=match, detector_name=self.name, document_name=document_name, locale=self.locale)
                    end = match.end()
                    break


class PhoneNumberMatcher(phonenumbers.PhoneNumberMatcher):
    """phonenumbers' own, but one that does not parse a candidate with too few digits to be valid."""

    def _parse_and_verify(self, candidate: str, offset: int) -> Any:
        return super()._parse_and_verify(candidate, offset) if could_be_phone_number(candidate) else None


def could_be_phone_number(candidate: str) -> bool:
    """Return whether a candidate has the digits of a valid number.

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


class PhoneDetector(scrubadub.detectors.PhoneDetector):  # type: ignore[misc]
    """scrubadub's, with the faster matcher."""

    def iter_filth(self, text: str, document_name: str | None = None) -> Iterator[Any]:
        """Yield the numbers of a text."""
        for match in PhoneNumberMatcher(text, self.region):
            yield _filth(self, text, match.start, match.end, document_name)


class SkypeDetector(scrubadub.detectors.SkypeDetector):  # type: ignore[misc]
    """scrubadub's, but one that looks a word up once: to find no correction takes the spelling checker up to a second."""

    def iter_filth(self, text: str, document_name: str | None = None) -> Iterator[Any]:
        """Yield the names in a text: what is spelt like no word, within ten words of "skype"."""
        tokens = re.findall(self.SKYPE_TOKEN, text)
        names = [
            token.lower() if token.isupper() else token
            for place, skype in enumerate(tokens)
            if "skype" in skype.lower()
            for token in tokens[max(place - self.word_radius, 0) : place] + tokens[place + 1 : place + self.word_radius + 1]
            if self.SKYPE_USERNAME.match(token) and is_misspelt(token.lower() if token.isupper() else token)
        ]
        if names:
            for match in re.finditer("|".join(names), text):
                yield self.filth_cls(match=match, detector_name=self.name, document_name=document_name, locale=self.locale)


@functools.lru_cache(maxsize=100_000)
def is_misspelt(word: str) -> bool:
    """Return whether textblob is less than half sure of its best correction."""
    _, confidence = textblob.Word(word).spellcheck()[0]
    return bool(confidence < 0.5)


class AddressDetector(scrubadub.detectors.Detector):  # type: ignore[misc]
    """Postal addresses of the United States, as pyap reads them."""

    name = "address"
    filth_cls = scrubadub.filth.AddressFilth

    def spans(self, text: str) -> list[tuple[int, int]]:
        """List (start, end) of each address in the text as pyap normalises it."""
        return [(address.match_start, address.match_end) for address in AddressParser(country="US").parse(text)]

    def iter_filth(self, text: str, document_name: str | None = None) -> Iterator[Any]:
        """Yield the addresses of a text, without the separator that pyap may find at the end."""
        spans = self.spans(text)
        if spans:
            normalised, offsets = normalise(text), normalised_offsets(text)
        for first, last in spans:
            length = len(normalised[first:last].rstrip(", "))
            yield _filth(self, text, offsets[first], offsets[first + length - 1] + 1, document_name)


class FastAddressDetector(AddressDetector):
    """The same, but one that matches only where a number stands before the name or code of a state."""

    rules = re.compile(full_address, re.VERBOSE)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """List (start, end) of each address in the text as pyap normalises it."""
        normalised = normalise(text)
        found: list[tuple[int, int]] = []
        for start in address_starts(normalised):
            if not found or start >= found[-1][1]:
                match = self.rules.match(normalised, start)
                if match:
                    found.append(match.span())
        return found


class EntityDetector(scrubadub.detectors.Detector):  # type: ignore[misc]
    """Names of people and organisations, as a spaCy model recognises them."""

    name = "spacy"
    kinds: ClassVar[dict[str, Any]] = {
        "PERSON": scrubadub.filth.NameFilth,
        "PER": scrubadub.filth.NameFilth,
        "ORG": scrubadub.filth.OrganizationFilth,
    }

    def __init__(self, model: str | None, **options: Any) -> None:
        super().__init__(**options)
        spacy = require("spacy", "sentences", "the pii scorer with named entities")
        try:
            self.pipeline = spacy.load(model, exclude=["tagger", "attribute_ruler", "lemmatizer"])  # nothing here needs these
        except OSError:
            raise InputError(
                f"pii.spacy_model: {model!r} is neither an installed spaCy model nor a folder with one. Install it with: "
                f"python -m spacy download {model}; or set it to null, to do without named entities"
            ) from None

    def iter_filth(self, text: str, document_name: str | None = None) -> Iterator[Any]:
        """Yield the names in a text."""
        for entity in self.pipeline(text).ents:
            if entity.label_ in self.kinds:
                yield _filth(self, text, entity.start_char, entity.end_char, document_name, self.kinds[entity.label_])


def _filth(detector: Any, text: str, start: int, end: int, document_name: str | None, kind: Any = None) -> Any:
    return (kind or detector.filth_cls)(
        beg=start,
        end=end,
        text=text[start:end],
        detector_name=detector.name,
        document_name=document_name,
        locale=detector.locale,
    )


# An address starts with digits or one of these words, less than 300 characters before its state, unless a long run of letters or
# digits (a route, a post box) stretches it.
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
_NUMBER_WORDS += ["eleven", "twelve", "thirteen", "fifteen", "twenty", "thirty", "forty", "fifty"]
_BEFORE_STATE = 400
_STRETCH = re.compile(r"[a-z0-9]{50}").search
_DIGIT = re.compile(r"\d")


def address_starts(normalised: str) -> list[int]:
    """List where in a normalised text an address could start, in order."""
    folded = fold(normalised)
    if _STRETCH(folded):
        parts = [(0, len(folded))]
    else:
        parts = [(state - _BEFORE_STATE, state) for state in states(normalised, folded)]
    starts: set[int] = set()
    searched = 0
    for first, end in parts:
        start = max(first, searched, 0)
        starts.update(match.start() for match in _DIGIT.finditer(folded, start, end))
        for word in _NUMBER_WORDS:
            place = folded.find(word, start, end)
            while place >= 0:
                starts.add(place)
                place = folded.find(word, place + 1, end)
        searched = max(searched, end - 10)  # a word may have begun there
    return sorted(starts)


def normalise(text: str) -> str:
    """Normalise a text as pyap does: each run of white space and commas becomes ", " or " ", dashes become "-"."""
    if _ODD_SEPARATOR(text):
        text = _SEPARATORS.sub(_separator, text)
    return text if text.isascii() else text.translate(_DASHES)


def normalised_offsets(text: str) -> Sequence[int]:
    """Return the position in the text of each character of the normalised text."""
    if not _ODD_SEPARATOR(text):
        return range(len(text))
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


_SEPARATORS = re.compile(r"[\s,]+")
_ODD_SEPARATOR = re.compile(r"[^\S ]|  |,(?! )| ,").search
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—―", "-"))

_FAST = {"email": EmailDetector, "phone": PhoneDetector, "skype": SkypeDetector, "address": FastAddressDetector}
