"""What each detector of personal data cannot match without: one cheap, sufficient reason not to ask it.

A gate may let a text through for nothing; it never holds one back that its detector would match. Most are literals, because
searching a literal costs under a nanosecond a character where the detectors cost ten to ten thousand.
"""

import re
from collections.abc import Callable

Gate = Callable[[str, str, bool], bool]
"""Whether a detector could match, from the text, the folded text, and whether there are seven digits close to each other."""


def fold(text: str) -> str:
    """Lower the case so that whatever `re.IGNORECASE` takes for an ASCII letter is that letter, each character in its place."""
    return text.lower() if text.isascii() else text.replace("İ", "i").lower().replace("ı", "i").replace("ſ", "s")


def has_number(folded: str) -> bool:
    """Tell whether seven digits are close to each other, as in all that is found by its digits alone."""
    if not folded.isascii():
        return _NUMBER(folded) is not None
    for digit in "1203456789":
        if digit in folded:
            return _ASCII_NUMBER(folded) is not None
    return False


# phonenumbers reads up to four punctuation marks between digits, and an x as a digit or as a mark.
_MARKS = r"[\W\u30fc]"
_DIGITS = rf"(?:{_MARKS}{{0,4}}[\dx])"
_NUMBER = re.compile(rf"\d{_DIGITS}{{6}}").search
_ASCII_NUMBER = re.compile(rf"[0-9]{_DIGITS}{{6}}").search

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
_STATE_NAMES = (
    "alabama|alaska|arizona|arkansas|california|colorado|connecticut|delaware|columbia|florida|georgia|hawaii|idaho|illinois|indiana|"
    "iowa|kansas|kentucky|louisiana|maine|maryland|massachusetts|michigan|minnesota|mississippi|missouri|montana|nebraska|nevada|"
    "hampshire|jersey|mexico|york|carolina|dakota|ohio|oklahoma|oregon|pennsylvania|rhode|tennessee|texas|utah|vermont|virgin|"
    "washington|wisconsin|wyoming|samoa|guam|mariana|puerto"
)
_has_state_code = re.compile(_STATE_CODE).search
US_STATE = re.compile(f"{_STATE_CODE}|(?i:{_STATE_NAMES})")
"""A word of the name, or the code, of each state and territory."""


def _credential(text: str, folded: str, number: bool) -> bool:
    return ("username" in folded or "login" in folded or "u:" in folded) and (
        "password" in folded or "pw" in folded or "p:" in folded
    )


def _credit_card(text: str, folded: str, number: bool) -> bool:
    return number and _CARD(text) is not None


def _email(text: str, folded: str, number: bool) -> bool:
    return ("@" in folded and _AT_SIGN.search(folded) is not None) or _AT_WORD.search(folded) is not None


def _phone(text: str, folded: str, number: bool) -> bool:
    return (
        (number and _PHONE(folded) is not None)
        or (("+" in text or "\uff0b" in text) and _PHONE_PLUS(folded) is not None)
        or any(extension(folded) for extension in _EXTENSIONS)
    )


def _twitter(text: str, folded: str, number: bool) -> bool:
    return "@" in text


def _url(text: str, folded: str, number: bool) -> bool:
    return "http" in text or "www." in text


def _social_security_number(text: str, folded: str, number: bool) -> bool:
    return number


def _date_of_birth(text: str, folded: str, number: bool) -> bool:
    return "birth" in folded or "born" in folded or "dob" in folded or "d.o.b." in folded


def _skype(text: str, folded: str, number: bool) -> bool:
    return "skype" in folded


def _address(text: str, folded: str, number: bool) -> bool:
    return _has_state_code(text) is not None or any(name in folded for name in _STATE_NAMES.split("|"))


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
"""By scrubadub's names, locale en_US. A detector without a gate is always asked."""
