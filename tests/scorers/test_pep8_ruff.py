"""The pep8-ruff scorer says what ruff says, and close to what pycodestyle says."""

import argparse
import fcntl
import itertools
import os
import pickle
import stat
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import phf.scorers
from phf.errors import InputError
from phf.scorers.pep8 import ruff as ruff_module
from phf.scorers.pep8 import ruff_process
from phf.segmenters import Lines

SOURCE = (
    "import os, sys\ndef f( a,b ):\n\treturn a+b   \n\nclass  A: pass\n"
    "x = {  'long': 'a line that goes on and on and on until it is much longer than the limit of seventy-nine characters'}\n"
)


@pytest.fixture
def ruff():
    return phf.scorers.load("pep8-ruff")


@pytest.fixture
def pep8():
    return phf.scorers.load("pep8")


@pytest.mark.parametrize(
    "text",
    [
        SOURCE,
        SOURCE.replace("pass\n", "x = 1\n").replace("\n", "\r\n"),  # see the docs: pycodestyle takes `pass\\r\\n` for E275
        "",
        "x = 1\n",
        "x=1",
        "x = 1 \n\n\n\n",
        "\ufeffx=1\n",
        "import os\n\x0c\nx=1\n\x0c\ny = 1 \x0c\n",
        "x = '\u4e2d\u6587'; y=2\n",
        "# a comment\n#another\n#: a third\n",
        "def f(:\n",
        "x = (1,\n",
        "# coding: latin-1\nx = '\xe9'\ny=1\n",
        pytest.param("x=1 # noqa\nimport os, sys; z=1 # NOQA\n", id="noqa over what pycodestyle reports all the same"),
        pytest.param("if x == None: # noqa\n    pass\n", id="noqa over what pycodestyle then lets pass"),
        pytest.param("# ruff: noqa\n# flake8: noqa\nx=1\n", id="noqa for the file"),
        pytest.param(f"x = '{'a' * 99}'  # noqa\ny = '{'a' * 99}'\n", id="noqa over a long line"),
        pytest.param("if x:\n        y = 1\n# ruff: disable[E225]\nz=1\n", id="suppressed in ruff's own way"),
    ],
)
def test_agrees_with_pycodestyle(ruff, pep8, text):
    np.testing.assert_array_equal(ruff.score([text]), pep8.score([text]))
    lines = Lines().segment(text)
    np.testing.assert_array_equal(ruff.score_segments(lines), pep8.score_segments(lines))
    assert [each.kind for each in ruff.findings(text)] == [each.kind for each in pep8.findings(text)]


def test_segments_hold_the_violations_of_their_lines(ruff):
    segments = Lines().segment(SOURCE)
    rewards = ruff.score_segments(segments)
    assert rewards.dtype == np.float32
    lengths = np.array([len(segment) for segment in segments])
    assert round(float(-(rewards * lengths).sum())) == round(float(-ruff.score([SOURCE])[0] * len(SOURCE))) > 5
    assert rewards[3] == 0  # the blank line
    ends = list(itertools.accumulate(map(len, segments)))
    for finding in ruff.findings(SOURCE):
        assert rewards[np.searchsorted(ends, finding.start, side="right")] < 0


TEXTS = st.text(alphabet="x=1 \n\r\t\x0c()'\"#:,\\é中\x00\ud800", max_size=40) | st.sampled_from([SOURCE, "", "x=1\n"])


@settings(max_examples=15, deadline=None)
@given(st.lists(TEXTS, max_size=20), st.integers(1, 4))
def test_a_batch_says_what_its_texts_say_alone(texts, files):
    scorer = phf.scorers.load("pep8-ruff")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ruff_module, "_FILES", files)
        together = scorer.score(texts)
    pieces = [Lines().segment(text) for text in texts]
    for text, lines, reward, rewards in zip(texts, pieces, together, scorer.score_documents(pieces), strict=True):
        lengths = np.array([len(line) for line in lines])
        np.testing.assert_allclose((rewards * lengths).sum() / max(len(text), 1), reward, rtol=1e-5, atol=1e-7)
        assert np.isnan(reward) == ("\ud800" in text)
    for text in texts[:2]:
        np.testing.assert_array_equal(scorer.score([text]), together[texts.index(text)])
        assert all(0 <= each.start < each.end <= len(text) for each in scorer.findings(text))


def test_thousands_of_texts_keep_their_places(ruff):
    texts = ["x=1\n" * (number % 7) + "x = 1\n" for number in range(3000)]
    rewards = ruff.score(texts)
    np.testing.assert_allclose(rewards, [-(number % 7) / len(text) for number, text in enumerate(texts)], rtol=1e-6)


def test_a_text_that_ruff_falls_over_costs_only_itself(ruff):
    rewards = ruff.score(["x=1\n", f"x = {'-' * 200_000}1\n", "x = 1\n", "x=1\n"])  # its parser runs out of stack
    np.testing.assert_array_equal(np.isnan(rewards), [False, True, False, False])
    np.testing.assert_array_equal(rewards[[0, 2, 3]], np.float32([-0.25, 0, -0.25]))
    assert np.isnan(ruff.score_segments(["x = ", "-" * 200_000, "1\n"])).all()


def test_a_line_of_a_megabyte(ruff):
    assert ruff.score(["x = 1" + ";x=1" * 25_000 + "\n"])[0] < -0.5
    assert ruff.score([f"x = '{'a' * 1_000_000}'\n"])[0] == np.float32(-1 / 1_000_007)


def test_options(ruff):
    text = f"x = '{'a' * 85}'\ny=x+1\n"
    assert [each.kind for each in ruff.findings(text)] == ["E501", "E225"]
    wide = phf.scorers.load("pep8-ruff", max_line_length=100, ignore=[])
    assert [each.kind for each in wide.findings(text)] == ["E225", "E226"]


def test_what_stands_around_changes_nothing(ruff, tmp_path, monkeypatch):
    expected = ruff.score([SOURCE])
    folder = tmp_path / "venv" / "build"
    folder.mkdir(parents=True)
    (tmp_path / "ruff.toml").write_text("line-length = 200\nlint.ignore = ['E']\n")
    (tmp_path / ".gitignore").write_text("*\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(ruff_process, "_IN_MEMORY", "/no such folder")
    monkeypatch.setenv("RUFF_OUTPUT_FILE", str(tmp_path / "elsewhere"))
    np.testing.assert_array_equal(ruff.score([SOURCE]), expected)
    assert list(folder.iterdir()) == []


def test_no_room_for_the_texts_is_an_error(ruff, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/no such folder either")
    monkeypatch.setattr(ruff_process, "_IN_MEMORY", "/no such folder")
    with pytest.raises(InputError, match="TMPDIR"):
        ruff.score(["x=1\n"])


def test_a_ruff_that_takes_other_options_is_an_error(ruff, tmp_path, monkeypatch):
    program = tmp_path / "ruff"
    program.write_text("#!/bin/sh\necho 'unexpected argument --preview' >&2\nexit 2\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(ruff_process, "_ruff", lambda: os.fspath(program))
    with pytest.raises(InputError, match="unexpected argument --preview"):
        ruff.score(["x=1\n"])


def by_json(scorer, texts, monkeypatch):
    """Score with every text read from ruff's JSON."""
    with monkeypatch.context() as patch:
        excused = ruff_process._excused
        patch.setattr(ruff_process, "_excused", lambda source: excused(source) | {(0, "")})
        return [scorer.findings(text) for text in texts]


def test_the_short_report_says_what_json_says(ruff, monkeypatch):
    quoted = "x = '0.py:7:1: E501 '\nx = \"\\q0.py:1:1: W605\"\n"
    texts = [
        f"{SOURCE}{quoted}x=1\n\n\n",
        "x=1\n \n\t\n",
        "x = 1\r\n\r\n\r\n",
        "def f(:\n",
        "x = (\n",
        "l = 1\x0b\n\x0c\n",
        "\n\n",
    ]
    texts += [Path(module.__file__).read_text() for module in (argparse, textwrap, ruff_module)]
    found = [ruff.findings(text) for text in texts]
    assert found == by_json(ruff, texts, monkeypatch)
    assert {"E901", "W391", "W291", "W605", "E741"} <= {each.kind for findings in found for each in findings}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS)
def test_any_text_has_the_same_rows_in_both_reports(monkeypatch, text):
    scorer = phf.scorers.load("pep8-ruff")
    assert [scorer.findings(text)] == by_json(scorer, [text], monkeypatch)


def test_what_a_killed_process_left_in_memory_is_removed(ruff, tmp_path, monkeypatch):
    left, held = tmp_path / "phf-ruff-left", tmp_path / "phf-ruff-held"
    for folder in (left, held):
        folder.mkdir()
        (folder / ".lock").touch()
    monkeypatch.setattr(ruff_process, "_IN_MEMORY", str(tmp_path))
    with (held / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ruff.score(["x=1\n"])
    assert list(tmp_path.iterdir()) == [held]


def test_pickles(ruff):
    again = pickle.loads(pickle.dumps(ruff))
    np.testing.assert_array_equal(again.score([SOURCE]), ruff.score([SOURCE]))
