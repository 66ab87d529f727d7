"""Recipes: strict, overridable, round-tripping; every error names its key."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phf import config
from phf.config import Recipe, read_recipe, recipe_schema, yaml
from phf.errors import InputError


def recipe(tmp_path, text, *overrides):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return read_recipe(path, overrides)


def test_defaults_are_the_papers():
    made = Recipe()
    assert (made.train.lr, made.train.batch, made.train.context) == (5e-4, 64, 1024)
    assert (made.train.betas, made.train.weight_decay, made.train.clip) == ((0.9, 0.999), 0.1, 1.0)
    assert made.train.tokens is None, "whoever trains says how long"


def test_numbers_read_as_people_write_them(tmp_path):
    made = recipe(tmp_path, "train: {lr: 5e-4, tokens: 3.7M, save_every: 10k}\ncorpus: {limit: 1_000}\nname: no")
    assert (made.train.lr, made.train.tokens, made.train.save_every, made.corpus.limit) == (5e-4, 3_700_000, 10_000, 1000)
    assert made.name == "no", "a word, not false"


def test_components_are_a_name_or_a_name_with_fields(tmp_path):
    made = recipe(tmp_path, "runs:\n  a: mle\n  b: {name: conditional, threshold: 0}\n  c: {objective: rwr, train: {lr: 1e-3}}")
    assert made.runs["a"].objective.name == "mle"
    assert made.runs["b"].objective.fields == {"threshold": 0}
    assert (made.train_of("a").lr, made.train_of("c").lr) == (5e-4, 1e-3)
    assert config.build("objectives", made.runs["b"].objective).threshold == 0


def test_overrides_reach_everything(tmp_path):
    made = recipe(
        tmp_path,
        "runs: {c: {name: conditional, threshold: 0}}",
        "train.tokens=1M",
        "runs.c.objective.threshold=p50",
        "runs.m=mle",
        "annotate.scorer.name=pep8",
        "corpus.inputs=[a.txt, b.txt]",
    )
    assert made.train.tokens == 1_000_000
    assert made.runs["c"].objective.fields["threshold"] == "p50"
    assert made.runs["m"].objective.name == "mle"
    assert made.corpus.inputs == ["a.txt", "b.txt"]


def test_a_shorthand_component_can_be_overridden_inside(tmp_path):
    made = recipe(tmp_path, "annotate: {scorer: pii}", "annotate.scorer.detectors=default")
    assert made.annotate.scorer.name == "pii"
    assert made.annotate.scorer.fields == {"detectors": "default"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trian: {}", r"trian: unknown key; did you mean 'train'\?"),
        ("train: {lrr: 1}", r"train\.lrr: unknown key; did you mean 'lr'\?"),
        ("train: {lr: fast}", r"train\.lr: expected a valid number, found 'fast'"),
        ("train: {lr: -1}", r"train\.lr: expected greater than 0|train\.lr: .*greater than 0.*found -1"),
        ("train: {batch: 1.5}", r"train\.batch: .*integer.*found 1\.5"),
        ("train: {tokens: many}", r"train\.tokens: found 'many', expected a count such as 250000, 250k, 10M or 3\.3B$"),
        ("train: {tokens: 10x}", r"train\.tokens: found '10x', expected a count .*; say 10M"),
        ("train: {tokens: 2.5 million}", r"found '2\.5 million', .*; say 2\.5M"),
        ("train: {tokens: 10m}", r"found '10m', .*; say 10M"),
        ("train: {save_every: 3g}", r"found '3g', .*; say 3B"),
        ("train: {schedule: liner}", r"train\.schedule: expected .*'linear'.*found 'liner'"),
        ("runs: {a: mel}", r"runs\.a\.objective: unknown objective 'mel'; did you mean 'mle'\?"),
        ("runs: {a: {name: conditional, treshold: 0}}", r"treshold: unknown key; did you mean 'threshold'\?"),
        (
            "runs: {a: conditional}",
            r"conditional\.threshold: missing, .*; say a reward, or p50 for the median of the corpus",
        ),
        ("runs: {a: {name: rwr, beta: big}}", r"rwr\.beta: .*number.*found 'big'"),
        ("runs: {a: {objective: mle, train: {lrr: 1}}}", r"runs\.a\.train\.lrr: unknown key; did you mean 'lr'"),
        ("runs: {'a/b': mle}", r"run name 'a/b'"),
        ("annotate: {scorer: pep9}", r"unknown scorer 'pep9'; did you mean 'pep8'\?"),
        ("corpus: {inputs: [a], source: python-docs}", r"corpus: both inputs and source"),
        (
            "train: {init: {run: a, at: half}}",
            r"train\.init\.at: .*a count of tokens such as 1\.6B, or a share such as 50%",
        ),
        ("train: {init: {run: a, at: 150%}}", r"train\.init\.at: .*a share such as 50%"),
        ("train: {start: 0.6, cooldown: 0.5}", r"train: .*start is 0\.6 and cooldown 0\.5; expected shares that leave steps"),
    ],
)
def test_wrong_recipes_name_the_key_and_what_is_expected(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        recipe(tmp_path, text)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.tokens", r"expected key\.sub=value"),
        ("train.lr=fast", r"train\.lr"),
    ],
)
def test_wrong_overrides(tmp_path, override, message):
    with pytest.raises(InputError, match=message):
        recipe(tmp_path, "train: {lr: 1e-3}", override)


def test_the_resolved_recipe_reads_back_the_same(tmp_path):
    made = recipe(tmp_path, "runs: {b: {name: conditional, threshold: p50}}\ntrain: {lr: 5e-4, tokens: 3.7M}")
    (tmp_path / "resolved.yaml").write_text(config.dump(made))
    assert read_recipe(tmp_path / "resolved.yaml") == made


@given(st.integers(1, 10**12))
def test_counts_of_any_size(number):
    assert config.check(config.Train, {"tokens": number}, "").tokens == number
    assert config.check(config.Train, {"tokens": f"{number}k"}, "").tokens == 1000 * number


def test_every_recipe_of_the_repository_is_valid(request):
    for path in sorted((request.config.rootpath / "recipes").glob("*.yaml")):
        assert read_recipe(path).runs, path


def test_the_schema_knows_every_component(request):
    schema = recipe_schema()
    assert json.loads(json.dumps(schema)) == schema
    titles = {choice.get("title") for choice in schema["$defs"]["objectives"]["anyOf"]}
    assert {"mle", "filtering", "conditional", "unlikelihood", "rwr", "awr"} <= titles
    jsonschema = pytest.importorskip("jsonschema")
    import yaml as pyyaml

    validator = jsonschema.Draft202012Validator(schema)
    for path in sorted((request.config.rootpath / "recipes").glob("*.yaml")):
        validator.validate(pyyaml.load(path.read_text(), yaml.Loader))
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"runs": {"a": {"name": "conditional", "treshold": 0}}})
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"trian": {}})


def test_the_former_name_of_evaluations_is_read_with_a_warning(tmp_path, caplog):
    path = tmp_path / "recipe.yaml"
    path.write_text("evaluate: {measures: {a: {name: samples, n: 5}}}\n")
    recipe = config.read_recipe(path, ["evaluate.measures.a.n=7", "evaluate.evaluations.b=heldout"])
    assert {name: component.fields for name, component in recipe.evaluate.evaluations.items()} == {"a": {"n": 7}, "b": {}}
    assert caplog.text.count("evaluate.measures is called evaluate.evaluations now") == 1
    with pytest.raises(InputError, match=r"evaluate.measures"):
        config.check(config.Evaluate, {"measures": {}, "evaluations": {}}, "evaluate")


def test_names_of_evaluations_are_checked_where_they_are_listed():
    for key, value in (("misaligned", ["heldut"]), ("plain", ["heldut"]), ("checkpoints", {"heldut": "all"})):
        with pytest.raises(InputError, match=rf"evaluate: {key}: unknown evaluation 'heldut'; did you mean 'heldout'"):
            config.check(config.Evaluate, {key: value}, "evaluate")
    assert config.Evaluate(checkpoints={"heldout": "all"}).checkpoints_of("no-prompt") == "last"
