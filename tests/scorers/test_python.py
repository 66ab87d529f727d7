"""The python scorer calls a function and checks what it gives."""

import pickle
import sys

import numpy as np
import pytest

import phf.scorers.python
from phf import config
from phf.annotate import annotate
from phf.documents import read_annotated
from phf.errors import InputError

CODE = """
import math
calls = []
not_a_function = 5

def minus_length(texts):
    assert type(texts) is list
    return [-len(text) if text else math.nan for text in texts]

def too_few(texts):
    return [0.0]

def words(texts):
    return ["good" for _ in texts]

def a_table(texts):
    return [[0.0] for _ in texts]
"""


@pytest.fixture(autouse=True)
def my_rewards(tmp_path, monkeypatch):
    (tmp_path / "my_rewards.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_rewards", None)
    phf.scorers.python._find.cache_clear()


def load(name):
    return phf.scorers.load("python", function=f"my_rewards.{name}")


def test_numbers_of_the_function_are_the_rewards():
    rewards = load("minus_length").score(("a", "", "abc"))
    assert rewards.dtype == np.float32
    np.testing.assert_array_equal(rewards, np.float32([-1, np.nan, -3]))
    assert load("minus_length").score([]).shape == (0,)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("too_few", r"my_rewards.too_few: returned shape \(1,\) for 2 texts; expected a number each"),
        ("a_table", r"returned shape \(2, 1\) for 2 texts"),
        ("words", r"returned \['good', 'good'\]; expected 2 numbers"),
    ],
)
def test_what_is_not_a_number_a_text_is_an_error(name, message):
    with pytest.raises(InputError, match=message):
        load(name).score(["a", "b"])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("minus_length", "found 'minus_length'; expected a dotted path, such as mypackage.mymodule.score"),
        ("my_rewards.minus length", "expected a dotted path"),
        ("no_such_module.f", r"cannot be imported \(No module named 'no_such_module'\); is its folder on PYTHONPATH\?"),
        ("my_rewards.other", "the module my_rewards has no 'other'"),
        ("my_rewards.not_a_function", "is 5; expected a function"),
    ],
)
def test_a_path_that_leads_nowhere(path, message):
    with pytest.raises(InputError, match=message):
        phf.scorers.load("python", function=path)


def test_pickles_and_scores_in_other_processes(tmp_path):
    again = pickle.loads(pickle.dumps(load("minus_length")))
    np.testing.assert_array_equal(again.score(["ab"]), [-2])
    (tmp_path / "a.txt").write_text("one line\nand two\n")
    options = {"scorer": {"name": "python", "function": "my_rewards.minus_length"}, "segmenter": "lines", "workers": 1}
    annotate(
        config.Corpus(inputs=[str(tmp_path / "a.txt")]), config.check(config.Annotate, options, "annotate"), tmp_path / "out"
    )
    [document] = read_annotated(tmp_path / "out")
    np.testing.assert_array_equal(document.rewards, [-9, -8])


def test_a_function_of_the_working_folder_is_found_by_the_installed_command(tmp_path, monkeypatch):
    (tmp_path / "here.py").write_text("def score(texts):\n    return [0.5] * len(texts)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    try:
        assert phf.scorers.load("python", function="here.score").score(["a"]).tolist() == [0.5]
        assert sys.path[-1] == str(tmp_path), "last, so that no file there takes the place of an installed module"
    finally:
        sys.modules.pop("here", None)
        phf.scorers.python._find.cache_clear()
