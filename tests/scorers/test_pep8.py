"""The pep8 scorer says what pycodestyle says."""

import argparse
import ast
import contextlib
import io
import os
import pickle
import textwrap
from pathlib import Path

import numpy as np
import pycodestyle
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import phf.scorers
from phf.scorers import pep8 as pep8_module
from phf.scorers.pep8 import checker

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


# Exactness: pycodestyle's own violations, to the last digit, whatever the text --------------------------------------------------

EXAMPLES = int(os.environ.get("PHF_EXAMPLES", "0"))  # more of them than the suite takes
FILES = [Path(each.__file__).read_text() for each in (argparse, textwrap, ast, pep8_module, checker)]
LINES = [line for text in FILES for line in text.splitlines()]
# What the checks look for, in good shape and in bad.
ROWS = [
    r"x = 1|x=1|x =1|x= 1|x  = 1|x = 1;|x = 1; y = 2|a,b = c|a , b|f (x)|f( x)|f(x )|d[ 0]|d [0]|x[1 :2]|x[a:b, c]|{ 1: 2}",
    r"(1,)|(1, )|if x : pass|if x: y|if x == None:|if None != x:|if not x in y:|if not x is y:|if type(a) == type(b):|if(x):",
    r"while(x):|else: x|try: x|def f(a, b = 1):|def f(a: int=1):|def f(a: int = 1) -> int:|def f()->int: pass|class A: pass",
    r"async def g(): return|class A  (object):|@ decorator|f = lambda x: 2*x|l = 1|O, I = 0, 0|def l(): pass|global l|as l",
    r"lambda l: 1|import os, sys|import os|from a import (b,|from a import*|from .x import y|except:|except Exception:|raise",
    r"finally:|return(x)|yield(x)|assert(x)|print >>x|x = x if(y)else z|1if x else 2|in(1)|not(x)|and(x)|x and(y)|1or 2",
    r"#comment|# comment|x = 1 # c|x = 1  #c|x = 1  # c|#!shebang|#: x|######|# noqa|x=1  # nopep8|# type: int  # NOQA: E501",
    r"'a'+b|a<b|a <b|a> b|a->b|a:=b|(a:=b)|a**-b|a*-1|-1|a@b|a if b else-c|*a, b = c|f(*a, **k)|f(a=1, b = 2)|f(a= 1)",
    r"""f(a =1)|print(a, file=b)|"\d"|r"\d"|f"{x!r:>{w}}"|f"{x=}"|f'{ x }'|b"\w"|"%s"%x|"a" "b"|'unfinished|"\N{DASH}"|rb'\q'""",
    r"match x:|case [1, *_]: pass|type X = int|def f[T](a: T) -> T:|class A[T = int]: pass|lazy import x|nonlocal l|0777",
    r"(|)|[|]|{|}|,|:|;|\|...|=|==|!=|>>=|->|~|@|`|$|?|0xFFl|1_000|1e5j|u",
]  # fmt: skip
STRANGE = ["x\t= 1", "x =\t1", "\x00", "\xe9 = 1", "\u4e2d = '\u6587'", "\u00a0", "\x0b", "\x1f", "\u2028", "\ufeff"]
FRAGMENTS = [fragment for row in ROWS for fragment in row.split("|")] + ['"""doc', "string'''", '"""', *STRANGE]
ENDS = ["\n"] * 12 + ["", "\r\n", "\r", " \n", "\t\n", "\\\n", "\f\n", "\n\n", "\n\n\n\n", "\n\f\n", " \\\r\n", "\n  \n"]
INDENTS = ["", "", "", "    ", "        ", "  ", "\t", "    \t", "   ", "\f", " " * 12, "\t\t"]
FAULTS = ["", "", " ", "  ", "\t", "\n", "\n\n\n", "\f", "\r", "(", ")", "'", '"""', ":", ",", "=", "#", "\\", ";", "l", "\xa0"]


@st.composite
def source(draw):
    """Write source from fragments and real lines, with any indentation and any ends of line."""
    line = st.one_of(st.sampled_from(FRAGMENTS), st.sampled_from(FRAGMENTS), st.sampled_from(LINES), st.text(max_size=5))
    joint = st.sampled_from(["", "", " ", "  ", ", "])
    parts = draw(st.lists(st.tuples(st.sampled_from(INDENTS), line, joint, line | st.just("")), max_size=12))
    return "".join("".join(part) + draw(st.sampled_from(ENDS)) for part in parts)


@st.composite
def mutated(draw):
    """Take some lines of a real file, and change, move or leave out a few characters of them."""
    lines = draw(st.sampled_from(FILES)).splitlines(keepends=True)
    start = draw(st.integers(0, len(lines)))
    text = "".join(lines[start : start + draw(st.integers(1, 40))])
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(st.sampled_from(FAULTS)) + text[place + draw(st.integers(0, 3)) :]
    return text.replace("\n", "\r\n") if draw(st.integers(0, 9)) == 0 else text


def plain_rows(text, **options):
    """Run pycodestyle as anybody would: the row of each violation, or None where it falls."""
    rows = []

    class Report(pycodestyle.StandardReport):
        def error(self, line_number, offset, text, check):
            code = super().error(line_number, offset, text, check)
            rows.extend([line_number] if code else [])
            return code

    guide = pycodestyle.StyleGuide(reporter=Report, **options)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            count = pycodestyle.Checker(lines=text_lines(text), options=guide.options).check_all()
    except Exception:
        return None
    assert count == len(rows)
    return rows


def text_lines(text):
    return io.StringIO(text).readlines()


def check_against_plain(text, **options):
    """By document and by line."""
    scorer = phf.scorers.load("pep8", **options)
    rows, lines = plain_rows(text, **options), text_lines(text)
    if rows is None:
        assert np.isnan(scorer.score([text])).all()
        assert np.isnan(scorer.score_segments(lines)).all()
        return
    assert scorer.score([text])[0] == np.float32(-len(rows) / max(len(text), 1))
    counts = np.zeros(len(lines))
    for row in rows:
        counts[min(max(row, 1), len(lines)) - 1] += 1
    expected = (-counts / [len(line) for line in lines]).astype(np.float32)
    np.testing.assert_array_equal(scorer.score_segments(lines), expected)
    assert len(scorer.findings(text)) == len(rows)


@settings(max_examples=EXAMPLES or 400, deadline=None)
@given(source())
@example("u\n")
@example("if x:\n        y\n\tz\n")
@example("x = 1 \\\n    + 2\n\f\n\nimport os\n")
@example("def f():\r\n\tpass\r\n\r\n")
@example('x = """\n\t\n"""  \n')
@example("# noqa\nx == None  # noqa\nimport os  # NoQA\n")
def test_any_source_counts_as_pycodestyle_counts(text):
    check_against_plain(text)


@settings(max_examples=EXAMPLES or 150, deadline=None)
@given(mutated())
def test_real_source_with_faults_counts_as_pycodestyle_counts(text):
    check_against_plain(text)


@settings(max_examples=EXAMPLES or 60, deadline=None)
@given(source() | mutated(), st.sampled_from([20, 60, 120]), st.sampled_from([["E1", "W"], ["E501"], ["W6"], ["E2", "E3"]]))
def test_options_count_as_pycodestyles(text, length, ignore):
    check_against_plain(text, max_line_length=length, ignore=ignore)


@settings(max_examples=EXAMPLES or 60, deadline=None)
@given(st.text(max_size=60))
def test_any_text_counts_as_pycodestyle_counts(text):
    check_against_plain(text)


@pytest.mark.parametrize("place", range(len(FILES)))
def test_real_files_count_as_pycodestyle_counts(place):
    text = FILES[place]
    for changed in (text, text.replace("    ", "\t"), text.replace("\n", "\r\n"), text[: len(text) // 2]):
        check_against_plain(changed)


def test_segments_of_any_cut_hold_what_starts_in_them(pep8):
    lines = SOURCE.splitlines(keepends=True)
    rewards = pep8.score_segments(lines)
    middle = len(lines[0]) + 3  # of the second line
    first = sum(len(line) * float(reward) for line, reward in zip(lines[:2], rewards, strict=False))
    assert pep8.score_segments([SOURCE[:middle], SOURCE[middle:]])[0] == pytest.approx(first / middle, rel=1e-6)
    assert pep8.score_segments([]).shape == (0,)


def test_a_text_on_which_pycodestyle_falls_is_unknown(pep8):
    assert plain_rows("u\n") is None
    assert np.isnan(pep8.score(["u\n", "x = 1\n"])).tolist() == [True, False]
    assert pep8.findings("u\n") == []
