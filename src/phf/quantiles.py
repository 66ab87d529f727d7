"""Exact quantiles of more numbers than fit into memory."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def streaming_quantiles(chunks: Iterable[np.ndarray], shares: Sequence[float]) -> list[float]:
    """Return exact quantiles, as `np.quantile` does, of more numbers than fit into memory.

    The numbers are read once to count them, and once for every 16 bits of their type.

    Args:
        chunks: non-empty arrays of one float type, iterated several times; NaN are left out.
        shares: from 0 to 1.

    Returns:
        A number for each share; NaN if there are no numbers.
    """
    count = sum(int(np.count_nonzero(~np.isnan(chunk))) for chunk in chunks)
    if not count:
        return [math.nan] * len(shares)
    places = [share * (count - 1) for share in shares]
    ranks = sorted({rank for place in places for rank in (math.floor(place), math.ceil(place))})
    values = dict(zip(ranks, _order_statistics(chunks, ranks), strict=True))
    return [float(np.quantile([values[math.floor(place)], values[math.ceil(place)]], place % 1)) for place in places]


def _order_statistics(chunks: Iterable[np.ndarray], ranks: Sequence[int]) -> np.ndarray:
    """Return the numbers at 0-based ranks, by a radix select from the highest 16 bits to the lowest."""
    dtype = next(iter(chunks)).dtype
    left = np.array(ranks)  # the rank among the numbers that share the bits known so far
    known = np.zeros(len(ranks), np.uint64)
    for shift in range(8 * dtype.itemsize - 16, -1, -16):
        counts = np.zeros((len(ranks), 1 << 16), np.int64)
        for chunk in chunks:
            digits = _sortable(chunk[~np.isnan(chunk)]) >> np.uint64(shift)
            for index, prefix in enumerate(known):
                inside = digits[digits >> np.uint64(16) == prefix] & np.uint64(0xFFFF)
                counts[index] += np.bincount(inside.astype(np.int64), minlength=1 << 16)
        ends = np.cumsum(counts, axis=1)
        found = np.array([np.searchsorted(end, rank, "right") for end, rank in zip(ends, left, strict=True)])
        left -= np.array([end[digit - 1] if digit else 0 for end, digit in zip(ends, found, strict=True)])
        known = known << np.uint64(16) | found.astype(np.uint64)
    return _unsortable(known, dtype)


def _sortable(values: np.ndarray) -> np.ndarray:
    """Map floats to integers of the same order: (N,) uint64, no larger than the float type's unsigned integers."""
    bits = (values + values.dtype.type(0)).view(f"u{values.dtype.itemsize}").astype(np.uint64)  # + 0 makes 0.0 of -0.0
    sign = np.uint64(1 << (8 * values.dtype.itemsize - 1))
    keys: np.ndarray = np.where(bits & sign, ~bits & (sign | (sign - np.uint64(1))), bits | sign)
    return keys


def _unsortable(keys: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Map integers back to the floats that `_sortable` had."""
    sign = np.uint64(1 << (8 * dtype.itemsize - 1))
    bits = np.where(keys & sign, keys ^ sign, ~keys & (sign | (sign - np.uint64(1))))
    values: np.ndarray = bits.astype(f"u{dtype.itemsize}").view(dtype)
    return values
