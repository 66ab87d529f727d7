"""Arrays in files, read range by range: no page faults, no read-ahead, and many reads at once of what is not in memory."""

import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from phf.errors import InputError

_ONLY_CACHED = getattr(os, "RWF_NOWAIT", 0)  # Linux


class ArrayFile:
    """A one-dimensional array in a file, open for reading.

    It is not memory-mapped: a random range of a mapped file costs a page fault, which is dearer than a read, and the kernel reads
    up to megabytes around it.

    Args:
        path: of the file.
        dtype: of the array.
        count: how many items it has.
        offset: bytes in front of the array.

    Raises:
        OSError: if the file cannot be opened.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], count: int, offset: int = 0) -> None:
        self.path, self.dtype, self.offset = path, dtype, offset
        self._count = count
        self.file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        weakref.finalize(self, os.close, self.file)

    def __len__(self) -> int:
        return self._count

    def __reduce__(self) -> tuple[Any, ...]:
        return ArrayFile, (self.path, self.dtype, self._count, self.offset)

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read the items from one to before another, by default all: (stop - start,)."""
        stop = self._count if stop is None else min(stop, self._count)
        items = np.empty(stop - start, self.dtype)
        self.read_bytes(self.offset + start * self.dtype.itemsize, items.view(np.uint8).data)
        return items

    def read_bytes(self, start: int, into: memoryview) -> None:
        """Fill a buffer with the bytes of the file from one on.

        Raises:
            InputError: if the file ends before.
        """
        while len(into):
            count = os.preadv(self.file, [into], start)
            if not count:
                raise InputError(f"{self.path}: ends at byte {start}, and was longer when it was opened; do not change it in use")
            start, into = start + count, into[count:]


def read_ranges(arrays: Sequence[ArrayFile], starts: np.ndarray, stops: np.ndarray, into: np.ndarray, places: np.ndarray) -> None:
    """Read many ranges of arrays of one dtype.

    What the kernel has in memory is copied first. It is then asked for all of the rest before the first of it is waited for, so
    that a disk has them to read at the same time.

    Args:
        arrays: R of them, the file of each range.
        starts, stops: (R,) the items of each range.
        into: of the arrays' dtype.
        places: (R,) where in it each range begins.

    Raises:
        InputError: if a file ends before a range does.
    """
    size = into.itemsize
    buffer = into.view(np.uint8).data
    lows, highs = (places * size).tolist(), ((places + stops - starts) * size).tolist()
    waiting = []
    for array, start, low, high in zip(arrays, (starts * size).tolist(), lows, highs, strict=True):
        part = buffer[low:high]
        try:
            if os.preadv(array.file, (part,), array.offset + start, _ONLY_CACHED) == high - low:
                continue
        except OSError:  # not in memory, or a file system that does not tell
            pass
        waiting.append((array, array.offset + start, part))
    if hasattr(os, "posix_fadvise"):
        for array, start, part in waiting:
            os.posix_fadvise(array.file, start, len(part), os.POSIX_FADV_WILLNEED)
    for array, start, part in waiting:
        array.read_bytes(start, part)
