"""A random order that is computed, not stored: a Feistel network over any number of items."""

import numpy as np

_ROUNDS = 8
_ODD = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9))  # the constants of splitmix64
_SHIFTS = (np.uint64(32), np.uint64(29))


class Permutation:
    """A random order of the numbers from 0 to `size` - 1 that takes no memory, whatever the size.

    The bits of a place are two halves, each of which is changed in turn by a hash of the other (a Feistel network). A result
    outside the range goes through the network again ("cycle walking"; Black and Rogaway 2002, "Ciphers with arbitrary finite
    domains"), twice at most on average.

    Args:
        size: how many numbers.
        key: integers that decide the order, together with the size and with nothing else.
    """

    def __init__(self, size: int, *key: int) -> None:
        self.size = size
        bits = max(2, (size - 1).bit_length())
        self._low_bits = np.uint64(bits // 2)
        self._low_mask = np.uint64((1 << (bits // 2)) - 1)
        self._high_mask = np.uint64((1 << (bits - bits // 2)) - 1)
        self._keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """Return the numbers at places of the order: (N,) int64 from (N,) integers."""
        return self._walk(places, range(_ROUNDS))

    def inverse(self, numbers: np.ndarray) -> np.ndarray:
        """Return the places of numbers in the order: (N,) int64 from (N,) integers."""
        return self._walk(numbers, range(_ROUNDS - 1, -1, -1))

    def _walk(self, values: np.ndarray, rounds: range) -> np.ndarray:
        found = self._network(values.astype(np.uint64), rounds)
        while len(outside := np.flatnonzero(found >= np.uint64(self.size))):
            found[outside] = self._network(found[outside], rounds)
        return found.astype(np.int64)

    def _network(self, values: np.ndarray, rounds: range) -> np.ndarray:
        low, high = values & self._low_mask, values >> self._low_bits
        for index in rounds:
            if index % 2:
                low ^= self._hash(high, index) & self._low_mask
            else:
                high ^= self._hash(low, index) & self._high_mask
        joined: np.ndarray = high << self._low_bits | low
        return joined

    def _hash(self, values: np.ndarray, index: int) -> np.ndarray:
        mixed: np.ndarray = values + self._keys[index]
        for odd, shift in zip(_ODD, _SHIFTS, strict=True):
            mixed ^= mixed >> shift
            mixed *= odd
        mixed ^= mixed >> np.uint64(32)
        return mixed
