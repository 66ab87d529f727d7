"""Prefilters of the detectors of personal data: a cheap test of what a detector cannot match without.

A gate may let a text through for nothing; it never stops one that its detector would match. Most are literals, because
searching a literal costs under a nanosecond a character where the detectors cost ten to ten thousand.
"""

import re
from collections.abc import Callable

Gate = Callable[[str, str, int], bool]
"""Whether a detector could match, from the text, the folded text, and its digits: 0 none, 1 some, 2 seven close to each other."""


def fold(text: str) -> str:
    """Lower the case so that whatever `re.IGNORECASE` takes for an ASCII letter is that letter, each character in its place."""
    return text.lower() if text.isascii() else text.replace("İ", "i").lower().replace("ı", "i").replace("ſ", "s")


def digits(folded: str) -> int:
    """Return 0 for a text without digits, 1 with some, 2 with seven close together, as whatever is found by its digits has."""
    if not folded.isascii():
        return 2 if _NUMBER(folded) else 1
    for digit in "1203456789":
        if digit in folded:
            return 2 if _NO_WORDS(folded) and _NUMBER(folded) else 1
    return 0


# phonenumbers reads up to four punctuation marks between digits, and an x as a digit or as a mark.
_MARKS = r"[\W\u30fc]"
_DIGITS = rf"(?:{_MARKS}{{0,4}}[\dx])"
_NUMBER = re.compile(rf"\d{_DIGITS}{{6}}").search
_NO_WORDS = re.compile(r"[0-9][^a-wyz]{6}").search

# The first thirteen digits of any card number: the shortest is a Visa of thirteen.
_CARD = re.compile(r"[1-6]\d{12}").search

# An email address needs, around "@" or " at ", a character of a local part and a domain with a dot; all on the folded text.
_LOCAL = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]"
_DOMAIN = r"[a-z0-9][a-z0-9-]*(?:\.|\sdot\s)"
LOCAL_LENGTH = 64
_AT_SIGN = re.compile(rf"@(?<={_LOCAL}@)(?={_DOMAIN})")
_AT_WORD = re.compile(rf"at(?<={_LOCAL}\sat)(?=\s{_DOMAIN})")

# A valid phone number has ten digits, or with an international prefix (011 or +) six of its own, or is a Canadian 310-1234.
# The letters of the label of an extension may count as digits, too.
_PHONE = re.compile(rf"\d(?:{_DIGITS}{{8}}|(?<![0124-9]){_DIGITS}{{6}})").search
_PHONE_PLUS = re.compile(rf"[+\uff0b]{_MARKS}{{0,9}}[\dx]{_DIGITS}{{5}}").search
_TO_EXTENSION = r"[:.\uff0e]?[ \u00a0\t,-]*\d"
_EXTENSIONS = [
    re.compile(label + _TO_EXTENSION).search for label in (r"xt(?:ensi\w{0,2})?n?", r"int(?<=[\d \u00a0\t,x]int)", r"anexo")
]

# The region of a US address as pyap reads it: two capitals, anywhere, or a name in any case.
_STATE_CODE = (
    "A[LKZRS]|C[AOT]|D[EC]|FL|G[AU]|HI|I[DLNA]|K[SY]|LA|M[EDAINSOTP]|N[EVHJMYCD]|O[HKR]|P[AR]|RI|S[CD]|T[NX]|UT|V[TAI]|W[AVIY]"
)
_STATE_NAMES = [
    "alabama", "alaska", "arizona", "arkansas", "california", "colorado", "connecticut", "delaware", "columbia",
    "florida", "georgia", "hawaii", "idaho", "illinois", "indiana", "iowa", "kansas", "kentucky", "louisiana", "maine",
    "maryland", "massachusetts", "michigan", "minnesota", "mississippi", "missouri", "montana", "nebraska", "nevada",
    "hampshire", "jersey", "mexico", "york", "carolina", "dakota", "ohio", "oklahoma", "oregon", "pennsylvania",
    "rhode", "tennessee", "texas", "utah", "vermont", "virgin", "washington", "wisconsin", "wyoming", "samoa", "guam",
    "mariana", "puerto",
]  # fmt: skip
_state_codes = re.compile(_STATE_CODE)


def states(text: str, folded: str) -> list[int]:
    """List where a word of the name, or the code, of a state or territory of the United States stands, in order."""
    found = [match.start() for match in _state_codes.finditer(text)]
    for name in _STATE_NAMES:
        place = folded.find(name)
        while place >= 0:
            found.append(place)
            place = folded.find(name, place + 1)
    return sorted(found)


def _credential(text: str, folded: str, digits: int) -> bool:
    return ("username" in folded or "login" in folded or "u:" in folded) and (
        "password" in folded or "pw" in folded or "p:" in folded
    )


def _credit_card(text: str, folded: str, digits: int) -> bool:
    return digits == 2 and _CARD(text) is not None


def _email(text: str, folded: str, digits: int) -> bool:
    return ("@" in folded and _AT_SIGN.search(folded) is not None) or _AT_WORD.search(folded) is not None


def _phone(text: str, folded: str, digits: int) -> bool:
    return (
        (digits == 2 and _PHONE(folded) is not None)
        or (digits > 0 and ("+" in text or "\uff0b" in text) and _PHONE_PLUS(folded) is not None)
        or (digits > 0 and any(extension(folded) for extension in _EXTENSIONS))
    )


def _twitter(text: str, folded: str, digits: int) -> bool:
    return "@" in text


def _url(text: str, folded: str, digits: int) -> bool:
    return "://" in text or "www." in text


def _social_security_number(text: str, folded: str, digits: int) -> bool:
    return digits == 2


def _date_of_birth(text: str, folded: str, digits: int) -> bool:
    return "birth" in folded or "born" in folded or "dob" in folded or "d.o.b." in folded


def _skype(text: str, folded: str, digits: int) -> bool:
    return "skype" in folded


def _address(text: str, folded: str, digits: int) -> bool:
    return _state_codes.search(text) is not None or any(name in folded for name in _STATE_NAMES)


def email_signs(text: str) -> list[int]:
    """List where an "@", or the white space before an "at", may end the local part of an email address."""
    folded = fold(text)
    return sorted(
        [match.start() for match in _AT_SIGN.finditer(folded)] + [match.start() - 1 for match in _AT_WORD.finditer(folded)]
    )


GATES: dict[str, Gate] = {
    "credential": _credential,
    "credit_card": _credit_card,
    "email": _email,
    "phone": _phone,
    "twitter": _twitter,
    "url": _url,
    "social_security_number": _social_security_number,
    "date_of_birth": _date_of_birth,
    "skype": _skype,
    "address": _address,
}
"""By scrubadub's names, locale en_US. A detector without a gate is always run."""
