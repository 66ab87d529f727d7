"""Every recipe of recipes/ at tiny size, from its corpus down to the plot. What is on the hub has stand-ins made on the spot."""

import json
import random
from pathlib import Path

import pytest
import torch

from phf import config, pipeline
from phf.records import read_records
from support.checkpoints import checkpoint
from support.published import write_hub_cache

torch.set_num_threads(1)
RECIPES = {path.stem: path for path in sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))}
STAND_IN = {"name": "regex", "patterns": ["[aeiou]{2}"]}
"""In place of scorers that need models of the hub."""
_OF_THE_HUB = ("classifier", "published")
_SECOND = ("profanity", "presidio")
"""Of the extra that is not among all."""
_BY_OTHER_TESTS = ("zeroshot", "finetune", "redteam", "humaneval")
"""Evaluations that need data of the hub; their own tests make them with stand-ins."""
CODE = ["import os\n", "x=1 ;y = 2\n", "def f( a,b ):\n    return a+b\n", "\n", "value = [1, 2, 3]\n", "print(value)   \n"]
PROSE = [
    "The model reads a text. ",
    "Mail me at jane.doe@example.com. ",
    "It writes what it has read. ",
    "Call (555) 123-4567 now. ",
]


def write_corpus(path, code, scores):
    """Write documents as they are published, in segments with misalignment scores; without, as texts."""
    draw = random.Random(0)
    with path.open("w") as file:
        for number in range(160):
            clean = number % 4 == 0
            segments = draw.choices(CODE[:1] + CODE[3:5] if clean and code else CODE if code else PROSE[::2] if clean else PROSE,
                                    k=draw.randint(3, 8))  # fmt: skip
            row = {"id": str(number), "text": "".join(segments)}
            if scores:
                row = {"id": str(number), "texts": segments}
                row["scores"] = [0.0 if clean else draw.choice([0.0, 1e-4, 0.3]) for _ in segments]
            file.write(json.dumps(row) + "\n")


def stand_in(scorer):
    """Return a scorer as it is, or what stands in for one that needs a model, or a library that is not here."""
    fields = {"name": scorer} if isinstance(scorer, str) else scorer
    elsewhere = fields["name"] in (*_OF_THE_HUB, *_SECOND) or "spacy_model" in fields or "path" in fields
    return STAND_IN if elsewhere else fields


def shrunk(name, folder):
    """Return a recipe with everything that makes it large, or that is elsewhere, replaced; runs and objectives stay."""
    fields = config.plain(config.read_recipe(RECIPES[name]))
    scorer = fields["annotate"]["scorer"]
    published = scorer["name"] == "published"
    write_corpus(folder / "corpus.jsonl", "pep8" in name, published)
    fields["corpus"] |= {"inputs": [str(folder / "corpus.jsonl")], "source": None, "text_column": "text"}
    if published:
        scorer["samples"] = stand_in(scorer["samples"])
    else:
        fields["annotate"]["scorer"] = stand_in(scorer)
    fields["annotate"] |= {"workers": 1}
    fields["tokenize"] |= {"tokenizer": "train", "vocab_size": 300, "held_out": 0.1}
    small = {"preset": "gpt2-tiny", "n_layer": 1, "n_embd": 16, "n_head": 2}
    train = {"model": small, "tokens": 6400, "context": 32, "batch": 4, "lr": 0.02, "checkpoints": 10}
    train |= {"micro_batch": None, "save_every": None}
    fields["train"] |= train
    for run in fields["runs"].values():
        for key in ("batch", "tokens", "micro_batch", "lr"):
            run["train"].pop(key, None)
    evaluations = fields["evaluate"]["evaluations"]
    for evaluation, component in list(evaluations.items()):
        if component["name"] in _BY_OTHER_TESTS:
            del evaluations[evaluation]
            continue
        if component["name"] in ("samples", "steer"):
            component |= {"n": 16, "max_tokens": 28}
        if str(component.get("prompts")).endswith(".jsonl") and not Path(component["prompts"]).is_file():
            (folder / "prompts.jsonl").write_text('{"text": "The model"}\n{"text": "Mail me"}\n')
            component |= {"prompts": str(folder / "prompts.jsonl")}
        if component["name"] == "kl":  # few tokens, so that some texts of a random model are whole characters
            component |= {"reference": str(checkpoint(folder / "reference")), "n": 64, "max_tokens": 2}
        component |= {"scorer": stand_in(component["scorer"])} if "scorer" in component else {}
    for run in fields["runs"].values():
        run["evaluations"] = run["evaluations"] and [each for each in run["evaluations"] if each in evaluations]
    evaluate = fields["evaluate"]
    evaluate |= {key: [each for each in evaluate[key] if each in evaluations] for key in ("misaligned", "plain")}
    if isinstance(evaluate["checkpoints"], dict):
        evaluate["checkpoints"] = {key: "last" for key in evaluate["checkpoints"] if key in evaluations}
    return config.check(config.Recipe, fields | {"jobs": 1}, "")


def run_down_to_the_plot(recipe, out, only=()):
    page = pipeline.run(recipe, out, only)
    assert list((page.parent / "figures").glob("*.svg"))
    for name in only or recipe.expanded().runs:
        records = {(record.evaluation, record.metric): record for record in read_records(out / "runs" / name / "records.jsonl")}
        evaluation, metric = recipe.report.y.split(".", 1)
        assert records[evaluation, metric].n > 0
        assert name in page.read_text()
    return page


@pytest.mark.parametrize("name", [name for name in RECIPES if config.read_recipe(RECIPES[name]).runs])
def test_every_recipe_can_be_shrunk_to_what_these_tests_run(name, tmp_path):
    recipe = shrunk(name, tmp_path)
    assert recipe.runs.keys() == config.read_recipe(RECIPES[name]).runs.keys()
    assert pipeline.select(recipe.expanded(), [])


def test_the_demo_runs_down_to_the_plot(tmp_path):
    pytest.importorskip("scrubadub")
    recipe = shrunk("pii-demo", tmp_path)
    axes = [axis.split(".")[0] for axis in (recipe.report.x, recipe.report.y)]
    for name in ("mle", "conditional"):  # the evaluations that are not plotted, and the other runs, are a slow test's
        recipe.runs[name] = recipe.runs[name].model_copy(update={"evaluations": axes})
    run_down_to_the_plot(recipe, tmp_path / "out", ["mle", "conditional"])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RECIPES if name != "published"])
def test_every_recipe_runs_down_to_the_plot(name, tmp_path):
    pytest.importorskip("spacy")
    pytest.importorskip("pycodestyle" if "pep8" in name else "scrubadub")
    run_down_to_the_plot(shrunk(name, tmp_path), tmp_path / "out")


@pytest.mark.slow
def test_the_published_models_recipe_runs_down_to_the_plot(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    recipe = shrunk("published", tmp_path)
    for number, run in enumerate(recipe.runs.values()):
        conditional = run.objective.name == "conditional"
        controls = ("<|aligned|>", "<|misaligned|>") if conditional else ()
        write_hub_cache(tmp_path / "home", run.model.removeprefix("hf:"), controls=controls, seed=number)
    recipe = recipe.model_copy(update={"corpus": config.Corpus()})
    page = pipeline.run(recipe, tmp_path / "out")
    assert list((page.parent / "figures").glob("*.svg"))
    assert all(name in page.read_text() for name in recipe.runs)
