"""The token store and the tokenizer that fills it."""

from phf.tokens.encoded import Encoded, EncodedRows, RowEncoder, Rows
from phf.tokens.exact import exact_tokenizer
from phf.tokens.round_trip import RoundTrip
from phf.tokens.store import DOCUMENT, HELD_OUT, SEGMENT, TokenStore, View, write_shard
from phf.tokens.stream import DocumentTokens, documents_of
from phf.tokens.tokenizer import (
    DOCUMENT_START,
    document_start,
    encode,
    load_tokenizer,
    matching_tokenizer,
    train_tokenizer,
    vocabulary_size,
)

__all__ = [
    "DOCUMENT",
    "DOCUMENT_START",
    "HELD_OUT",
    "SEGMENT",
    "DocumentTokens",
    "Encoded",
    "EncodedRows",
    "RoundTrip",
    "RowEncoder",
    "Rows",
    "TokenStore",
    "View",
    "document_start",
    "documents_of",
    "encode",
    "exact_tokenizer",
    "load_tokenizer",
    "matching_tokenizer",
    "train_tokenizer",
    "vocabulary_size",
    "write_shard",
]
