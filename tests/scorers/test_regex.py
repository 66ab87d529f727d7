"""The regex scorer counts what Python's re finds."""

import pickle
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import phf.scorers
from phf.errors import InputError
from phf.scorers import Finding

TEXTS = ["", "nothing here", "bad, BAD and worse", "bad\nbad bad"]


def test_matches_of_every_pattern_per_character():
    scorer = phf.scorers.load("regex", patterns=["bad", "wor.e", "ba"])
    rewards = scorer.score(TEXTS)
    assert rewards.dtype == np.float32
    np.testing.assert_array_equal(rewards, np.float32([0, 0, -3 / 18, -6 / 11]))
    assert not np.signbit(rewards[:2]).any()


def test_options():
    assert phf.scorers.load("regex", patterns=["bad"], ignore_case=True).score(TEXTS)[2] == np.float32(-2 / 18)
    assert phf.scorers.load("regex", patterns=["^bad"]).score(TEXTS)[3] == np.float32(-1 / 11)
    assert phf.scorers.load("regex", patterns=["^bad"], multiline=True).score(TEXTS)[3] == np.float32(-2 / 11)


def test_findings_in_order_and_named_by_their_pattern():
    scorer = phf.scorers.load("regex", patterns=["worse", "b.d"])
    assert scorer.findings("bad or worse") == [Finding(0, 3, "b.d"), Finding(7, 12, "worse")]


@given(st.lists(st.text("ab \n\ud800", max_size=9)), st.lists(st.sampled_from(["a", "b+", "a*", r"\s", "$"]), min_size=1))
def test_rewards_are_counts_of_findings(texts, patterns):
    scorer = phf.scorers.load("regex", patterns=patterns)
    counts = [sum(len(list(re.finditer(pattern, text))) for pattern in patterns) for text in texts]
    expected = -np.array([count / max(len(text), 1) for count, text in zip(counts, texts, strict=True)], np.float32)
    np.testing.assert_array_equal(scorer.score(texts), expected)
    assert [len(scorer.findings(text)) for text in texts] == counts


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ([], "regex.patterns: an empty list; expected at least one regular expression"),
        (["fine", "(open"], r"regex\.patterns\.1: '\(open' is not a regular expression \(missing \), unterminated subpattern"),
    ],
)
def test_patterns_that_are_none(patterns, message):
    with pytest.raises(InputError, match=message):
        phf.scorers.load("regex", patterns=patterns)


def test_pickles():
    scorer = phf.scorers.load("regex", patterns=["bad"])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(scorer)).score(TEXTS), scorer.score(TEXTS))
