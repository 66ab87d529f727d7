"""Published models by name: recipes/published.yaml, and stand-ins from the name to the page."""

import re
import sys
from pathlib import Path

import pytest
import torch

from phf import config, pipeline
from phf.cli import main
from phf.errors import InputError
from phf.hub import HubModel
from phf.pipeline import find_needs, select
from phf.records import read_records
from support.published import write_hub_cache

torch.set_num_threads(1)
RECIPE = Path(__file__).parents[1] / "recipes" / "published.yaml"
REFERENCE = Path(__file__).parents[2] / "shared" / "REFERENCE.md"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Return a folder that is the hub's cache; the hub itself cannot be reached."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "home"


def test_the_recipe_names_the_18_runs_of_the_paper():
    recipe = config.read_recipe(RECIPE)
    models = [HubModel.parse(run.model.removeprefix("hf:")).name for run in recipe.runs.values()]
    assert len(set(models)) == 18
    objectives = [run.objective.name for run in recipe.runs.values()]
    assert {name: objectives.count(name) for name in objectives} == dict.fromkeys(
        ["mle", "filtering", "conditional", "unlikelihood", "awr", "rwr"], 3
    )
    for name, run in recipe.runs.items():
        task, objective = name.split("-")
        assert run.objective.name == objective
        assert task in run.evaluations
        assert (run.segmenter.name if run.segmenter else "sentences") == ("lines" if task == "pep8" else "sentences")


def test_the_names_are_those_of_the_reference():
    if not REFERENCE.exists():
        pytest.skip(f"{REFERENCE} is not there")
    rows = re.findall(r"^\| (MLE|filtering|conditional|unlikelihood|AWR|RWR) \| (\S+/\S+) \| (\S+/\S+) \| (\S+/\S+) \|$",
                      REFERENCE.read_text(), re.MULTILINE)  # fmt: skip
    recipe = config.read_recipe(RECIPE)
    for objective, *names in rows:
        for task, name in zip(("toxicity", "pii", "pep8"), names, strict=True):
            assert recipe.runs[f"{task}-{objective.lower()}"].model == f"hf:{name}"
    assert len(rows) == 6


def small(**changes):
    fields = {
        "name": "stand-ins",
        "annotate": {"segmenter": "sentences", "scorer": {"name": "regex", "patterns": ["[A-Z]"]}},
        "runs": {
            "plain": {"model": "hf:a/plain", "objective": "mle"},
            "conditional": {"model": "hf:a/conditional", "objective": {"name": "conditional", "threshold": 0.0}},
            "code": {
                "model": "hf:a/code", "objective": {"name": "conditional", "threshold": 0.0}, "segmenter": "lines",
                "evaluations": ["style"],
            },
        },
        "evaluate": {
            "evaluations": {
                "text": {"name": "samples", "n": 8, "max_tokens": 20},
                "style": {"name": "samples", "n": 8, "max_tokens": 20, "scorer": {"name": "regex", "patterns": ["e"]}},
            },
            "misaligned": ["text"],
        },
        "report": {"y": "text.misalignment", "x": "style.misalignment"},
        "jobs": 1,
    }  # fmt: skip
    return config.check(config.Recipe, fields | changes, "")


def test_stand_ins_go_from_their_names_to_the_page(hub, tmp_path):
    write_hub_cache(hub, "a/plain", controls=(), value_head=False)
    write_hub_cache(hub, "a/conditional", seed=1)
    write_hub_cache(hub, "a/code", seed=2)
    page = pipeline.run(small(), tmp_path / "out")
    records = {
        name: {
            (record.evaluation, record.metric): record for record in read_records(tmp_path / "out/runs" / name / "records.jsonl")
        }
        for name in ("plain", "conditional", "code")
    }
    assert ("text", "misalignment") in records["plain"]
    assert ("text@misaligned", "misalignment") not in records["plain"]
    assert ("text@misaligned", "misalignment") in records["conditional"]
    assert {evaluation for evaluation, _ in records["code"]} == {"style"}
    assert {record.run for name in records for record in records[name].values()} == {"plain", "conditional", "code"}
    text = page.read_text()
    assert all(name in text for name in ("plain", "conditional", "code"))
    assert not (tmp_path / "out/annotated").exists()
    assert not (tmp_path / "out/tokens").exists()
    before = (tmp_path / "out/runs/plain/records.jsonl").read_text()
    pipeline.run(small(), tmp_path / "out")
    assert (tmp_path / "out/runs/plain/records.jsonl").read_text() == before, "evaluated already"


def test_a_held_out_evaluation_without_a_corpus_says_what_is_missing(hub, tmp_path):
    write_hub_cache(hub, "a/plain", controls=(), value_head=False)
    recipe = small(runs={"plain": {"model": "hf:a/plain", "objective": "mle"}}, evaluate={"evaluations": {"heldout": "heldout"}})
    with pytest.raises(InputError, match="annotated"):
        pipeline.run(recipe, tmp_path / "out")


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ({"model": "hf:a/b", "objective": "mle", "train": {"tokens": 5}}, "evaluated, not trained"),
        ({"objective": "mle", "segmenter": "lines"}, "belong to a run with `model`"),
        ({"objective": "mle", "train": {"init": {"run": "plain"}}}, "plain is not trained here"),
        ({"objective": "mle", "evaluations": ["txet"]}, "unknown evaluation 'txet'.*did you mean 'text'"),
    ],
)
def test_a_run_is_trained_or_named_and_not_both(run, says):
    with pytest.raises(InputError, match=says):
        small(runs={"plain": {"model": "hf:a/plain", "objective": "mle"}, "x": run})


# what a recipe needs, offline ----------------------------------------------------------------------------------------


def test_every_published_model_resolves_offline_to_what_it_needs(hub):
    wanted = {need.name: need for need in find_needs(config.read_recipe(RECIPE))}
    models = {str(run.model).removeprefix("hf:") for run in config.read_recipe(RECIPE).runs.values()}
    others = {"unitary/unbiased-toxic-roberta", "EleutherAI/gpt-neo-2.7B", "codeparrot/codeparrot"}
    assert {name for name, need in wanted.items() if need.kind == "model"} == models | others
    assert {name for name, need in wanted.items() if need.kind != "model"} == {"en_core_web_sm"}
    assert all(need.here is False for need in wanted.values() if need.kind == "model")
    assert wanted["kejian/mighty-ul"].command == "hf download kejian/mighty-ul"
    write_hub_cache(hub, "kejian/mighty-ul")
    (here,) = [need for need in find_needs(config.read_recipe(RECIPE)) if need.here]
    assert (here.name, here.command) == ("kejian/mighty-ul", None)


@pytest.mark.parametrize("task", ["toxicity", "pii", "pep8"])
def test_every_name_in_the_papers_recipes_resolves_offline(hub, task):
    wanted = find_needs(config.read_recipe(RECIPE.with_name(f"paper-{task}.yaml")))
    kinds = {need.kind for need in wanted}
    assert {"data set", "tokenizer", "model"} <= kinds
    assert all((need.here is None) == (need.kind == "data set") for need in wanted)


@pytest.mark.parametrize("task", ["toxicity", "pii", "pep8"])
def test_the_papers_recipes_measure_what_the_paper_does(task):
    evaluations = config.read_recipe(RECIPE.with_name(f"paper-{task}.yaml")).evaluate.evaluations
    attack = config.build("evaluations", evaluations["redteam"])
    assert (attack.trials, attack.rounds, attack.shots, attack.new, attack.continuations, attack.temperature) == (
        10,
        10,
        4,
        20,
        512,
        0.1,
    )
    assert (attack.instruction, attack.score_prompt) == (task, task == "pep8")
    assert attack.red.startswith("hf:")
    if task == "pep8":
        functions = config.build("evaluations", evaluations["functions"])
        assert (functions.n, functions.max_tokens, functions.count_prompt, functions.score_prompt) == (4096, 272, True, True)
        assert config.build("evaluations", evaluations["humaneval"]).problems == "hf:openai/openai_humaneval"
    else:
        glue = config.build("evaluations", evaluations["glue"])
        assert set(glue.tasks) == {"cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte"}
        assert (glue.of_run(), glue.stop_on) == ("mle", "dev")


def test_a_run_that_a_sweep_is_made_on_is_done_first():
    runs = {"other": {"objective": "mle"}, "mle": {"objective": "mle"}}
    sweep = {"name": "finetune", "sweep": {"lr": [1e-4], "batch": [16], "on": "mle"}}
    recipe = small(runs=runs, evaluate={"evaluations": {"glue": sweep}}, report={}, train={"tokens": 100_000})
    assert select(recipe, []) == select(recipe, ["other"]) == ["mle", "other"]
    recipe = small(
        runs={"other": {"objective": "mle"}}, evaluate={"evaluations": {"glue": sweep}}, report={}, train={"tokens": 100_000}
    )
    with pytest.raises(InputError, match=r"evaluations\.glue: needs the run 'mle', which the recipe does not have.*other"):
        select(recipe, [])


def test_needs_are_those_of_every_kind_and_name_their_key(hub, tmp_path):
    runs = {
        "half": {"model": "hf:a/b@81a17", "objective": "mle"},
        "served": {"model": "openai:http://h/v1#m", "objective": "mle"},
        "here": {"model": str(tmp_path), "objective": "mle"},
        "further": {"objective": "mle", "train": {"model": "from:a/c"}},
    }
    wanted = {need.key: need for need in find_needs(small(runs=runs))}
    assert {key: (need.kind, need.name, need.here) for key, need in wanted.items()} == {
        "runs.half.model": ("model", "a/b@81a17", False),
        "runs.served.model": ("server", "http://h/v1#m", None),
        "runs.further.train.model": ("model", "a/c", False),
    }
    assert wanted["runs.half.model"].command == "hf download a/b --revision 81a17"
    with pytest.raises(InputError, match="no name on the hub"):
        find_needs(small(runs={"x": {"model": "hf:a/b/c", "objective": "mle"}}))


def test_a_file_that_is_missing_is_shown_in_a_dry_run_and_stops_a_run_before_it_starts(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "300")
    missing, there = tmp_path / "missing.jsonl", tmp_path / "there.txt"
    there.write_text("one\n")
    runs = {"plain": {"model": "hf:a/plain", "objective": "mle"}}
    evaluations = {
        "prompted": {"name": "samples", "prompts": str(missing)},
        "others": {"name": "samples", "prompts": str(there)},
        "listed": {"name": "samples", "prompts": ["one", "two"]},
        "toxic": {"name": "samples", "prompts": "hf:a/prompts?text=prompt.text"},
        "programs": "humaneval",
        "glue": {"name": "finetune", "data": str(tmp_path)},
    }
    recipe = small(runs=runs, evaluate={"evaluations": evaluations}, report={})
    key = "evaluate.evaluations"
    assert {need.key: (need.kind, need.name, need.here) for need in find_needs(recipe)} == {
        "runs.plain.model": ("model", "a/plain", False),
        f"{key}.toxic.prompts": ("data set", "a/prompts", None),
        f"{key}.programs.problems": ("data set", "openai/openai_humaneval", None),
        f"{key}.prompted.prompts": ("file", str(missing), False),
        f"{key}.others.prompts": ("file", str(there), True),
        f"{key}.glue.data": ("file", str(tmp_path), True),
    }
    with pytest.raises(InputError, match=rf"{key}\.prompted\.prompts: {missing} is not on this machine.*{key}\.prompted="):
        pipeline.run(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "recipe.yaml").write_text(config.dump(recipe))
    with pytest.raises(SystemExit) as exited:
        main(["run", str(tmp_path / "recipe.yaml"), "--dry-run"])
        sys.exit(0)
    assert not exited.value.code
    (line,) = [line for line in capsys.readouterr().out.splitlines() if str(missing) in line]
    assert line.startswith("file")
    assert line.rstrip().endswith("NOT on this machine")


def test_a_dry_run_of_the_published_recipe_names_all_it_needs_and_writes_nothing(hub, tmp_path, monkeypatch, capsys):
    write_hub_cache(hub, "kejian/mighty-ul")
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as exited:
        main(["run", str(RECIPE), "--dry-run"])
        sys.exit(0)
    assert not exited.value.code
    lines = capsys.readouterr().out.splitlines()
    for run in config.read_recipe(RECIPE).runs.values():
        name = run.model.removeprefix("hf:")
        (line,) = [line for line in lines if line.startswith("model") and f" {name} " in line]
        assert ("on this machine" if name == "kejian/mighty-ul" else f"hf download {name}") in line
    assert list(folder.iterdir()) == []
