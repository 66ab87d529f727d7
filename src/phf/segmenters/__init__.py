"""Segmenters: a text to the pieces that get one reward each. Joined, the pieces are the text exactly."""

import io
import re
from dataclasses import dataclass
from typing import Protocol

from phf.errors import InputError
from phf.segmenters.sentences import sentence_starts

_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")


class Segmenter(Protocol):
    """Anything that cuts texts."""

    def segment(self, text: str) -> list[str]:
        """Cut a text into non-empty pieces that join to it; an empty text has none."""


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
        """Give the text itself."""
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
    """Sentences by spaCy's rule-based sentencizer, each with the white space that follows it.

    A sentence ends after '.', '!', '?' and their kin in other scripts when the tokenizer takes the character as a token
    of its own; white space, however long, stays with the sentence before it. No model is downloaded.

    Args:
        language: whose tokenizer rules decide that the stop of "Dr." ends no sentence, as a spaCy code.
    """

    language: str = "en"

    def segment(self, text: str) -> list[str]:
        """Cut before the first visible character of every sentence but the first."""
        return cut(text, sentence_starts(self.language, text))


def cut(text: str, places: list[int]) -> list[str]:
    """Cut a text at increasing character positions; positions at its ends cut nothing."""
    ends = [place for place in places if 0 < place < len(text)]
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True) if start < end]
