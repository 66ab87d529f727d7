"""Runs like others: objective and training taken from another run of the recipe, and changed."""

import pytest

from phf import config
from phf.errors import InputError


def recipe(**runs):
    return config.check(config.Recipe, {"train": {"tokens": "1M"}, "runs": runs}, "")


def test_a_run_takes_objective_and_training_and_changes_them():
    base = {"objective": {"name": "conditional", "threshold": 0, "drop": 0.1}, "train": {"lr": 1e-3, "batch": 2}, "seeds": 2}
    made = recipe(
        a=base,
        b={"like": "a", "objective": {"threshold": "p40"}, "train": {"lr": 1e-4}},
        c={"like": "b", "evaluations": []},
        d={"like": "a", "objective": "mle"},
    )
    assert made.runs["b"].objective.fields == {"threshold": "p40", "drop": 0.1}
    assert (made.train_of("b").lr, made.train_of("b").batch) == (1e-4, 2)
    assert made.runs["c"].objective == made.runs["b"].objective
    assert (made.runs["d"].objective.name, made.runs["d"].objective.fields) == ("mle", {})
    assert [made.runs[name].seeds for name in "abc"] == [2, None, None]
    assert "like" not in config.dump(made)
    assert config.check(config.Recipe, config.plain(made), "") == made


def test_a_change_on_the_command_line_reaches_the_runs_that_are_like_it(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("runs: {a: {name: conditional, threshold: 0}, b: {like: a, train: {lr: 1}}, c: {like: a}}\n")
    made = config.read_recipe(path, ["runs.a.threshold=p30", "runs.c.threshold=p10", "runs.d.like=b"])
    assert {name: run.objective.fields["threshold"] for name, run in made.runs.items()} == {
        "a": "p30", "b": "p30", "c": "p10", "d": "p30",
    }  # fmt: skip
    assert made.train_of("d").lr == 1


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({"a": {"like": "b"}, "b": {"like": "a"}}, r"^runs\.a\.like: goes round in a circle: a is like b is like a$"),
        ({"a": {"like": "a"}}, r"a is like a"),
        ({"mle": "mle", "b": {"like": "mel"}}, r"runs\.b\.like: found 'mel'; did you mean 'mle'"),
        ({"a": {"like": 3}}, r"runs\.a\.like: found 3; expected the name of a run"),
        ({"a": {"train": {}}, "b": {"like": "a"}}, r"runs\.a\.objective: missing"),
        ({"a": "mle", "b": {"like": "a", "objective": {"threshold": 0}}}, r"unknown key"),
    ],
)
def test_wrong_likes_name_the_run(runs, message):
    with pytest.raises(InputError, match=message):
        recipe(**runs)
