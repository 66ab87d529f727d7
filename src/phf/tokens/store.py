"""The token store: a corpus tokenised once, and the view of it that an objective trains on.

A store holds the tokens of every segment, where segments and documents begin, and each segment's reward. What an objective does
to the data (which documents it keeps, which control token stands in front of a segment) is a numpy view of these arrays: no text
is tokenised again, and blocks are gathered when they are asked for.
"""

# S segments, D documents, B blocks, T tokens predicted in a block.

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phf.artifacts import read_json, whole_file
from phf.documents import parts, read_annotated
from phf.errors import InputError
from phf.objectives import Objective

SEGMENT = np.dtype([("start", "<i8"), ("reward", "<f4")])
"""A segment in `segments-*.npy`: its first token in the shard, and its reward."""
DOCUMENT = np.dtype([("segment", "<i8"), ("part", "<i4"), ("row", "<i4")])
"""A document in `documents-*.npy`: its first segment in the shard, and the part and row of the annotated corpus it is from."""
HELD_OUT = "held-out"
"""The folder, in a store's, with the shards of the documents set apart."""


def write_shard(folder: Path, number: int, tokens: np.ndarray, segments: np.ndarray, documents: np.ndarray) -> None:
    """Write one shard: `tokens-N.bin`, `segments-N.npy` (dtype SEGMENT), and `documents-N.npy` (dtype DOCUMENT)."""
    assert segments.dtype == SEGMENT, segments.dtype
    assert documents.dtype == DOCUMENT, documents.dtype
    with whole_file(folder / f"tokens-{number:05d}.bin") as path:
        tokens.tofile(path)
    for name, array in (("segments", segments), ("documents", documents)):
        with whole_file(folder / f"{name}-{number:05d}.npy") as path, path.open("wb") as file:
            np.save(file, array)


@dataclass(frozen=True)
class TokenStore:
    """A tokenised corpus on disk.

    Args:
        path: the folder.
        meta: its meta.json.
        tokens: of each shard, memory-mapped.
        starts: (S + 1,) where each segment's tokens begin, shards end to end; the last entry is the count of tokens.
        rewards: (S,) float32.
        first: (D + 1,) each document's first segment; the last entry is S.
    """

    path: Path
    meta: dict[str, Any]
    tokens: Sequence[np.ndarray]
    starts: np.ndarray
    rewards: np.ndarray
    first: np.ndarray

    @classmethod
    def open(cls, path: Path, held_out: bool = False) -> "TokenStore":
        """Open a finished store.

        Args:
            path: its folder.
            held_out: open the documents set apart in it, which no run is trained on, instead of the others.

        Raises:
            InputError: if it is missing, unfinished, without what is asked for, or its files do not fit together.
        """
        if not path.is_dir():
            raise InputError(f"{path}: no such folder; `phf tokenize` writes a token store")
        meta = read_json(path / "meta.json")
        if not meta.get("finished"):
            raise InputError(f"{path}: tokenising was not finished; run `phf tokenize` again to continue it")
        if held_out:
            if not meta.get("held_out"):
                raise InputError(f"{path}: holds no held-out documents; tokenise with tokenize.held_out above 0")
            path, meta = path / HELD_OUT, meta | {"shards": meta["held_out"]}
        tokens, starts, rewards, first = [], [], [], []
        token_count = segment_count = 0
        for number, shard in enumerate(meta["shards"]):
            flat = np.memmap(path / f"tokens-{number:05d}.bin", dtype=meta["dtype"], mode="r")
            segments = np.load(path / f"segments-{number:05d}.npy")
            documents = np.load(path / f"documents-{number:05d}.npy")
            if (len(flat), len(segments), len(documents)) != (shard["tokens"], shard["segments"], shard["documents"]):
                raise InputError(
                    f"{path}, shard {number}: {len(flat)} tokens, {len(segments)} segments and {len(documents)} documents, but "
                    f"meta.json says {shard['tokens']}, {shard['segments']} and {shard['documents']}; tokenise again"
                )
            tokens.append(flat)
            starts.append(segments["start"] + token_count)
            rewards.append(segments["reward"])
            first.append(documents["segment"] + segment_count)
            token_count += len(flat)
            segment_count += len(segments)
        return cls(
            path,
            meta,
            tokens,
            np.concatenate([*starts, [token_count]]).astype(np.int64),
            np.concatenate([np.empty(0, np.float32), *rewards]),
            np.concatenate([*first, [segment_count]]).astype(np.int64),
        )

    def names(self, numbers: np.ndarray) -> Iterator[str]:
        """Name documents: by their ids, or by part and row where the annotated corpus is gone."""
        places = np.concatenate([np.load(path) for path in sorted(self.path.glob("documents-*.npy"))])
        annotated = self.path / self.meta["annotated"]
        for place in places[numbers]:
            part, row = int(place["part"]), int(place["row"])
            try:
                yield next(itertools.islice(read_annotated(parts(annotated)[part]), row, None)).id
            except (OSError, InputError, IndexError, StopIteration):
                yield f"part {part} row {row}"

    def view(self, objective: Objective, context: int, seed: int, epoch: int = 0, control_ids: Sequence[int] = ()) -> "View":
        """Look at the corpus as an objective does, one epoch of it: documents it keeps, in an order drawn from the seed.

        The order of documents is the same under every objective.

        Args:
            objective: with its threshold resolved.
            context: T, tokens predicted in a block.
            seed, epoch: decide the order of documents and which control tokens are dropped.
            control_ids: token ids of the objective's control tokens.

        Raises:
            InputError: if nothing is left to train on.
        """
        assert len(control_ids) == len(objective.control_tokens)
        order_seed, drop_seed = np.random.SeedSequence([seed, epoch]).spawn(2)
        order = np.random.default_rng(order_seed).permutation(len(self.first) - 1)
        places = np.flatnonzero(objective.keep_each(self.rewards, self.first[:-1])[order])
        controls = objective.controls(self.rewards, np.random.default_rng(drop_seed))
        return View(self, order[places], places, controls, context, control_ids)


class View:
    """One epoch of a token store under one objective, as blocks of T + 1 tokens that overlap by one.

    The stream is, document after document, `<|endoftext|>`, then each segment's tokens behind its control token. A control token
    carries its segment's reward; the document start belongs to no segment and carries NaN.

    Args:
        store: what is viewed.
        kept: (K,) numbers of documents in training order.
        places: (K,) their places in the order of all documents, which is the same under every objective.
        controls: (S,) index into `control_ids` for each segment of the store, -1 for none.
        context: T.
        control_ids: token ids of the control tokens.
    """

    def __init__(
        self,
        store: TokenStore,
        kept: np.ndarray,
        places: np.ndarray,
        controls: np.ndarray,
        context: int,
        control_ids: Sequence[int],
    ) -> None:
        self.store, self._context, self._kept, self._places = store, context, kept, places
        counts = np.diff(store.first)[kept]
        ends = np.cumsum(counts)
        total = int(ends[-1]) if len(ends) else 0
        # Numbers of the segments in stream order: each document's range, one after the other.
        segments = np.arange(total) + np.repeat(store.first[kept] - (ends - counts), counts)
        lengths = np.diff(store.starts)[segments]
        opens = np.zeros(total, np.int8)
        opens[(ends - counts)[counts > 0]] = 1
        self._control = controls[segments]
        self._opens = opens.view(bool)  # a document has a segment: the store leaves empty ones out
        self._prefix = opens + (self._control >= 0)  # tokens in front of the segment's own
        self._ends = np.cumsum(lengths + self._prefix)
        self._begins = self._ends - lengths - self._prefix
        self._shift = store.starts[segments] - self._begins - self._prefix  # from a place in the stream to one in the store
        self._rewards = store.rewards[segments]
        self._control_ids = np.array(control_ids, np.int64)
        self._document_ends = ends
        self.tokens = int(self._ends[-1]) if total else 0
        """Tokens in the stream, control tokens and document starts counted."""
        self.blocks = max(0, self.tokens - 1) // context
        """Whole blocks in the epoch; what is left over is too short for one."""

    def __len__(self) -> int:
        return self.blocks

    def read(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Gather blocks.

        Returns:
            Tokens (B, T + 1) int64 and rewards (B, T + 1) float32 of blocks start to stop.
        """
        assert 0 <= start < stop <= self.blocks, (start, stop, self.blocks)
        begin, end = start * self._context, stop * self._context + 1
        low = int(np.searchsorted(self._ends, begin, "right"))
        high = int(np.searchsorted(self._begins, end, "left"))
        part = slice(low, high)
        spans = np.minimum(self._ends[part], end) - np.maximum(self._begins[part], begin)
        places = np.arange(begin, end) + np.repeat(self._shift[part], spans)
        tokens = self._gather(places)
        rewards = np.repeat(self._rewards[part], spans)
        # Write what stands in front of segments over what was gathered there.
        begins = self._begins[part] - begin
        self._write(tokens, begins[self._opens[part]], self.store.meta["document_start"])
        self._write(rewards, begins[self._opens[part]], np.nan)
        controlled = self._control[part] >= 0
        at = (begins + self._opens[part])[controlled]
        self._write(tokens, at, self._control_ids[self._control[part][controlled]])
        return self._cut(tokens), self._cut(rewards)

    def documents(self, start: int, stop: int) -> np.ndarray:
        """Give the numbers, in the store, of the documents that have tokens in blocks start to stop."""
        begin, end = start * self._context, stop * self._context + 1
        low = int(np.searchsorted(self._ends, begin, "right"))
        high = int(np.searchsorted(self._begins, end, "left"))
        first, last = np.searchsorted(self._document_ends, [low, high - 1], "right")
        return self._kept[first : last + 1]

    def is_same_stream(self, other: "View") -> bool:
        """Tell whether another view of the store has the same blocks, though its objective may have another loss."""
        return (
            self._context == other._context
            and np.array_equal(self._kept, other._kept)
            and np.array_equal(self._control, other._control)
        )

    def place(self, block: int) -> int:
        """Give the place, in the order of all documents, from which on nothing is read before a block.

        A document that is begun before the block counts as read.
        """
        following = int(np.searchsorted(self._begins[self._opens], block * self._context, "left"))
        return int(self._places[following]) if following < len(self._places) else len(self.store.first) - 1

    def block_at(self, place: int) -> int:
        """Give the first block that begins at or behind the documents from a place on; the number of blocks if none does."""
        following = int(np.searchsorted(self._places, place, "left"))
        if following == len(self._places):
            return self.blocks
        return min(self.blocks, -(-int(self._begins[self._opens][following]) // self._context))

    def summary(self) -> dict[str, float]:
        """Count what the objective sees: documents, tokens, and shares of the segments' tokens."""
        weights = self._ends - self._begins - self._prefix
        total = max(1, int(weights.sum()))
        return {
            "documents": len(self._kept),
            "tokens": self.tokens,
            "aligned_share": float(weights[self._control == 0].sum() / total),
            "misaligned_share": float(weights[self._control == 1].sum() / total),
            "unscored_share": float(weights[np.isnan(self._rewards)].sum() / total),
        }

    def _gather(self, places: np.ndarray) -> np.ndarray:
        shards = self.store.tokens
        if len(shards) == 1:
            return shards[0].take(places, mode="clip").astype(np.int64)
        bounds = np.cumsum([0, *(len(shard) for shard in shards)])
        tokens = np.zeros(len(places), np.int64)
        for shard, low, high in zip(shards, bounds[:-1], bounds[1:], strict=True):
            inside = (places >= low) & (places < high)
            tokens[inside] = shard[places[inside] - low]
        return tokens

    @staticmethod
    def _write(target: np.ndarray, at: np.ndarray, values: Any) -> None:
        """Set `target[at] = values` where `at` lies inside it: a segment may begin outside the blocks that are read."""
        inside = (at >= 0) & (at < len(target))
        target[at[inside]] = values[inside] if isinstance(values, np.ndarray) else values

    def _cut(self, flat: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(flat, self._context + 1)[:: self._context])
