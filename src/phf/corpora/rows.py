"""A row of a corpus, and how it is read from the columns of a file."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from phf import config
from phf.documents import content_id
from phf.errors import InputError

PUBLISHED_TEXTS = "texts"
"""The column of data published in segments."""
PUBLISHED_SCORES = "scores"
"""The column of its misalignment scores, one for each segment; lower is better."""


@dataclass(frozen=True, slots=True)
class Row:
    """A document as it was found, usable or not.

    Args:
        id: of the document; its position in the input if it could not be read that far.
        text: None if it cannot be used.
        fault: why it cannot be used; "" if it can.
        lengths: (S,) characters of each segment, for data published in segments; they join to the text.
        rewards: (S,) rewards that were published with the segments, NaN where there is none; higher is better.
    """

    id: str
    text: str | None
    fault: str = ""
    lengths: list[int] | None = None
    rewards: list[float] | None = None

    def writable(self) -> "Row":
        """Return a row that UTF-8 can hold: this one, or, if the text or id has a lone surrogate, one that is unusable."""
        try:
            if self.text is not None:
                self.text.encode()
            self.id.encode()
            self.fault.encode()
        except UnicodeEncodeError as error:
            code = f"U+{ord(error.object[error.start]):04X} at character {error.start}"
            fault = self.fault or f"the text or id has a lone surrogate: {error.reason} ({code}), which UTF-8 cannot hold"
            return Row(self.id.encode("utf-8", "replace").decode(), None, fault.encode("utf-8", "replace").decode())
        return self


def read_row(where: str, fields: Mapping[str, Any], corpus: config.Corpus) -> Row:
    """Take id, text, segments and rewards out of the columns of a row; what cannot be used becomes the row's fault."""
    column = corpus.text_column if corpus.text_column in fields else PUBLISHED_TEXTS
    value = fields.get(column)
    pieces = None
    if isinstance(value, list) and all(isinstance(piece, str) for piece in value):
        pieces, value = value, "".join(value)
    elif isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            return Row(where, None, f"{column!r} is not UTF-8: byte 0x{error.object[error.start]:02x} at {error.start}")
    name_value = fields.get(corpus.id_column) if corpus.id_column else None
    name = str(name_value) if isinstance(name_value, (str, int)) else None
    if name_value is not None and name is None:
        return Row(where, None, f"{corpus.id_column!r} is {_kind(name_value)}, expected a string or an integer")
    if not isinstance(value, str):
        what = "missing" if column not in fields else _kind(value)
        fault = f"{corpus.text_column!r} is {what}, expected a string"
        return Row(where, None, fault) if name is None else Row(name, None, f"{fault} ({where})")
    name = content_id(value) if name is None else name
    if pieces is None:
        return Row(name, value)
    lengths = [len(piece) for piece in pieces]
    scores = fields.get(PUBLISHED_SCORES)
    return Row(name, value, lengths=lengths, rewards=_rewards(scores) if isinstance(scores, list) else None)


def text_column(names: Iterable[str], corpus: config.Corpus, where: str) -> str:
    """Return which of the columns holds the text.

    Raises:
        InputError: if none of them does.
    """
    names = list(names)
    for column in (corpus.text_column, PUBLISHED_TEXTS):
        if column in names:
            return column
    raise InputError(
        f"{where}: no column {corpus.text_column!r} (found: {', '.join(sorted(names)) or 'none'}); "
        "say which one holds the text with corpus.text_column"
    )


def _rewards(scores: list[Any]) -> list[float]:
    return [-score if isinstance(score, (int, float)) and math.isfinite(score) else math.nan for score in scores]


def _kind(value: Any) -> str:
    return "null" if value is None else f"of type {type(value).__name__}"
