"""Tables on terminals of any width, and what progress says of the time left."""

import contextlib
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phf.cli import terminal
from phf.cli.remaining_time import AT_LEAST, RECENT, RemainingTime
from phf.formatting import duration, percent, short_count
from phf.progress import Progress

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


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_no_time_is_shown_before_it_means_something():
    clock = Clock()
    left = RemainingTime(clock)
    assert left.update(500, 1000) is None, "what an earlier run did says nothing of the speed"
    clock.now = AT_LEAST / 2
    assert left.update(510, 1000) is None
    clock.now = AT_LEAST
    assert left.update(520, 1000) == pytest.approx(480 * AT_LEAST / 20)
    assert left.update(1000, 1000) is None, "done"
    assert left.update(530, None) is None, "of unknown size"


def test_the_time_left_follows_the_recent_speed():
    clock = Clock()
    left = RemainingTime(clock)
    for second in range(1000):  # slow at first
        clock.now = float(second)
        left.update(second, 10_000)
    for second in range(1000, 1000 + int(RECENT) + 1):  # then ten times as fast
        clock.now = float(second)
        shown = left.update(1000 + (second - 1000) * 10, 10_000)
    done = 1000 + RECENT * 10
    assert shown == pytest.approx((10_000 - done) / 10, rel=0.05)


def test_a_stage_that_stands_still_has_no_time_left_to_show():
    clock = Clock()
    left = RemainingTime(clock)
    for second in range(0, 1000, 10):
        clock.now = float(second)
        shown = left.update(5, 10)
    assert shown is None


def test_a_log_has_a_line_with_the_share(capsys):
    with terminal.progress() as listener:
        listener(Progress("train mle", 50.0, 200.0, "tokens", {"loss": 3.21}))
    assert "train mle: 50 of 200 (25%) tokens, loss 3.21\n" in capsys.readouterr().err


def test_shares_counts_and_times_are_written_one_way():
    assert [percent(share) for share in (0, 0.0123456, 0.5, 0.9999, 1)] == ["0%", "1.23%", "50%", "100%", "100%"]
    assert [short_count(count) for count in (12, 1500, 3_400_000, 3_300_000_000)] == ["12", "1.5k", "3.4M", "3.3B"]
    assert [duration(seconds) for seconds in (5, 125, 3725, 200_000)] == ["0:05", "2:05", "1:02:05", "2 days 8 h"]
