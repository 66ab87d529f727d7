"""The paper's recipes hold the hyperparameters of the paper, and the facts that REFERENCE.md lists where it is there."""

import re
from pathlib import Path

import pytest

from phf import config

FOLDER = Path(__file__).parents[2] / "recipes"
REFERENCE = Path(__file__).parents[3] / "shared" / "REFERENCE.md"
TASKS = ("toxicity", "pii", "pep8")
OBJECTIVES = ("mle", "conditional", "filtering", "unlikelihood", "rwr", "awr")


@pytest.fixture(params=TASKS)
def task(request):
    return request.param


def read(task):
    return config.read_recipe(FOLDER / f"paper-{task}.yaml")


def rate_and_batch(recipe, run):
    options = recipe.train_of(run)
    return options.lr, options.batch


PRETRAINING = {
    "toxicity": dict.fromkeys(OBJECTIVES, (5e-4, 64)) | {"awr": (1e-3, 1024), "rwr": (5e-4, 1024)},
    "pii": dict.fromkeys(OBJECTIVES, (5e-4, 64)),
    "pep8": dict.fromkeys(OBJECTIVES, (8e-4, 64)) | {"awr": (1e-3, 256), "rwr": (1e-3, 64)},
}
FINETUNING = {
    "toxicity": dict.fromkeys(OBJECTIVES, (5e-4, 64)) | {"awr": (1e-3, 512), "rwr": (5e-4, 512)},
    "pii": dict.fromkeys(OBJECTIVES, (1e-4, 128)) | {"awr": (1e-4, 512), "rwr": (1e-4, 512)},
    "pep8": dict.fromkeys(OBJECTIVES, (5e-4, 64)),
}


def test_pretraining_has_the_papers_rates_and_batches(task):
    recipe = read(task)
    assert {name: rate_and_batch(recipe, name) for name in OBJECTIVES} == PRETRAINING[task]
    shared = config.Train(model="gpt2-small", tokens=3_300_000_000, context=1024, checkpoints=10)
    for key in ("model", "tokens", "context", "checkpoints", "schedule", "warmup", "betas", "weight_decay", "clip"):
        assert getattr(recipe.train, key) == getattr(shared, key), key


def test_finetuning_with_feedback_has_hyperparameters_of_its_own_and_a_control(task):
    recipe = read(task)
    for percent in (50, 90):
        runs = {name: f"{name}-from-{percent}" for name in OBJECTIVES}
        assert {name: rate_and_batch(recipe, run) for name, run in runs.items()} == FINETUNING[task]
        for name, run in runs.items():
            assert recipe.runs[run].objective == recipe.runs[name].objective
            init = recipe.train_of(run).init
            assert (init.run, init.at, init.rate) == ("mle", f"{percent}%", "restart")
            assert recipe.train_of(run).tokens == 3_300_000_000, "the budget of both together"


def test_objectives_have_the_papers_fields():
    toxicity, pii, pep8 = (
        {name: run.objective.fields for name, run in read(task).runs.items() if name in (*OBJECTIVES, "unlikelihood-blend")}
        for task in TASKS
    )
    assert toxicity["conditional"] == {"threshold": -5.6e-4, "drop": 0.01}
    assert toxicity["filtering"] == {"threshold": -7.8e-4, "unscored": "drop"}
    assert toxicity["unlikelihood"] == {"threshold": -7.8e-4, "alpha": 1}
    assert "unlikelihood-blend" not in toxicity
    assert pii["conditional"] == {"threshold": 0, "drop": 0.01}
    assert pii["filtering"] == {"threshold": "p50", "unscored": "drop"}
    assert (pii["unlikelihood"], pii["unlikelihood-blend"]) == ({"threshold": 0, "alpha": 1}, {"alpha": 1})
    assert pep8["conditional"] == {"threshold": 0, "drop": 0.1}
    assert pep8["filtering"] == {"threshold": -2.361e-3, "unscored": "keep"}
    assert (pep8["unlikelihood"], pep8["unlikelihood-blend"]) == ({"threshold": 0, "alpha": 0.01}, {"alpha": 0.01})
    assert [fields["rwr"] for fields in (toxicity, pii, pep8)] == [{"beta": 10}] * 3
    assert [fields["awr"] for fields in (toxicity, pii, pep8)] == [
        {"alpha": 0.5, "beta": 10, "value": "sigmoid"},
        {"alpha": 0.5, "beta": 0.1, "value": "sigmoid"},
        {"alpha": 0.05, "beta": 1, "value": "sigmoid"},
    ]


def test_the_reference_says_the_same_of_finetuning():
    if not REFERENCE.exists():
        pytest.skip(f"{REFERENCE} is not there")
    (line,) = [line for line in REFERENCE.read_text().splitlines() if line.startswith("Finetuning with feedback: PII")]
    said = re.findall(r"(PII|toxicity|PEP8)(?: (conditional|AWR))?(?: learning rate)? ([0-9.e-]+),(?: batch)? (\d+)", line)
    assert len(said) == 4
    for task, objective, rate, batch in said:
        for name in [objective.lower()] if objective else OBJECTIVES:
            assert FINETUNING[task.lower()][name] == (float(rate), int(batch)), (task, objective)


def test_curves_are_of_what_is_cheap(task):
    evaluate = read(task).evaluate
    everywhere = {name for name in evaluate.evaluations if evaluate.checkpoints_of(name) == "all"}
    assert everywhere == {"no-prompt", "kl"}


def test_the_page_plots_the_papers_score(task):
    assert read(task).report.y == "no-prompt.misalignment_with_cut"


def test_samples_are_scored_as_published():
    toxicity = read("toxicity")
    samples = toxicity.evaluate.evaluations["no-prompt"].fields
    unbiased = {"name": "classifier", "model": "unitary/unbiased-toxic-roberta", "label": "toxicity"}
    assert (samples["scorer"], samples["hit"]) == (unbiased, -0.5)
    command = next(line for line in (FOLDER / "paper-toxicity.yaml").read_text().splitlines() if "corpus.inputs" in line)
    changes = re.findall(r"'([^']+)'", command)
    own = config.read_recipe(FOLDER / "paper-toxicity.yaml", changes)
    assert own.annotate.scorer.fields == {"model": "unitary/toxic-bert", "label": "toxic"}
    assert own.evaluate.evaluations["no-prompt"].fields["scorer"] == unbiased, "a corpus of one's own does not change that"
    assert read("pii").annotate.scorer.fields["samples"]["spacy_model"] == "en_core_web_sm"


def test_commands_in_the_recipes_are_valid():
    for path in FOLDER.glob("*.yaml"):
        for line in path.read_text().splitlines():
            if line.startswith("#     phf run"):
                recipe = line.split()[3]
                quoted = re.findall(r"'([^']+)'", line)
                bare = re.findall(r" ([a-z][\w.]*=[^'\s]+)", re.sub(r"'[^']+'", "", line))
                assert config.read_recipe(FOLDER.parent / recipe, [*quoted, *bare]).runs
