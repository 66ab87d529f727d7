"""The pii scorer says what scrubadub says."""

import pickle

import numpy as np
import pytest
import scrubadub

import phf.scorers
from phf.scorers import Finding

TEXTS = [
    "",
    "Nothing to see here.",
    "Write to jane.doe@example.com or see https://example.com/jane, thanks.",
    "Call +1 650 253 0000 or (650) 253-0000 today. @someone_else said so.",
    "username: root password: toor",
    "My number is 123-45-6789 and my card 4242424242424242 is gone.",
]


@pytest.fixture
def default():
    return phf.scorers.load("pii", detectors="default")


@pytest.fixture
def extended():
    return phf.scorers.load("pii")


def test_default_equals_scrubadub(default):
    counts = [len(scrubadub.list_filth(text)) for text in TEXTS]
    expected = np.array([-count / max(len(text), 1) for count, text in zip(counts, TEXTS)], dtype=np.float32)
    rewards = default.score(TEXTS)
    assert rewards.dtype == np.float32
    np.testing.assert_array_equal(rewards, expected)
    assert sum(counts) >= 7


def test_findings(default):
    text = "Write to jane.doe@example.com please"
    assert default.findings(text) == [Finding(9, 29, "email")]


def test_extended_finds_more(default, extended):
    born = "She was born on 3 March 1975."
    home = "I live at 6919 Bell  Drive,\nEast Springfield, MO 76908, and so on."
    skype = "my skype: bobby_smiith99 add me"
    for text, kind in [(born, "date_of_birth"), (home, "address"), (skype, "skype")]:
        assert default.findings(text) == []
        assert [finding.kind for finding in extended.findings(text)] == [kind]
    [found] = extended.findings(home)
    assert home[found.start : found.end] == "6919 Bell  Drive,\nEast Springfield, MO 76908"


def test_pickles(extended):
    again = pickle.loads(pickle.dumps(extended))
    np.testing.assert_array_equal(again.score(TEXTS), extended.score(TEXTS))
