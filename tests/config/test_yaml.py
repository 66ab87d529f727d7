"""YAML by the rules of version 1.2, and changes of single keys."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phf.config.yaml import override, read_yaml, to_yaml
from phf.errors import InputError


def read(tmp_path, text):
    (tmp_path / "recipe.yaml").write_text(text)
    return read_yaml(tmp_path / "recipe.yaml")


def test_numbers_and_words_are_those_of_yaml_1_2(tmp_path):
    found = read(tmp_path, "{a: 5e-4, b: 1_000, c: on, d: no, e: true, f: .inf, g: 2020-01-01, h: 1.5, i: 0, j: 1.}")
    assert found == {
        "a": 5e-4,
        "b": 1000,
        "c": "on",
        "d": "no",
        "e": True,
        "f": float("inf"),
        "g": "2020-01-01",
        "h": 1.5,
        "i": 0,
        "j": 1.0,
    }


# Without NEL: PyYAML writes it plainly, and reads it as the end of a line.
text = st.text(st.characters(exclude_characters="\x85", exclude_categories=["Cs"]), min_size=1)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("word", ["08", "1e3", "5e-4", "on", "true", "null", "2020-01-01", ".inf", "1_000", "0x10", "~", ""])
def test_words_that_look_like_something_else_stay_words(tmp_path, word):
    assert read(tmp_path, to_yaml({"word": word, word: 1})) == {"word": word, word: 1}


@settings(deadline=None, max_examples=100)
@given(fields=st.dictionaries(text, values, min_size=1, max_size=4))
def test_what_is_written_reads_back(tmp_path_factory, fields):
    path = tmp_path_factory.getbasetemp() / "written.yaml"
    path.write_text(to_yaml(fields), encoding="utf-8", newline="")
    assert read_yaml(path) == fields


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("corpus: [", r"recipe\.yaml, line \d+: not valid YAML"),
        ("train: {lr: 1, lr: 2}", r"the key 'lr' is repeated"),
        ("- a", "found a list, expected keys and values"),
        ("", "empty"),
    ],
)
def test_wrong_files(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(InputError, match="no such recipe"):
        read_yaml(tmp_path / "nowhere.yaml")
    with pytest.raises(InputError, match="is a folder"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(InputError, match="not UTF-8"):
        read_yaml(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("train.lr=5e-4", {"train": {"lr": 5e-4}, "runs": {"a": "mle"}}),
        ("new.key=[1, x]", {"train": {"lr": 1}, "runs": {"a": "mle"}, "new": {"key": [1, "x"]}}),
        ("runs.a.threshold=0", {"train": {"lr": 1}, "runs": {"a": {"name": "mle", "objective": {"threshold": 0}}}}),
        ("runs.b.train.lr=2", {"train": {"lr": 1}, "runs": {"a": "mle", "b": {"train": {"lr": 2}}}}),
    ],
)
def test_changes(change, expected):
    fields = {"train": {"lr": 1}, "runs": {"a": "mle"}}
    override(fields, change)
    assert fields == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.lr", r"'train\.lr': expected key\.sub=value"),
        ("train.lr.x=1", "train.lr is 1, which has no keys inside"),
        ("train.lr=[", "not valid YAML"),
        ("=1", "expected key"),
    ],
)
def test_wrong_changes(change, message):
    with pytest.raises(InputError, match=message):
        override({"train": {"lr": 1}}, change)
