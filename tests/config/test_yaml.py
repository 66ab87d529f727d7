"""YAML by the rules of version 1.2."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phf.config.yaml import read_yaml, to_yaml
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
        ("a: !!int abc", "line 1: not valid YAML: 'abc' cannot be read as int"),
        ("a: !!bool maybe", "line 1: not valid YAML: 'maybe' cannot be read as bool"),
        ("a: !!float x.y", "line 1: not valid YAML: 'x.y' cannot be read as float"),
        ("a: !!timestamp soon", "line 1: not valid YAML: 'soon' cannot be read as timestamp"),
        ("a: !!python/object:os.system x", "line 1: not valid YAML: could not determine a constructor"),
        ("a: " + 900 * "[" + 900 * "]", "nested too deeply"),
        ("a: " + 900 * "[", "nested too deeply|line 1: not valid YAML"),
        ("{{a: 1}: 2}", "line 1: not valid YAML: a mapping stands as a key"),
        ("? [a, b]\n: 2", "line 1: not valid YAML: a sequence stands as a key"),
        ("a: !!map x", "line 1: not valid YAML: expected keys and values, found a scalar"),
        ("a: !!set [x]", "not valid YAML"),
        ("a: !!pairs x", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
    ],
)
def test_wrong_files(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_yaml(tmp_path / "nowhere.yaml")
    with pytest.raises(InputError, match="is a folder"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(InputError, match="not UTF-8"):
        read_yaml(tmp_path / "latin.yaml")
