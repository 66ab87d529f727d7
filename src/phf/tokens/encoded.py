"""Documents as arrays of tokens: what one process makes of some rows of an annotated corpus, and a shard fills up with."""

# D documents, S segments, N tokens.

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from phf.documents import Document, is_held_out, read_rows
from phf.tokens.round_trip import RoundTrip, RoundTripCheck, compare_with_whole
from phf.tokens.shard import DOCUMENT, SEGMENT
from phf.tokens.tokenizer import encode

_BATCH_SEGMENTS = 8192
_SAMPLED_DOCUMENTS = 20


@dataclass(frozen=True)
class Rows:
    """Some rows of an annotated corpus.

    Args:
        path: of the Parquet part.
        part: its number.
        group: the row group in it.
        first: the number of the group's first row in the part.
        last: whether no rows of the part follow.
    """

    path: Path
    part: int
    group: int
    first: int
    last: bool


@dataclass
class Encoded:
    """Documents in tokens.

    Args:
        tokens: arrays that end to end are (N,).
        segments: arrays of dtype SEGMENT.
        documents: arrays of dtype DOCUMENT.
        size: N.
        count: S.
    """

    tokens: list[np.ndarray] = field(default_factory=list)
    segments: list[np.ndarray] = field(default_factory=list)
    documents: list[np.ndarray] = field(default_factory=list)
    size: int = 0
    count: int = 0

    def add(self, tokens: np.ndarray, segments: np.ndarray, documents: np.ndarray) -> None:
        """Add documents whose segments and tokens are counted from 0."""
        segments, documents = segments.copy(), documents.copy()
        segments["start"] += self.size
        documents["segment"] += self.count
        self.tokens.append(tokens)
        self.segments.append(segments)
        self.documents.append(documents)
        self.size += len(tokens)
        self.count += len(segments)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return tokens, segments and documents, each as one array."""
        return np.concatenate(self.tokens), np.concatenate(self.segments), np.concatenate(self.documents)


@dataclass
class EncodedRows:
    """What some rows come to.

    Args:
        training, held_out: their documents.
        empty: how many documents to train on have no token, and are left out.
        held_out_count: how many documents are held out.
        round_trip: whether tokens decode to the texts.
    """

    training: Encoded = field(default_factory=Encoded)
    held_out: Encoded = field(default_factory=Encoded)
    empty: int = 0
    held_out_count: int = 0
    round_trip: RoundTrip = field(default_factory=RoundTrip)


class RowEncoder:
    """Tokenises rows of an annotated corpus, in any process: the library transformers is not needed.

    Args:
        tokenizer: an exact one of the library tokenizers, as JSON.
        column: of rewards.
        held_out: share of the documents that is held out.
        dtype: of tokens.
    """

    def __init__(self, tokenizer: str, column: str, held_out: float, dtype: np.dtype[Any]) -> None:
        from tokenizers import Tokenizer

        self._tokenizer, self._column, self._held_out, self._dtype = Tokenizer.from_str(tokenizer), column, held_out, dtype
        self._round_trips = RoundTripCheck(self._tokenizer)

    def __call__(self, rows: Rows) -> EncodedRows:
        """Tokenise some rows.

        Raises:
            InputError: for rows that are not documents with rewards.
        """
        result = EncodedRows()
        documents = enumerate(read_rows(rows.path, rows.group, rows.first, self._column), start=rows.first)
        for number, batch in enumerate(_by_segments(documents)):
            split: dict[bool, list[tuple[int, Document]]] = {False: [], True: []}
            for row, document in batch:
                split[is_held_out(document.id, self._held_out)].append((row, document))
            result.held_out_count += len(split[True])
            result.empty += self._encode(rows.part, split[False], result.training, result.round_trip)
            self._encode(rows.part, split[True], result.held_out, result.round_trip)
            if number == 0:
                sample = [document for _, document in batch[:_SAMPLED_DOCUMENTS]]
                result.round_trip.add(compare_with_whole(self._tokenizer, sample))
        return result

    def _encode(self, part: int, batch: Sequence[tuple[int, Document]], into: Encoded, round_trip: RoundTrip) -> int:
        """Tokenise documents into `into`, without segments that have no token, and documents that have none.

        Returns:
            How many documents had no token.
        """
        if not batch:
            return 0
        documents = [document for _, document in batch]
        encoded = encode(self._tokenizer, [segment for document in documents for segment in document.segments])
        round_trip.add(self._round_trips(documents, encoded))
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        tokens = np.fromiter(itertools.chain.from_iterable(encoded), self._dtype, int(lengths.sum()))
        del encoded
        rewards = np.concatenate([np.empty(0, np.float32), *(_rewards(document) for document in documents)])
        filled = lengths > 0
        segments = np.empty(int(filled.sum()), SEGMENT)
        segments["start"], segments["reward"] = (np.cumsum(lengths) - lengths)[filled], rewards[filled]
        sizes = np.fromiter((len(document.segments) for document in documents), np.int64, len(documents))
        before = np.append(0, np.cumsum(filled))  # segments with tokens before each segment
        ends = np.cumsum(sizes)
        counts = before[ends] - before[ends - sizes]
        rows = np.empty(int((counts > 0).sum()), DOCUMENT)
        rows["segment"], rows["part"] = before[ends - sizes][counts > 0], part
        rows["row"] = np.fromiter((row for row, _ in batch), np.int64, len(batch))[counts > 0]
        into.add(tokens, segments, rows)
        return int((counts == 0).sum())


def _rewards(document: Document) -> np.ndarray:
    assert document.rewards is not None
    return document.rewards


def _by_segments(documents: Iterable[tuple[int, Document]]) -> Iterator[list[tuple[int, Document]]]:
    """Group documents so that each batch has some thousand segments."""
    batch, size = [], 0
    for row, document in documents:
        batch.append((row, document))
        size += len(document.segments)
        if size >= _BATCH_SEGMENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
