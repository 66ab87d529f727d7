"""Segmenters: a text to the pieces that get one reward each. Joined, the pieces are the text exactly."""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from phf.errors import InputError
from phf.segmenters.sentences import sentence_starts

_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")


class Segmenter(Protocol):
    """Anything that cuts texts."""

    def segment(self, text: str) -> list[str]:
        """Cut a text into non-empty pieces that join to it; an empty text has none."""


def recorded_fields(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a segmenter that an output records.

    Sentences recorded without `space` were cut when white space always belonged to the sentence before it.
    """
    return {"space": "after", **fields} if name == "sentences" else dict(fields)


def explicit_fields(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a segmenter as an output records them, so that `recorded_fields` returns the same."""
    return {"space": Sentences().space, **fields} if name == "sentences" else dict(fields)


def segment(segmenter: Segmenter, document_id: str, text: str) -> list[str]:
    """Cut a document's text, and check that nothing of it was lost or changed.

    Raises:
        InputError: if the pieces do not join to the text, naming the document and the first difference.
    """
    segments = segmenter.segment(text)
    joined = "".join(segments)
    if joined != text:
        at = next((i for i, (a, b) in enumerate(zip(joined, text, strict=False)) if a != b), min(len(joined), len(text)))
        raise InputError(
            f"document {document_id!r}: the segments of {type(segmenter).__name__} do not join to its text: from character "
            f"{at} on they give {joined[at : at + 20]!r}, the text has {text[at : at + 20]!r}; correct the segmenter"
        )
    return segments


@dataclass(frozen=True)
class Whole:
    """The document in one piece."""

    def segment(self, text: str) -> list[str]:
        """Return the text itself."""
        return [text] if text else []


@dataclass(frozen=True)
class Lines:
    r"""Lines, each with its end: `\n`, `\r\n` or `\r`, the ends that Python's own readers know."""

    def segment(self, text: str) -> list[str]:
        """Cut after every end of line."""
        return list(io.StringIO(text, newline=""))


@dataclass(frozen=True)
class Paragraphs:
    """Paragraphs, each with the blank lines that follow it."""

    def segment(self, text: str) -> list[str]:
        """Cut after every run of blank lines."""
        return cut(text, [match.end() for match in _BLANK_LINES.finditer(text)])


@dataclass(frozen=True)
class Sentences:
    """Sentences by spaCy's rule-based sentencizer, each with the white space in front of it, or with that behind it.

    A sentence ends after '.', '!', '?' and their kin in other scripts when the tokenizer takes the character as a token
    of its own. White space at the ends of a text stays with the first and the last sentence. No model is downloaded.

    Args:
        language: whose tokenizer rules decide that the stop of "Dr." ends no sentence, as a spaCy code.
        space: "before": white space between two sentences belongs to the second, so that a tokenizer for which a word
            begins with its blank reads sentences as it reads whole documents. "after": to the first, however much it is; as
            in the released code of the paper.
    """

    language: str = "en"
    space: Literal["before", "after"] = "before"

    def segment(self, text: str) -> list[str]:
        """Cut between sentences."""
        starts = sentence_starts(self.language, text)
        return cut(text, starts if self.space == "after" else [_end_of_visible(text, start) for start in starts])


def _end_of_visible(text: str, position: int) -> int:
    """Return where the white space begins that ends at a position."""
    while position and text[position - 1].isspace():
        position -= 1
    return position


def cut(text: str, positions: list[int]) -> list[str]:
    """Cut a text at increasing character positions; positions at its ends cut nothing."""
    ends = [position for position in positions if 0 < position < len(text)]
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True) if start < end]
