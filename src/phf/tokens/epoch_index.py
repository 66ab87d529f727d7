"""Where the documents of one epoch are in its stream of tokens, under one objective: computed in two passes, kept on disk.

The first pass, over the store, asks the objective which documents it keeps and which control tokens it puts in front of segments;
the second, over the documents in their random order, sums up their lengths. Nothing is held in memory but a chunk.
"""

# S segments of the store, K documents that the objective keeps.

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from phf import artifacts
from phf.objectives import Objective
from phf.tokens.array_file import ArrayFile
from phf.tokens.permutation import Permutation
from phf.tokens.shard import Chunk, Shard, chunks_of

KEPT = np.dtype([("number", "<i8"), ("segment", "<i8"), ("place", "<i8"), ("count", "<i4")])
"""A document in the order of the epoch: its number, its first segment, the place of that segment (see `EpochIndex.coarse`), and
how many segments it has."""
COARSE = 32
"""There is an entry in `EpochIndex.coarse` for each so many segments."""
_MEASURED = np.dtype([("length", "<i8"), *((name, KEPT[name]) for name in ("segment", "place", "count"))])
_CHUNK_DOCUMENTS = 2**17


@dataclass(frozen=True)
class EpochIndex:
    """Where documents and segments are in the stream of an epoch.

    Arrays are memory-mapped, except for the controls, which are read.

    Args:
        order: of all documents, the same under every objective.
        begins: (K + 1,) int64, where each document that is kept begins in the stream; the last entry is the stream's length.
        documents: (K,) of dtype KEPT.
        coarse: int64, the place of every COARSE-th segment, where places count the tokens of the store in its own order, with the
            control tokens in front of segments and without document starts.
        controls: (S,) int8, an index into the objective's control tokens for each segment, -1 for none; None if it has none.
        digest: equal for indexes of the same stream.
    """

    order: Permutation
    begins: np.ndarray
    documents: np.ndarray
    coarse: np.ndarray
    controls: ArrayFile | None
    digest: str


def open_index(folder: Path, order: Permutation) -> EpochIndex:
    """Open the index that `write_index` wrote to a folder."""
    counts = artifacts.read_json(folder / "index.json")

    def load(name: str, dtype: Any) -> np.ndarray:
        count = counts[name]
        return np.asarray(np.memmap(folder / f"{name}.bin", dtype, "r", shape=(count,))) if count else np.empty(0, dtype)

    controls = ArrayFile(folder / "controls.bin", np.dtype(np.int8), counts["controls"]) if "controls" in counts else None
    return EpochIndex(
        order, load("begins", np.int64), load("documents", KEPT), load("coarse", np.int64), controls, counts["digest"]
    )


def write_index(
    folder: Path, shards: Sequence[Shard], objective: Objective, order: Permutation, drop_seed: np.random.SeedSequence
) -> None:
    """Compute the index of an epoch.

    Args:
        folder: empty; gets `index.json` and the arrays.
        shards: of the store.
        objective: with its threshold resolved.
        order: of all documents.
        drop_seed: decides which control tokens are dropped.
    """
    index = _Pass(folder, shards, objective, order, np.random.default_rng(drop_seed))
    index.run()


def changes_data(objective: Objective) -> bool:
    """Return whether an objective leaves out documents or adds control tokens; those that do not share one index."""
    own, plain = type(objective), Objective
    return (own.keep, own.keep_each, own.controls) != (plain.keep, plain.keep_each, plain.controls)


class _Output:
    """A file that arrays are appended to, and its digest."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")
        self.count = 0
        self.digest = hashlib.blake2b(digest_size=16)

    def write(self, array: np.ndarray) -> None:
        data = np.ascontiguousarray(array).tobytes()
        self._file.write(data)
        self.digest.update(data)
        self.count += len(array)

    def close(self, sync: bool = True) -> None:
        self._file.flush()
        if sync:
            os.fsync(self._file.fileno())
        self._file.close()


class _Pass:
    """The two passes that make an index."""

    def __init__(
        self, folder: Path, shards: Sequence[Shard], objective: Objective, order: Permutation, rng: np.random.Generator
    ) -> None:
        self._folder, self._shards, self._objective, self._order, self._rng = folder, shards, objective, order, rng
        self._reads_rewards, self._has_controls = changes_data(objective), bool(objective.control_tokens)
        names = ["begins", "documents", "coarse", *(["controls"] if self._has_controls else [])]
        self._outputs = {name: _Output(folder / f"{name}.bin") for name in names}

    def run(self) -> None:
        """Write the index into the folder."""
        measured = self._folder / "measured.bin"
        output = _Output(measured)
        added = 0  # control tokens before the chunk
        for chunk in chunks_of(self._shards):
            documents, added = self._measure(chunk, added)
            output.write(documents)
        output.close(sync=False)  # deleted below
        self._sum_up(measured, output.count)
        measured.unlink()
        for output in self._outputs.values():
            output.close()
        digests = [output.digest.hexdigest() for output in self._outputs.values()]
        counts = {name: output.count for name, output in self._outputs.items()}
        artifacts.write_json(self._folder / "index.json", {"digest": artifacts.fingerprint(digests), **counts})

    def _measure(self, chunk: Chunk, added: int) -> tuple[np.ndarray, int]:
        """Return the documents of a chunk with their lengths in the stream (0 for those left out), in the order of the store."""
        places = chunk.token_starts()
        kept: np.ndarray | bool = True
        if self._reads_rewards:
            rewards = chunk.rewards()
            kept = self._objective.keep_each(rewards, chunk.starts)
            if self._has_controls:
                controls = self._objective.controls(rewards, self._rng)
                self._outputs["controls"].write(controls)
                before = np.cumsum(controls >= 0)
                places += added
                places[1:] += before
                added += int(before[-1])
        first = chunk.shard.first_segment + chunk.begin
        self._outputs["coarse"].write(places[:-1][-first % COARSE :: COARSE])
        ends = np.append(chunk.starts[1:], chunk.end - chunk.begin)
        documents = np.empty(len(chunk.starts), _MEASURED)
        documents["length"] = np.where(kept, 1 + places[ends] - places[chunk.starts], 0)
        documents["segment"] = first + chunk.starts
        documents["place"] = places[chunk.starts]
        documents["count"] = ends - chunk.starts
        return documents, added

    def _sum_up(self, path: Path, count: int) -> None:
        """Write where the documents that are kept begin, in the order of the epoch."""
        total = 0
        for documents in self._in_order(path, count):
            ends = total + np.cumsum(documents["length"])
            self._outputs["begins"].write(ends - documents["length"])
            kept = np.empty(len(documents), KEPT)
            for name in KEPT.names or ():
                kept[name] = documents[name]
            self._outputs["documents"].write(kept)
            total = int(ends[-1])
        self._outputs["begins"].write(np.array([total], np.int64))

    def _in_order(self, path: Path, count: int) -> Iterator[np.ndarray]:
        """Yield the documents that are kept, with their numbers, in the order of the epoch."""
        dtype = np.dtype([*((name, _MEASURED[name]) for name in _MEASURED.names or ()), ("number", "<i8")])
        if not count:
            return
        measured = np.memmap(path, _MEASURED, "r", shape=(count,))
        for start in range(0, count, _CHUNK_DOCUMENTS):
            numbers = self._order(np.arange(start, min(count, start + _CHUNK_DOCUMENTS)))
            chunk = measured[numbers]
            kept = chunk["length"] > 0
            if kept.any():
                documents = np.empty(int(kept.sum()), dtype)
                documents["number"] = numbers[kept]
                for name in _MEASURED.names or ():
                    documents[name] = chunk[name][kept]
                yield documents
