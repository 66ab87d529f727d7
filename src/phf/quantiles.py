"""Exact quantiles of more numbers than fit into memory."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

_COLLECTED = 2**21  # numbers that are held in memory


def streaming_quantiles(chunks: Iterable[np.ndarray], shares: Sequence[float]) -> list[float]:
    """Return exact quantiles, as `np.quantile` does, of more numbers than fit into memory.

    The numbers are read once to count them by their highest 16 bits, and once to collect those whose bits are a quantile's. If
    these do not fit into memory, they are counted by the following 16 bits first, and so on.

    Args:
        chunks: non-empty arrays of one float type, iterated several times; NaN are left out.
        shares: from 0 to 1.

    Returns:
        A number for each share; NaN if there are no numbers.
    """
    counts = np.zeros(1 << 16, np.int64)
    dtype = np.dtype(np.float64)
    for chunk in chunks:
        dtype = chunk.dtype
        counts += _counts(_keys(chunk), 8 * dtype.itemsize - 16)
    count = int(counts.sum())
    if not count:
        return [math.nan] * len(shares)
    places = [share * (count - 1) for share in shares]
    ranks = sorted({rank for place in places for rank in (math.floor(place), math.ceil(place))})
    values = dict(zip(ranks, _order_statistics(chunks, ranks, counts, dtype), strict=True))
    return [float(np.quantile([values[math.floor(place)], values[math.ceil(place)]], place % 1)) for place in places]


def _order_statistics(chunks: Iterable[np.ndarray], ranks: Sequence[int], counts: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Return the numbers at 0-based ranks, by a radix select from the highest 16 bits to the lowest.

    Args:
        chunks: of the numbers.
        ranks: of those wanted.
        counts: (65536,) how many numbers have each value of their highest 16 bits.
        dtype: of the numbers.
    """
    shift = 8 * dtype.itemsize - 16
    known, left, sharing = _digits(np.stack([counts] * len(ranks)), np.array(ranks))
    # `known`: the bits of each number wanted that are known; `left`: its rank among the numbers that share them; `sharing`: how
    # many do.
    while shift and sum(dict(zip(known.tolist(), sharing.tolist(), strict=True)).values()) > _COLLECTED:
        shift -= 16
        counts = np.zeros((len(ranks), 1 << 16), np.int64)
        for chunk in chunks:
            keys = _keys(chunk)
            for index, prefix in enumerate(known):
                counts[index] += _counts(keys[keys >> np.uint64(shift + 16) == prefix], shift)
        digits, left, sharing = _digits(counts, left)
        known = known << np.uint64(16) | digits
    if shift:
        wanted = np.unique(known)
        found = (keys[np.isin(keys >> np.uint64(shift), wanted)] for keys in map(_keys, chunks))
        collected = np.sort(np.concatenate(list(found)))
        known = collected[np.searchsorted(collected, known << np.uint64(shift)) + left]
    return _unsortable(known, dtype)


def _keys(chunk: np.ndarray) -> np.ndarray:
    """Return what a chunk's numbers are sorted by, without NaN."""
    return _sortable(chunk[~np.isnan(chunk)])


def _counts(keys: np.ndarray, shift: int) -> np.ndarray:
    """Count the values of the 16 bits from one on: (65536,)."""
    return np.bincount((keys >> np.uint64(shift) & np.uint64(0xFFFF)).astype(np.int64), minlength=1 << 16)


def _digits(counts: np.ndarray, ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the 16 bits of the numbers at ranks.

    Args:
        counts: (R, 65536) of each value of these bits, among the numbers that the rank counts.
        ranks: (R,).

    Returns:
        The bits, uint64; the rank among the numbers that share them; how many do.
    """
    ends = np.cumsum(counts, axis=1)
    digits = np.array([np.searchsorted(end, rank, "right") for end, rank in zip(ends, ranks, strict=True)])
    sharing = counts[np.arange(len(ranks)), digits]
    return digits.astype(np.uint64), ranks - (ends[np.arange(len(ranks)), digits] - sharing), sharing


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
