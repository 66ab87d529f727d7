"""Whether tokens decode to the texts that they were made of, and whether they are those of the texts tokenised whole."""

import itertools
import json
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


class RoundTripCheck:
    """Decodes documents and compares them with their texts.

    Args:
        tokenizer: one of the library tokenizers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self._bytes = tokenizer, token_bytes(tokenizer)

    def __call__(self, documents: Sequence[Document], segments: Sequence[list[int]]) -> RoundTrip:
        """Check documents.

        Args:
            documents: to be compared with.
            segments: the tokens of all their segments.
        """
        found, following = RoundTrip(), iter(segments)
        other: list[tuple[Document, list[int]]] = []
        for document in documents:
            tokens = list(itertools.chain.from_iterable(itertools.islice(following, len(document.segments))))
            text = document.text
            found.characters += len(text)
            if not self._spells(tokens, text):
                other.append((document, tokens))
        for (document, _), decoded in zip(other, decode(self._tokenizer, [tokens for _, tokens in other]), strict=True):
            if decoded != document.text:
                found.add(_difference(document, document.text, decoded))
        return found

    def _spells(self, tokens: list[int], text: str) -> bool:
        """Return whether the bytes of tokens are those of a text: then they need not be decoded, which is slow."""
        return self._bytes is not None and b"".join(map(self._bytes.__getitem__, tokens)) == text.encode()


def token_bytes(tokenizer: Any) -> list[bytes] | None:
    """Return the bytes of each token of a byte-level tokenizer, by id; None for a tokenizer with another decoder."""
    decoder = json.loads(tokenizer.to_str())["decoder"]
    if decoder is None or decoder["type"] != "ByteLevel":
        return None
    # The byte-level alphabet has a character for each byte: its own if it is printable, else one from 256 on.
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable} | {chr(256 + number): byte for number, byte in enumerate(others)}
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    spelled = [b""] * (max(vocabulary.values(), default=-1) + 1)
    for token, number in vocabulary.items():
        known = alphabet.keys() >= set(token)
        spelled[number] = bytes(alphabet[character] for character in token) if known else token.encode()
    return spelled


def _difference(document: Document, text: str, decoded: str) -> RoundTrip:
    """Count what a document's tokens lose or add."""
    before, after = Counter(text), Counter(decoded)
    lost = max((before - after).total(), (after - before).total(), 1)
    at = next((i for i, (a, b) in enumerate(zip(text, decoded, strict=False)) if a != b), min(len(text), len(decoded)))
    example = (
        f"{document.id!r}: from character {at} on it is {text[at : at + _SHOWN]!r}, and its tokens give "
        f"{decoded[at : at + _SHOWN]!r}"
    )
    return RoundTrip(documents=1, lost=lost, example=example)


def compare_with_whole(tokenizer: Any, documents: Sequence[Document]) -> RoundTrip:
    """Count the tokens of segments that a document tokenised whole does not have at the same place."""
    found = RoundTrip()
    for document in documents:
        whole = tokenizer.encode(document.text, add_special_tokens=False)
        expected = Counter(zip(whole.ids, whole.offsets, strict=True))
        own: Counter[tuple[int, tuple[int, int]]] = Counter()
        at = 0
        segments = tokenizer.encode_batch(list(document.segments), add_special_tokens=False)
        for segment, encoding in zip(document.segments, segments, strict=True):
            own.update((token, (a + at, b + at)) for token, (a, b) in zip(encoding.ids, encoding.offsets, strict=True))
            at += len(segment)
        found.sampled += own.total()
        found.differing += (own - expected).total()
    return found
