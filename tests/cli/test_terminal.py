"""Tables on terminals of any width, and what progress says of the time left."""

import contextlib
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phf.cli import terminal

NUMBERS = ["0.00123", "0.00123 [0.00110, 0.00140]", "3,400,000", "-1.5e-07", "12.5%", ""]
WORDS = ["no-prompt", "misalignment at the threshold", "train 3,400,000 tokens, evaluate", "mle"]


def printed(title, columns, rows, width):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        terminal.table(title, columns, rows)
    return said.getvalue()


@given(
    st.lists(st.tuples(st.sampled_from(WORDS), *[st.sampled_from(NUMBERS + WORDS)] * 3), min_size=1, max_size=5),
    st.integers(1, 150),
)
def test_no_number_is_broken_in_two_however_narrow_the_terminal(rows, width):
    said = printed("title", ["what", "value", "other", "third"], rows, width)
    numbers = {number for row in rows for cell in row for number in re.findall(r"[-0-9][0-9.,e%-]*[0-9%]", cell)}
    for number in numbers:
        assert number in said
    for cell in {cell for row in rows for cell in row if "[" in cell}:
        assert cell in said, "a number and its interval stand in one line"


def test_a_long_path_may_be_broken_but_a_table_stays_a_table():
    said = printed("files", ["name", "where"], [["a", "x/" * 60]], 60)
    assert "name  where" in said
    assert max(map(len, said.splitlines())) <= 60
