"""Permutations that are computed: bijections, inverted, uniform, equal on every machine."""

import itertools
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from phf.tokens.permutation import Permutation


@given(size=st.integers(1, 3000), key=st.lists(st.integers(0, 2**32), min_size=1, max_size=3))
def test_every_number_comes_once_and_goes_back(size, key):
    order = Permutation(size, *key)
    numbers = order(np.arange(size))
    assert sorted(numbers.tolist()) == list(range(size))
    assert order.inverse(numbers).tolist() == list(range(size))


def test_the_order_is_the_same_everywhere():
    assert Permutation(10, 0, 1)(np.arange(10)).tolist() == [7, 6, 9, 3, 8, 5, 1, 4, 0, 2]
    assert Permutation(10**12, 7)(np.array([0, 10**11])).tolist() == [780074959141, 163322959400]


def test_all_orders_of_a_few_numbers_are_about_as_frequent():
    counts = Counter(tuple(Permutation(4, key)(np.arange(4)).tolist()) for key in range(4800))
    assert len(counts) == 24
    expected = 4800 / 24
    assert sum((counts[order] - expected) ** 2 / expected for order in itertools.permutations(range(4))) < 50  # chi-squared, 23


def test_neighbours_are_not_near_each_other():
    numbers = Permutation(100_000, 3)(np.arange(100_000))
    distance = np.abs(np.diff(numbers))
    assert abs(distance.mean() / (100_000 / 3) - 1) < 0.02, "as of random numbers"
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.02
