"""Records survive the trip to disk and back, torn lines included."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phf.errors import InputError
from phf.records import EvaluationName, Record, Stamp, read_records, stamp, write_records

STAMP = Stamp("2026-01-01T00:00:00+00:00", "abc", "machine", {"phf": "0"}, "phf evaluate")
numbers = st.floats(allow_infinity=False)


def same(one, two):
    return all(
        a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))
        for a, b in zip((getattr(one, f) for f in Record.__slots__), (getattr(two, f) for f in Record.__slots__), strict=True)
    )


@given(st.text(), st.integers(0), st.text(), numbers, numbers, st.integers(0))
def test_round_trip(run, step, metric, value, stderr, n):
    record = Record(run, step, "heldout", metric, value, stderr, n, STAMP)
    line = record.to_json()
    assert "\n" not in line
    assert same(Record.from_json(line), record)
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_appending_cuts_off_a_torn_line(tmp_path):
    path = tmp_path / "records.jsonl"
    first, second = (Record("r", 1, "e", metric, 0.5, math.nan, 3, STAMP) for metric in ("a", "b"))
    write_records(path, [first])
    with path.open("a") as file:
        file.write('{"run": "r", "st')  # killed here
    assert [record.metric for record in read_records(path)] == ["a"]
    write_records(path, [second])
    assert [record.metric for record in read_records(path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "message"), [("{}", "no 'value'"), ("[", "not JSON"), ('{"value": 1, "stderr": 1, "stamp": {}}', "not a record")]
)
def test_a_broken_line_is_named(tmp_path, line, message):
    path = tmp_path / "records.jsonl"
    write_records(path, [Record("r", 1, "e", "m", 1.0, 0.1, 1, STAMP)])
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=message) as error:
        list(read_records(path))
    assert f"{path}, line 2" in str(error.value)


def test_a_missing_file_says_who_writes_it(tmp_path):
    with pytest.raises(InputError, match="phf evaluate"):
        list(read_records(tmp_path / "records.jsonl"))


def test_stamp_says_where_and_with_what():
    made = stamp()
    assert made.versions["python"]
    assert made.versions["phf"]
    assert "cores" in made.machine


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("no-prompt", EvaluationName("no-prompt")),
        ("no-prompt@misaligned", EvaluationName("no-prompt", control="misaligned")),
        ("heldout@plain", EvaluationName("heldout", control="plain")),
        ("steer@gamma=1.5", EvaluationName("steer", 1.5)),
        ("steer@gamma=-2@misaligned", EvaluationName("steer", -2.0, "misaligned")),
    ],
)
def test_the_name_of_an_evaluation_is_read_as_it_is_written(text, name):
    assert EvaluationName.parse(text) == name
    assert str(name) == text


def test_another_name_is_read_as_it_stands():
    for text in ("a@b", "a@gamma=x", "a@misaligned@b", ""):
        assert EvaluationName.parse(text) == EvaluationName(text)
