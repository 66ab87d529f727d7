"""The files of a token store: shards of tokens, segments and documents, read range by range, or through in chunks."""

# S segments, D documents, N tokens.

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phf import checksums
from phf.artifacts import whole_file
from phf.errors import InputError
from phf.tokens.array_file import ArrayFile

SEGMENT = np.dtype([("start", "<i8"), ("reward", "<f4")])
"""A segment in `segments-*.npy`: its first token in the shard, and its reward."""
DOCUMENT = np.dtype([("segment", "<i8"), ("part", "<i4"), ("row", "<i4")])
"""A document in `documents-*.npy`: its first segment in the shard, and the part and row of the annotated corpus it is from."""
HELD_OUT = "held-out"
"""The folder, in a store's, with the shards of the held-out documents."""
FILES_PER_SHARD = 3
_CHUNK_DOCUMENTS = 2**16
_CHUNK_SEGMENTS = 2**19


@dataclass(frozen=True)
class Shard:
    """Documents that were written together; each has a segment, each segment a token.

    Args:
        tokens: (N,) uint16 or uint32.
        segments: (S,) of dtype SEGMENT.
        documents: (D,) of dtype DOCUMENT.
        first_token, first_segment, first_document: how many there are in the shards before this one.
    """

    tokens: ArrayFile
    segments: ArrayFile
    documents: ArrayFile
    first_token: int = 0
    first_segment: int = 0
    first_document: int = 0

    @property
    def token_stop(self) -> int:
        """How many tokens there are in this shard and those before it."""
        return self.first_token + len(self.tokens)

    @property
    def segment_stop(self) -> int:
        """How many segments there are in this shard and those before it."""
        return self.first_segment + len(self.segments)

    @property
    def document_stop(self) -> int:
        """How many documents there are in this shard and those before it."""
        return self.first_document + len(self.documents)


@dataclass(frozen=True)
class Chunk:
    """Some documents of a shard, one after another, that fit into memory.

    Args:
        shard: whose they are.
        document: number of the first one, through all shards.
        begin, end: their segments in the shard.
        starts: (D,) where each document's segments begin, from `begin` on.
        records: of dtype SEGMENT: the segments, and the one behind them if the shard has one.
    """

    shard: Shard
    document: int
    begin: int
    end: int
    starts: np.ndarray
    records: np.ndarray

    def rewards(self) -> np.ndarray:
        """Return the segments' rewards: (S,) float32."""
        return np.ascontiguousarray(self.records["reward"][: self.end - self.begin])

    def token_starts(self) -> np.ndarray:
        """Return where the segments begin, through all shards: (S + 1,) int64; the last entry is the end of the last one."""
        starts = np.full(self.end - self.begin + 1, len(self.shard.tokens), np.int64)
        starts[: len(self.records)] = self.records["start"]
        starts += self.shard.first_token
        return starts


def write_shard(folder: Path, number: int, tokens: np.ndarray, segments: np.ndarray, documents: np.ndarray) -> None:
    """Write one shard: `tokens-N.bin`, `segments-N.npy` (dtype SEGMENT), and `documents-N.npy` (dtype DOCUMENT)."""
    assert segments.dtype == SEGMENT, segments.dtype
    assert documents.dtype == DOCUMENT, documents.dtype
    with whole_file(folder / f"tokens-{number:05d}.bin", recorded=True) as path:
        tokens.tofile(path)
    for name, array in (("segments", segments), ("documents", documents)):
        with whole_file(folder / f"{name}-{number:05d}.npy", recorded=True) as path, path.open("wb") as file:
            np.save(file, array)


def open_shard(folder: Path, number: int, dtype: str, sizes: Mapping[str, int], before: Shard | None) -> Shard:
    """Open a shard.

    Args:
        folder: of the store.
        number: of the shard.
        dtype: of its tokens.
        sizes: how many "tokens", "segments" and "documents" it should have.
        before: the shard before it.

    Raises:
        InputError: for a file that is missing, damaged or of another size, naming it.
    """
    arrays: dict[str, ArrayFile] = {}
    for name, ending in (("tokens", "bin"), ("segments", "npy"), ("documents", "npy")):
        path = folder / f"{name}-{number:05d}.{ending}"
        try:
            array: Any = np.memmap(path, dtype=dtype, mode="r") if ending == "bin" else np.load(path, mmap_mode="r")
            if ending == "npy" and array.dtype != (SEGMENT if name == "segments" else DOCUMENT):
                raise ValueError(f"it holds {array.dtype}")
            if array.ndim != 1:
                raise ValueError(f"it has {array.ndim} dimensions")
            arrays[name] = ArrayFile(path, array.dtype, len(array), array.offset)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path}: cannot be read ({error}); delete {folder} and run `phf tokenize` again") from None
        if len(array) != sizes[name]:
            raise InputError(f"{path}: {len(array)} {name}, but meta.json says {sizes[name]}; delete {folder} and tokenise again")
    ends = (before.token_stop, before.segment_stop, before.document_stop) if before else (0, 0, 0)
    return Shard(arrays["tokens"], arrays["segments"], arrays["documents"], *ends)


def chunks_of(shards: Sequence[Shard]) -> Iterator[Chunk]:
    """Read through shards in chunks of whole documents, of at most some 500,000 segments if no document has more.

    Raises:
        InputError: for documents or segments that are not one after another, from the first segment and token on, each with a
            segment and a token of its own, naming the file.
    """
    for shard in shards:
        for first in range(0, len(shard.documents), _CHUNK_DOCUMENTS):
            documents = shard.documents.read(first, first + _CHUNK_DOCUMENTS + 1)
            firsts = documents["segment"].astype(np.int64)
            if first + _CHUNK_DOCUMENTS >= len(shard.documents):
                firsts = np.append(firsts, len(shard.segments))
            _check_order(shard.documents.path, "document", "segment", first, firsts)
            if (unknown := np.flatnonzero((documents["part"] < 0) | (documents["row"] < 0))).size:
                record = documents[unknown[0]]
                raise not_written(
                    shard.documents.path, f"document {first + unknown[0]} is from part {record['part']}, row {record['row']}"
                )
            low = 0
            while low < len(firsts) - 1:
                high = int(np.searchsorted(firsts, firsts[low] + _CHUNK_SEGMENTS, "right")) - 1
                high = max(low + 1, high)
                begin, end = int(firsts[low]), int(firsts[high])
                records = shard.segments.read(begin, end + 1)
                starts = records["start"] if end < len(shard.segments) else np.append(records["start"], len(shard.tokens))
                _check_order(shard.segments.path, "segment", "token", begin, starts)
                yield Chunk(shard, shard.first_document + first + low, begin, end, firsts[low:high] - begin, records)
                low = high


class Rewards:
    """The rewards of all segments, in chunks that are read from disk every time they are iterated.

    The files that they are read from are compared with their checksums at the same time, in a thread, once. Damage is an error at
    the end of an iteration; for one that is not finished, use `with rewards.verified():`.

    Args:
        folder: of the store.
        shards: of the store.
    """

    def __init__(self, folder: Path, shards: Sequence[Shard]) -> None:
        self._folder, self._shards = folder, shards
        self._check: threading.Thread | None = None
        self._damage: Exception | None = None

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        self.verify()
        with self.verified():
            for chunk in chunks_of(self._shards):
                yield chunk.rewards(), chunk.starts

    def verify(self) -> None:
        """Begin to compare the files with their checksums; iterating does that, too."""
        if self._check is None:
            self._check = threading.Thread(target=self._compare, daemon=True)
            self._check.start()

    @contextlib.contextmanager
    def verified(self) -> Iterator[None]:
        """Wait, at the end of the block, until the files are compared, if that was begun.

        Raises:
            Damaged: if one is not what was written, also in place of an InputError of the block, which is then its consequence.
        """
        try:
            yield
        except InputError:
            self._wait()
            raise
        self._wait()

    def _compare(self) -> None:
        try:
            for number in range(len(self._shards)):
                for name in ("segments", "documents"):
                    checksums.verify(self._folder / f"{name}-{number:05d}.npy")
        except Exception as error:
            self._damage = error

    def _wait(self) -> None:
        if self._check is not None:
            self._check.join()
        if self._damage is not None:
            raise self._damage


def _check_order(path: Path, item: str, begins_at: str, first: int, begins: np.ndarray) -> None:
    """Raise InputError unless items, from number `first` on, begin one after another; the last entry is the last one's end."""
    if first == 0 and begins[0] != 0:
        raise not_written(path, f"{item} 0 begins at {begins_at} {begins[0]}, not at 0")
    if (falls := np.flatnonzero(begins[1:] <= begins[:-1])).size:
        place = int(falls[0])
        raise not_written(
            path, f"{item} {first + place} begins at {begins_at} {begins[place]}, and what follows it at {begins[place + 1]}"
        )


def not_written(path: Path, found: str) -> InputError:
    """Return the error for a file whose values `phf tokenize` cannot have written."""
    return InputError(f"{path}: not what `phf tokenize` wrote: {found}; delete {path.parent} and run it again")
