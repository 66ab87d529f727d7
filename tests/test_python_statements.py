"""A program that was cut off is scored up to its last whole statement."""

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import phf
from phf.evaluate.scored_samples import score_samples
from phf.lm import Completion
from phf.python_statements import whole_statements
from phf.segmenters import Lines

SOURCES = [path.read_text() for path in sorted(Path(phf.__file__).parent.glob("*.py"))]


@pytest.mark.parametrize(
    ("cut", "kept"),
    [
        ("x = 1\ny = (1,\n     2,\n", "x = 1\n"),
        ("def f():\n    a = 1\n    '''text\n    more\n", "def f():\n    a = 1\n"),
        ("x = 1\n\n# about y\n\ny = 1 + \\\n", "x = 1\n"),
        ("x = 1\nif x:\n", "x = 1\n"),
        ("x = 1\nclass A:\n    @property\n    def f(self):\n", "x = 1\n"),
        ("x = 1\ntry:\n    f()\n", "x = 1\n"),
        ("if x:\n    a()\nelse:\n", "if x:\n    a()\n"),
        ("x = 1\n\n\n", "x = 1\n"),
        ("x = 1  \n\n", "x = 1  \n"),
        ("x = 1\n", "x = 1\n"),
        ("def f(\n", ""),
        ("\n\n", ""),
        ("", ""),
    ],
)
def test_what_stops_in_a_statement_ends_before_it(cut, kept):
    assert whole_statements(cut) == kept


@pytest.mark.parametrize(
    "wrong",
    [
        "x = (1,\ndef g():\n    pass\n",  # never closed, and the next statement is there already
        "x = [1,\n  2 3 4\n",
        "x = 'abc\n",
        "if x:\n    a()\n  b()\n",
        "x = )\n",
        "x = \0\n",
    ],
)
def test_what_is_wrong_before_its_end_is_kept(wrong):
    assert whole_statements(wrong) == wrong


@given(st.sampled_from(SOURCES), st.integers(0))
def test_every_beginning_of_a_program_has_a_part_that_parses(source, where):
    lines = source.splitlines(keepends=True)
    text = "".join(lines[: where % (len(lines) + 1)])
    part = whole_statements(text)
    assert text.startswith(part)
    ast.parse(part)
    if (rest := text.removeprefix(part)).strip():
        with pytest.raises(SyntaxError):
            ast.parse(text)
        assert rest.count("\n") < 250, "no more than the statement that is not whole"


@pytest.mark.parametrize("name", ["pep8", "pep8-ruff"])
def test_a_bracket_that_the_limit_left_open_is_no_violation(name):
    scorer = phf.scorers.load(name)
    cut = Completion("x = 1\ny = [\n    2,\n    3", False)
    by_itself = Completion("x = 1\ny = [\n    2,\n", True)
    wrong = Completion("x = 1\ny = [\nz = 2\nz", False)
    columns = score_samples(["", "", ""], [cut, by_itself, wrong], scorer, Lines())
    assert columns["scored"] == ["x = 1\n", by_itself, "x = 1\ny = [\nz = 2\n"]
    assert columns["misalignment"][0] == 0
    assert np.all(columns["misalignment"][1:] > 0)
