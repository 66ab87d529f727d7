"""Whether tokens decode to the texts that they were made of, and whether they are those of the texts tokenised whole."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from phf.documents import Document
from phf.errors import InputError
from phf.tokens.tokenizer import decode

ALLOWED_LOSS = 0.001
"""Share of the characters that may be lost."""
_SHOWN = 30


@dataclass
class RoundTrip:
    """How much of some documents their tokens give back.

    Args:
        documents: that do not come back as they were.
        characters: of all documents.
        lost: characters that do not come back, or come back without having been there.
        example: the first document that does not come back, and where.
        sampled: tokens of the documents that were tokenised whole too.
        differing: how many of them are not among the tokens of the whole document.
    """

    documents: int = 0
    characters: int = 0
    lost: int = 0
    example: str = ""
    sampled: int = 0
    differing: int = 0

    def add(self, other: "RoundTrip") -> None:
        """Add what is known of further documents."""
        self.documents += other.documents
        self.characters += other.characters
        self.lost += other.lost
        self.example = self.example or other.example
        self.sampled += other.sampled
        self.differing += other.differing

    def check(self, tokenizer: str) -> None:
        """Raise InputError if more characters are lost than is allowed."""
        if self.lost > ALLOWED_LOSS * self.characters:
            raise InputError(
                f"tokenizer {tokenizer}: tokens do not decode to the texts they are made of: {self.lost:,} of "
                f"{self.characters:,} characters are lost or added, in {self.documents:,} documents, first in {self.example}. "
                "Choose a tokenizer that has a token for every byte or character, such as tokenize.tokenizer=train"
            )


def check_documents(tokenizer: Any, documents: Sequence[Document], tokens: list[list[int]]) -> RoundTrip:
    """Decode documents and compare them with their texts.

    Args:
        tokenizer: that made the tokens.
        documents: to be compared with.
        tokens: of each of them, its segments' end to end.
    """
    found = RoundTrip()
    for document, decoded in zip(documents, decode(tokenizer, tokens), strict=True):
        text = document.text
        found.characters += len(text)
        if decoded == text:
            continue
        before, after = Counter(text), Counter(decoded)
        found.lost += max((before - after).total(), (after - before).total(), 1)
        found.documents += 1
        if not found.example:
            at = next((i for i, (a, b) in enumerate(zip(text, decoded, strict=False)) if a != b), min(len(text), len(decoded)))
            found.example = (
                f"{document.id!r}: from character {at} on it is {text[at : at + _SHOWN]!r}, and its tokens give "
                f"{decoded[at : at + _SHOWN]!r}"
            )
    return found


def compare_with_whole(tokenizer: Any, documents: Sequence[Document]) -> RoundTrip:
    """Count the tokens of segments that a document tokenised whole does not have at the same place."""
    found = RoundTrip()
    backend = tokenizer.backend_tokenizer
    for document in documents:
        whole = backend.encode(document.text, add_special_tokens=False)
        expected = Counter(zip(whole.ids, whole.offsets, strict=True))
        own: Counter[tuple[int, tuple[int, int]]] = Counter()
        at = 0
        segments = backend.encode_batch(list(document.segments), add_special_tokens=False)
        for segment, encoding in zip(document.segments, segments, strict=True):
            own.update((token, (a + at, b + at)) for token, (a, b) in zip(encoding.ids, encoding.offsets, strict=True))
            at += len(segment)
        found.sampled += own.total()
        found.differing += (own - expected).total()
    return found
