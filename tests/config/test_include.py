"""Recipes built on others: keys merged, paths relative to the file, circles refused."""

import pytest

from phf.config import read_recipe
from phf.errors import InputError

BASE = """
name: base
annotate: {scorer: {name: regex, patterns: [a]}, part: 10}
train: {lr: 1e-3, tokens: 1M}
runs:
  mle: mle
  conditional: {name: conditional, threshold: 0}
  rwr: {objective: {name: rwr, beta: 1}, train: {lr: 2e-3}}
"""


def write(folder, **texts):
    for name, text in texts.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "top.yaml"


def test_keys_are_merged_and_the_recipe_wins(tmp_path):
    top = """
include: below/base.yaml
name: top
annotate: {scorer: {patterns: [b]}}
train: {tokens: 2M}
runs: {conditional: {objective: {drop: 0.1}}, awr: {name: awr, beta: 1}, rwr: }
"""
    recipe = read_recipe(write(tmp_path, top=top, below__base=BASE), ["train.batch=2"])
    assert recipe.name == "top"
    assert recipe.annotate.scorer.fields == {"patterns": ["b"]}
    assert (recipe.annotate.part, recipe.train.lr, recipe.train.tokens, recipe.train.batch) == (10, 1e-3, 2_000_000, 2)
    assert recipe.runs["conditional"].objective.fields == {"threshold": 0, "drop": 0.1}
    assert list(recipe.runs) == ["mle", "conditional", "awr"]


def test_another_component_keeps_no_field_of_the_one_below(tmp_path):
    runs = "runs: {conditional: {name: rwr, beta: 2}, rwr: {objective: mle}}"
    top = f"include: [base.yaml]\nannotate: {{scorer: {{name: toxicity}}}}\n{runs}"
    recipe = read_recipe(write(tmp_path, top=top, base=BASE))
    assert recipe.annotate.scorer.fields == {}
    assert recipe.runs["conditional"].objective.fields == {"beta": 2}
    assert recipe.runs["rwr"].objective.name == "mle"
    assert recipe.train_of("rwr").lr == 2e-3


def test_several_files_and_files_that_include(tmp_path):
    top = write(
        tmp_path, top="include: [a.yaml, b.yaml]", a="include: base.yaml\ntrain: {lr: 5}", b="train: {batch: 3}", base=BASE
    )
    recipe = read_recipe(top)
    assert (recipe.train.lr, recipe.train.batch, recipe.train.tokens) == (5, 3, 1_000_000)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"top": "include: top.yaml"}, r"top\.yaml: include: goes round in a circle: top\.yaml includes top\.yaml"),
        ({"top": "include: a.yaml", "a": "include: top.yaml"}, r"circle: top\.yaml includes a\.yaml includes top\.yaml"),
        ({"top": "include: none.yaml"}, r"top\.yaml: include: .*none\.yaml: no such file"),
        ({"top": "include: 3"}, r"top\.yaml: include: found 3; expected a file name"),
        ({"top": "include: {a: b}"}, r"include: found \{'a': 'b'\}"),
        ({"top": "include: ['']"}, r"include: found \[''\]"),
        ({"top": "include: a.yaml", "a": "x: ["}, r"top\.yaml: include: .*a\.yaml, line \d: not valid YAML"),
        ({"top": "include: a.yaml\ntrain: 3", "a": "train: {lrr: 3}"}, r"top\.yaml: train: .*found 3"),
    ],
)
def test_wrong_includes_name_both_files(tmp_path, texts, message):
    with pytest.raises(InputError, match=message):
        read_recipe(write(tmp_path, **texts))
