"""Dates of birth: scrubadub's detector, with dateparser run only on what can be a date 18 to 100 years ago.

The detector reports a string that dateparser finds in the text if its year lies in that range, if "birth", "born", "dob"
or "d.o.b." is on a line near one that holds the string, and if dateparser reads such a year in the string alone, too. dateparser
takes a year from two digits, from four or from a time stamp of ten or more, or counts it back from now ("40 years"). So a
sentence with none of these cannot be reported and need not be searched, nor a chunk of a sentence parsed.

This reaches into dateparser, so it is imported only beside the releases of it that it was tested with.
"""

import copy
import functools
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime
from typing import Any

from dateparser.conf import settings  # type: ignore[import-untyped]
from dateparser.date import DateData  # type: ignore[import-untyped]
from dateparser.languages.loader import LocaleDataLoader  # type: ignore[import-untyped]
from dateparser.search.search import _ExactLanguageSearch, _has_weekday_modifier  # type: ignore[import-untyped]
from dateparser.utils import normalize_unicode  # type: ignore[import-untyped]
from scrubadub import detectors, filth

_LOADER = LocaleDataLoader()
_ENGLISH: Any = _LOADER.get_locale("en")


class DateOfBirthDetector(detectors.DateOfBirthDetector):  # type: ignore[misc]
    """scrubadub's, with a search of less."""

    def iter_filth(self, text: str, document_name: str | None = None) -> Iterator[Any]:
        """Yield the dates of a text."""
        lines = text.split("\n")
        context = [any(word in line.lower() for word in self.context_words) for line in lines]
        near = [
            line
            for place, line in enumerate(lines)
            if any(context[max(place - self.context_before, 0) : place + self.context_after + 1])
        ]
        latest = datetime.now().year - filth.DateOfBirthFilth.min_age_years
        earliest = datetime.now().year - filth.DateOfBirthFilth.max_age_years
        found = search_dates(text, "\n".join(near), earliest, latest)
        for string in dict.fromkeys(string for string, moment in found if earliest <= moment.year <= latest):
            if not string.startswith("+") and any(string in line for line in near):
                for match in re.finditer(re.escape(string), text):
                    yield DateOfBirthFilth(match=match, detector_name=self.name, document_name=document_name, locale=self.locale)


class DateOfBirthFilth(filth.DateOfBirthFilth):  # type: ignore[misc]
    """scrubadub's, but one that parses equal dates once."""

    def is_valid(self) -> bool:
        """Return whether the string alone is a date in the range."""
        today = datetime.now().date()
        moment = whole_date(self.text)
        return self.min_age_years <= today.year - moment.year <= self.max_age_years if moment else _is_valid(self.text, today)


@functools.lru_cache(maxsize=10_000)
def _is_valid(text: str, today: date) -> bool:
    return bool(filth.DateOfBirthFilth(beg=0, end=len(text), text=text).is_valid())


def search_dates(text: str, near: str, earliest: int, latest: int) -> list[tuple[str, datetime]]:
    """Return what `dateparser.search.search_dates` returns, less what cannot be a date of birth.

    Args:
        text: where to search.
        near: the lines that a date of birth must be in.
        earliest: the first year of birth that counts.
        latest: the last one.
    """
    near = normalize_unicode(near)

    def may_hold_year(part: str) -> bool:
        return any(run in near for run in year_digits(part if part.isascii() else normalize_unicode(part), earliest, latest))

    return [(string, moment) for string, moment, _ in _Search(may_hold_year).search_parse("en", text, settings=settings)]


def year_digits(text: str, earliest: int, latest: int) -> Iterator[str]:
    """Yield the runs of digits from which dateparser could read a year in the range.

    Args:
        text: ASCII where it can be.
        earliest: the first year in the range.
        latest: the last one.
    """
    for part in _PART_WITH_DIGIT.findall(text):
        if _NO_DATE(part) or any(word not in _WORDS for word in _LONG_WORD.findall(part.lower())):
            continue
        whole_date = _ISO_DATE(part)
        for run in [whole_date[1]] if whole_date else _YEAR.findall(part):
            if len(run) == 2:
                counts = earliest <= int(run) + (1900 if int(run) >= 69 else 2000) <= latest  # as time.strptime reads %y
            else:
                counts = earliest <= int(run) <= latest if len(run) == 4 else int(run[:10]) <= _LATEST_STAMP
            if counts:
                yield run


_NUMERIC_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})[,)]?|([0-9]{2})/([0-9]{2})/([0-9]{4})[,)]?").fullmatch


def whole_date(text: str) -> datetime | None:
    """Read 1975-03-21 and 03/21/1975, as dateparser does in English; None for all other texts, which it alone can read."""
    numbers = _NUMERIC_DATE(text)
    if numbers is None:
        return None
    year, month, day = (numbers[1], numbers[2], numbers[3]) if numbers[1] else (numbers[6], numbers[4], numbers[5])
    return datetime(int(year), int(month), int(day)) if year > "0999" and "01" <= month <= "12" and "01" <= day <= "28" else None


# dateparser breaks what it cannot read at these characters. What is between two of them is read whole or not at all.
_PART_WITH_DIGIT = re.compile(r"(?<![^\s,.،—–])[^\s,.،—–\d]*\d[^\s,.،—–]*")
_NO_DATE = re.compile(r"(?<!\d)(?:\d{3}|\d{5,9}|\d{11,12})(?!\d)").search
_ISO_DATE = re.compile(r"\W*(\d{4})-\d\d-\d\d(?:[Tt]\d\d:\d\d(?::\d\d)?[Zz]?)?\W*").fullmatch
_YEAR = re.compile(r"(?<!\d)(?:(?<!\d:)\d\d(?!:?\d)|\d{4}(?!\d)|\d{10,})")  # two digits beside a colon are minutes
_LATEST_STAMP = 2_000_000_000  # seconds since 1970; in 2033

# All long words that dateparser knows in English. Another one in a part means that it reads nothing there (a short one may be a
# time zone).
_LONG_WORD = re.compile(r"[a-z]{6,}")
_WORDS = frozenset(
    word
    for known in [
        *_ENGLISH._get_dictionary(settings),
        *(pattern for rule in _ENGLISH.info["simplifications"] for pattern in rule),
    ]
    for word in _LONG_WORD.findall(known)
)

# A count back from now. 18 years need two digits, a number word from ten on, a decade or a century. dateparser makes digits of
# the words and drops others ("of the") between number and unit, and only then are they side by side.
_COUNT = re.compile(
    r"(?:\d\d|\bten\b|eleven|twelve|teen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety).*?(?:\b|\d)[cdfhmswy]|decade|centur",
    re.IGNORECASE | re.DOTALL,
)
_UNITS = {"centur(?:y|ies)": 100, "decades?": 10, "y|yrs?|years?": 1, "m|mo|mons?|months?": 1 / 12, "fortnights?": 1 / 26}
_UNITS |= {
    "w|wks?|weeks?": 1 / 52,
    "d|days?": 1 / 365,
    "h|hrs?|hours?": 1 / 8766,
    "mins?|minutes?": 1e-5,
    "s|secs?|seconds?": 1e-6,
}
_AMOUNT = re.compile(rf"(\d+[.,]?\d*)\s*(?:{'|'.join(f'({unit})' for unit in _UNITS)})(?![a-z])")


def years_back(chunk: str) -> float:
    """Return an upper bound of the years that a translated chunk counts back from now."""
    years = list(_UNITS.values())
    return sum(int(re.sub(r"\D", "", match[1])) * years[(match.lastindex or 0) - 2] for match in _AMOUNT.finditer(chunk))


_SKIPPED = "|".join(word for word in _ENGLISH.info["skip"] if word.isalnum())
_ends_in_skipped_word = re.compile(rf"\b(?:{_SKIPPED})\W*$", re.IGNORECASE).search


class _Search(_ExactLanguageSearch):  # type: ignore[misc]
    """dateparser's search, of the sentences and chunks that may hold a year that counts."""

    def __init__(self, may_hold_year: Callable[[str], bool]) -> None:
        super().__init__(_LOADER)
        self.may_hold_year = may_hold_year

    def search(self, shortname: str, text: str, settings: Any) -> tuple[list[str], list[str]]:
        """Return the chunks to parse, (translated, original)."""
        sentences = [
            sentence
            for sentence in _ENGLISH._sentence_split(text, settings=settings)
            if self.may_hold_year(sentence) or _COUNT.search(sentence)
        ]
        part = copy.copy(_ENGLISH)
        part._sentence_split = lambda string, settings: iter(sentences)
        translated, original = part.translate_search(text, settings=settings)
        if any(years_back(chunk) > 16 for chunk in translated):  # from the date before it, wherever that is: parse everything
            everything: tuple[list[str], list[str]] = super().search(shortname, text, settings)
            return everything
        kept: list[int] = []
        for place, chunk in enumerate(original):
            after_word = bool(kept) and kept[-1] == place - 1 and _ends_in_skipped_word(original[place - 1])
            if after_word or self.may_hold_year(chunk):  # "1980 and" loses its last word if the next chunk is a date
                kept.append(place)
        return [translated[place] for place in kept], [original[place] for place in kept]

    def parse_item(self, parser: Any, item: str, translated_item: str, base: datetime | None, need_base: bool) -> Any:
        """Parse from `base` at once, where dateparser first parses from now and throws that away; whole dates without it."""
        moment = whole_date(item)
        if moment:
            return DateData(date_obj=moment, period="day", locale="en", parts=("year", "month", "day")), False
        if not (need_base and base) or _has_weekday_modifier(item):
            return super().parse_item(parser, item, translated_item, base, need_base)
        before = parser._settings
        parser._settings = before.replace(RELATIVE_BASE=base)
        try:
            return super().parse_item(parser, item, translated_item, None, need_base)
        finally:
            parser._settings = before
