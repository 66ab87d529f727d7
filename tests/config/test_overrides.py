"""Changes of single keys of a recipe."""

import pytest

from phf.config.overrides import override
from phf.errors import InputError


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


@pytest.mark.parametrize("nothing", ["", "null"])
def test_a_run_or_evaluation_without_a_value_is_removed_as_in_a_recipe_that_includes_another(nothing):
    fields = {"train": {"init": 1}, "runs": {"a": "mle", "b": "mle"}, "evaluate": {"evaluations": {"kl": {}, "text": {}}}}
    for change in ("runs.a", "evaluate.evaluations.kl", "evaluate.evaluations.other", "train.init"):
        override(fields, f"{change}={nothing}")
    assert fields == {"train": {"init": None}, "runs": {"b": "mle"}, "evaluate": {"evaluations": {"text": {}}}}


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
