"""The pep8 scorer says what pycodestyle says."""

import contextlib
import io
import pickle

import numpy as np
import pycodestyle
import pytest

import phf.scorers

SOURCE = (
    "import os, sys\ndef f( a,b ):\n\treturn a+b   \n\nclass  A: pass\n"
    "x = {  'long': 'a line that goes on and on and on until it is much longer than the limit of seventy-nine characters'}\n"
)


def plain_count(text: str) -> int:
    """Run pycodestyle as anybody would."""
    with contextlib.redirect_stdout(io.StringIO()):
        count = pycodestyle.Checker(lines=io.StringIO(text).readlines()).check_all()
    assert isinstance(count, int)
    return count


@pytest.fixture
def pep8():
    return phf.scorers.load("pep8")


def test_equals_pycodestyle(pep8):
    texts = [SOURCE, "x = 1\n", "x=1", "", "\n\n\n", "def f(:\n", "x = 1 \r\ny = 2\r\n", "\ufeffx = 1\n"]
    expected = np.array([-plain_count(text) / max(len(text), 1) for text in texts], dtype=np.float32)
    np.testing.assert_array_equal(pep8.score(texts), expected)


def test_segments_hold_the_violations_of_their_lines(pep8):
    segments = SOURCE.splitlines(keepends=True)
    rewards = pep8.score_segments(segments)
    assert rewards.dtype == np.float32
    assert rewards.shape == (len(segments),)
    lengths = np.array([len(segment) for segment in segments])
    assert round(float(-(rewards * lengths).sum())) == plain_count(SOURCE)
    assert rewards[3] == 0  # the blank line


def test_findings_point_into_the_text(pep8):
    findings = pep8.findings(SOURCE)
    assert len(findings) == plain_count(SOURCE)
    assert {"E401", "E201", "W191", "W291"} <= {finding.kind for finding in findings}
    assert all(0 <= finding.start < finding.end <= len(SOURCE) for finding in findings)


def test_pickles(pep8):
    again = pickle.loads(pickle.dumps(pep8))
    np.testing.assert_array_equal(again.score([SOURCE]), pep8.score([SOURCE]))
