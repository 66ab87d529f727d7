"""One epoch of a token store as an objective sees it, in blocks that are gathered when they are asked for."""

# B blocks, T tokens predicted in a block, P pieces (what a block has of one document), S segments of all pieces.

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from phf.tokens.array_file import read_ranges
from phf.tokens.epoch_index import COARSE, EpochIndex
from phf.tokens.shard import SEGMENT, not_written

if TYPE_CHECKING:
    from phf.tokens.store import TokenStore


class View:
    """One epoch of a token store under one objective, as blocks of T + 1 tokens that overlap by one.

    The stream is, document after document, the document start, then each segment's tokens behind its control token. A control
    token carries its segment's reward; the document start belongs to no segment and carries NaN. Blocks cut the stream at every
    T tokens.

    Args:
        store: what is viewed.
        index: where its documents are in the stream.
        context: T.
        control_ids: token ids of the control tokens.
    """

    def __init__(self, store: TokenStore, index: EpochIndex, context: int, control_ids: Sequence[int]) -> None:
        self.store, self.context, self._index = store, context, index
        self._control_ids = np.array(control_ids, np.int64)
        self._segment_stops = np.array([shard.segment_stop for shard in store.shards], np.int64)
        self._segment_counts = np.array([len(shard.segments) for shard in store.shards], np.int64)
        self._token_counts = np.array([len(shard.tokens) for shard in store.shards], np.int64)
        self.tokens = int(index.begins[-1])
        """Tokens in the stream, control tokens and document starts counted."""
        self.blocks = max(0, self.tokens - 1) // context
        """Whole blocks in the epoch; what is left over is too short for one."""

    def __len__(self) -> int:
        return self.blocks

    def read(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Gather blocks in the order of the stream.

        Returns:
            Tokens (B, T + 1) int64 and rewards (B, T + 1) float32 of blocks start to stop.
        """
        assert 0 <= start < stop <= self.blocks, (start, stop, self.blocks)
        return self.gather(np.arange(start, stop))

    def gather(self, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gather any blocks.

        Args:
            blocks: (B,) their numbers.

        Returns:
            Tokens (B, T + 1) int64 and rewards (B, T + 1) float32.
        """
        pieces = self._pieces(blocks)
        segments = self._segments(pieces)
        shape = (len(blocks), self.context + 1)
        self._check_sizes(segments.spans, shape[0] * shape[1])
        tokens, rewards = self._tokens(pieces, segments), np.repeat(segments.rewards, segments.spans)
        opened = pieces.output[pieces.low == 0]
        tokens[opened], rewards[opened] = self.store.meta["document_start"], np.nan
        return tokens.reshape(shape), rewards.reshape(shape)

    def documents(self, blocks: np.ndarray) -> np.ndarray:
        """Return the numbers, in the store, of the documents that have tokens in some blocks, in the order of the stream."""
        numbers: np.ndarray = self._index.documents["number"][np.unique(self._pieces(blocks).kept)]
        return numbers

    def is_same_stream(self, other: View) -> bool:
        """Return whether another view of the store has the same blocks, though its objective may have another loss."""
        return self.context == other.context and self._index.digest == other._index.digest

    def place(self, block: int) -> int:
        """Return the place, in the order of all documents, of the first document that no block before this one has begun."""
        following = int(np.searchsorted(self._index.begins, block * self.context, "left"))
        return self._place(following) if following < len(self._index.documents) else self.store.documents

    def block_at(self, place: int) -> int:
        """Return the first block that begins at or behind the documents from a place on; the number of blocks if none does."""
        count = len(self._index.documents)
        following = bisect.bisect_left(range(count), place, key=self._place)
        return self.blocks if following == count else min(self.blocks, -(-int(self._index.begins[following]) // self.context))

    def _place(self, kept: int) -> int:
        """Return the place of a document that is kept in the order of all documents."""
        number = self._index.documents["number"][kept : kept + 1]
        return int(self._index.order.inverse(number)[0])

    def _pieces(self, blocks: np.ndarray) -> _Pieces:
        """Cut blocks where documents begin."""
        begin = blocks.astype(np.int64) * self.context
        end = begin + self.context + 1
        begins = self._index.begins
        first, last = np.searchsorted(begins, begin, "right") - 1, np.searchsorted(begins, end, "left") - 1
        counts = last - first + 1
        kept = np.arange(counts.sum()) + np.repeat(first - (np.cumsum(counts) - counts), counts)
        document = begins[kept]
        low = np.maximum(np.repeat(begin, counts), document) - document
        high = np.minimum(np.repeat(end, counts), begins[kept + 1]) - document
        return _Pieces(kept, low, high, begins[kept + 1] - document, np.cumsum(high - low) - (high - low))

    def _segments(self, pieces: _Pieces) -> _Segments:
        """Find the segments of pieces."""
        documents, coarse = self._index.documents[pieces.kept], self._index.coarse
        base, segment = documents["place"], documents["segment"]
        stop = segment + documents["count"]
        # Find in the coarse index where each piece begins and ends, and read the segments in between. Places do not count the
        # document start.
        ends = base + np.maximum(0, np.stack([pieces.low, pieces.high - 1]) - 1)
        low_entry, high_entry = np.searchsorted(coarse, ends, "right") - 1
        first, end = np.maximum(segment, low_entry * COARSE), np.minimum(stop, (high_entry + 1) * COARSE)
        opens = first == segment
        first_place = np.where(opens, base, coarse[low_entry])
        end_place = np.where(end == stop, base + pieces.length - 1, coarse[np.minimum(high_entry + 1, len(coarse) - 1)])
        shards = np.searchsorted(self._segment_stops, first, "right")
        records, controls = self._read(shards, first, end)
        # Where each segment begins in its document, the document start and control tokens counted.
        counts = end - first
        offsets = np.cumsum(counts) - counts
        starts = records["start"].astype(np.int64)
        inside = starts + np.repeat(1 + first_place - base - starts[offsets], counts)
        if self._index.controls is not None:
            before: np.ndarray = np.cumsum(controls >= 0) - (controls >= 0)
            inside += before - np.repeat(before[offsets], counts)
        inside[offsets[opens]] = 0
        limits = np.append(inside[1:], 0)
        limits[offsets + counts - 1] = 1 + end_place - base
        low, high = np.maximum(inside, np.repeat(pieces.low, counts)), np.minimum(limits, np.repeat(pieces.high, counts))
        used = np.flatnonzero(high > low)
        inside, controls, low = inside[used], controls[used], low[used]
        piece = np.searchsorted(offsets, used, "right") - 1
        prefix = (controls >= 0) + (inside == 0).astype(np.int64)
        spans = high[used] - low
        return _Segments(shards, piece, starts[used], records["reward"][used], controls, inside, prefix, low, spans)

    def _read(self, shards: np.ndarray, first: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read ranges of segments and their control tokens, one range after another."""
        counts = end - first
        total, places = int(counts.sum()), np.cumsum(counts) - counts
        records, controls = np.empty(total, SEGMENT), np.full(total, -1, np.int8)
        files = [self.store.shards[number].segments for number in shards.tolist()]
        before = self._segment_stops[shards] - self._segment_counts[shards]
        read_ranges(files, first - before, end - before, records, places)
        if self._index.controls is not None:
            read_ranges([self._index.controls] * len(files), first, end, controls, places)
        starts = records["start"]
        wrong = (starts < 0) | (starts >= np.repeat(self._token_counts[shards], counts))
        wrong[1:] |= starts[1:] <= starts[:-1]
        wrong[places] &= (starts[places] < 0) | (starts[places] >= self._token_counts[shards])  # ranges do not follow each other
        if (found := np.flatnonzero(wrong)).size:
            file = files[int(np.searchsorted(places, found[0], "right")) - 1]
            raise not_written(file.path, f"a segment begins at token {starts[found[0]]}")
        return records, controls

    def _tokens(self, pieces: _Pieces, segments: _Segments) -> np.ndarray:
        """Gather the tokens of pieces, but for document starts: (B * (T + 1),) int64."""
        piece, spans = segments.piece, segments.spans
        # From where in the document to a token of the shard: what stands in front of a segment is none.
        shift = segments.starts - segments.inside - segments.prefix
        bounds = np.searchsorted(piece, np.arange(len(pieces.kept) + 1))
        first = np.maximum(segments.starts, segments.low + shift)[bounds[:-1]]
        end = np.maximum(segments.starts, segments.low + spans + shift)[bounds[1:] - 1]
        files = [self.store.shards[number].tokens for number in segments.shards.tolist()]
        total, sizes, opens = int(spans.sum()), end - first, pieces.low == 0
        if self._index.controls is None:
            self._check_sizes(sizes, total - int(opens.sum()))
            whole = np.zeros(total, self.store.meta["dtype"])
            read_ranges(files, first, end, whole, pieces.output + opens)
            self._check_ids(whole)
            return whole.astype(np.int64)
        # What is neither a document start nor a control token comes from the store, in the same order.
        control_at = segments.inside + segments.prefix - 1
        controlled = (segments.controls >= 0) & (control_at >= segments.low) & (control_at < segments.low + spans)
        places = (control_at + (pieces.output - pieces.low)[piece])[controlled]
        own = np.ones(total, bool)
        own[pieces.output[opens]] = own[places] = False
        self._check_sizes(sizes, int(own.sum()))
        raw = np.empty(int(sizes.sum()), self.store.meta["dtype"])
        read_ranges(files, first, end, raw, np.cumsum(sizes) - sizes)
        self._check_ids(raw)
        tokens = np.empty(total, np.int64)
        tokens[own] = raw
        tokens[places] = self._control_ids[segments.controls[controlled]]
        return tokens

    def _check_sizes(self, sizes: np.ndarray, expected: int) -> None:
        """Raise InputError if pieces have another number of tokens than the index says."""
        if int(sizes.sum()) != expected or (sizes < 0).any():
            raise not_written(self.store.path / "segments-*.npy", "segments have changed since they were indexed")

    def _check_ids(self, tokens: np.ndarray) -> None:
        """Raise InputError for tokens that the vocabulary does not have."""
        size = self.store.meta.get("vocab_size")
        if size and tokens.size and (largest := int(tokens.max())) >= size:
            raise not_written(self.store.path / "tokens-*.bin", f"token {largest} in a vocabulary of {size}")


@dataclass(frozen=True, slots=True)
class _Pieces:
    """What blocks have of documents, in the order of the blocks. Places in a document count its start and control tokens.

    Args:
        kept: (P,) the document, counted through those that are kept.
        low, high: (P,) the place in the document where the piece begins, and where it ends.
        length: (P,) of the document.
        output: (P,) where the piece begins in the blocks, end to end.
    """

    kept: np.ndarray
    low: np.ndarray
    high: np.ndarray
    length: np.ndarray
    output: np.ndarray


@dataclass(frozen=True, slots=True)
class _Segments:
    """The segments of pieces, piece after piece.

    Args:
        shards: (P,) the shard of each piece.
        piece: (S,) which piece each segment is of.
        starts: (S,) its first token in the shard.
        rewards: (S,) float32.
        controls: (S,) index of its control token, -1 for none.
        inside: (S,) where in its document it begins, with what stands in front of it.
        prefix: (S,) how many tokens stand in front of it: control token and document start.
        low: (S,) where in the document the piece's share of it begins.
        spans: (S,) how many tokens the piece has of it.
    """

    shards: np.ndarray
    piece: np.ndarray
    starts: np.ndarray
    rewards: np.ndarray
    controls: np.ndarray
    inside: np.ndarray
    prefix: np.ndarray
    low: np.ndarray
    spans: np.ndarray
