"""The token store and the tokenizer that fills it."""

from phf.tokens.store import DOCUMENT, HELD_OUT, SEGMENT, TokenStore, View, write_shard
from phf.tokens.stream import DocumentTokens, documents_of
from phf.tokens.tokenizer import (
    DOCUMENT_START,
    document_start,
    encode,
    load_tokenizer,
    matching_tokenizer,
    train_tokenizer,
)

__all__ = [
    "DOCUMENT",
    "DOCUMENT_START",
    "HELD_OUT",
    "SEGMENT",
    "DocumentTokens",
    "TokenStore",
    "View",
    "document_start",
    "documents_of",
    "encode",
    "load_tokenizer",
    "matching_tokenizer",
    "train_tokenizer",
    "write_shard",
]
