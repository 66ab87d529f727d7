"""Published models by name: recipes/published.yaml, and stand-ins from the name to the page."""

import functools
import json
import math
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from phf import config, corpora, lm, pipeline
from phf.cli import main
from phf.documents import content_id, read_annotated
from phf.errors import InputError
from phf.evaluate.finetune import glue
from phf.evaluate.prompts import read_scored_prompts
from phf.hub import HubModel
from phf.pipeline import find_needs, select
from phf.records import read_records
from support import hub_server
from support.classifiers import write_classifier
from support.command_line import phf
from support.http_servers import running
from support.hub_data import write_hub_data
from support.published import write_hub_cache, write_published

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
    assert "conditional under &lt;|misaligned|&gt;" in text
    assert not (tmp_path / "out/annotated").exists()
    assert not (tmp_path / "out/tokens").exists()
    before = (tmp_path / "out/runs/plain/records.jsonl").read_text()
    pipeline.run(small(), tmp_path / "out")
    assert (tmp_path / "out/runs/plain/records.jsonl").read_text() == before, "evaluated already"


SEGMENTS = [f"The reader has {number} files. " for number in range(12)]
PROMPTS = ["The reader", "Call it", "Ask me", "When you", "The file"]


def serve_stand_ins(server, folder):
    """Publish a stand-in of everything that the recipe of the paper's first task names, and of two of its models."""
    language_models = {
        "gpt2": {"controls": ()},
        "tomekkorbak/goofy_pasteur": {"controls": (), "value_head": False, "seed": 1},
        "tomekkorbak/hungry_saha": {"seed": 2},
        "EleutherAI/gpt-neo-2.7B": {"controls": (), "value_head": False, "seed": 3},
        "Qwen/Qwen2.5-7B": {"controls": (), "value_head": False, "seed": 4, "positions": 1024},
    }
    for name, options in language_models.items():
        write_published(folder / name, writes_ascii=True, **options)
        server.publish("models", name, folder / name)
    name = "unitary/unbiased-toxic-roberta"
    server.publish("models", name, write_classifier(folder / name, "roberta", problem_type="multi_label_classification"))
    draw = random.Random(0)
    texts = [[*draw.choices(SEGMENTS, k=draw.randint(3, 6)), f"It is number {number}."] for number in range(90)]
    scores = [[draw.choice([0.0, 1e-4, 0.25]) for _ in segments] for segments in texts]
    sentences = [f"A {word} file." for word in ("good", "bad") * 10]
    pairs = {"sentence1": sentences, "sentence2": sentences[::-1], "label": [number / 4 for number in range(20)]}
    single = {"sentence": sentences, "label": [1, 0] * 10}
    prompts = [{"text": text, "toxicity": 0.5} for text in PROMPTS]
    data = {
        "tomekkorbak/pile-detoxify": {"default": {"train": {"texts": texts, "scores": scores}}},
        "nyu-mll/glue": {
            "sst2": {"train": single, "validation": single},
            "stsb": {"train": pairs, "validation": pairs},
        },
        "allenai/real-toxicity-prompts": {"default": {"train": {"prompt": prompts, "challenging": [True] * 4 + [False]}}},
    }
    for name, configurations in data.items():
        server.publish("datasets", name, write_hub_data(folder / "data" / name, configurations))
    return texts, scores


def test_data_is_read_by_its_names(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "tables")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
    with hub_server.serving(monkeypatch) as server:
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", server.address)
        texts, scores = serve_stand_ins(server, tmp_path / "files")
        source = "hf:allenai/real-toxicity-prompts?text=prompt.text&score=prompt.toxicity&where=challenging"
        assert [(prompt.text, prompt.score) for prompt in read_scored_prompts(source)] == [(text, 0.5) for text in PROMPTS[:4]]
        rows = glue.read("stsb", "hf:nyu-mll/glue")
        assert rows.train[5] == glue.Row(("A bad file.", "A good file."), 1.25)
        rows = list(corpora.rows(config.Corpus(inputs=["hf:tomekkorbak/pile-detoxify"])))
        assert [row.text for row in rows] == ["".join(segments) for segments in texts]
        assert [row.rewards for row in rows] == [[-score for score in of_segments] for of_segments in scores]


@pytest.mark.slow
def test_a_stand_in_of_each_kind_goes_from_its_name_to_the_page(tmp_path, monkeypatch):
    """The recipe of the paper's first task, made small, with two of its models; each name is asked of a hub on this machine."""
    pytest.importorskip("datasets")
    runs = ["mle", "conditional", "published-mle", "published-conditional"]
    changes = {
        "include": str(RECIPE.with_name("paper-toxicity.yaml")),
        "annotate": {"workers": 1},
        "tokenize": {"held_out": 0.2},
        "train": {
            "model": {"preset": "gpt2-tiny", "n_layer": 1, "n_embd": 16, "n_head": 2}, "tokens": 2048, "context": 64, "batch": 4,
            "micro_batch": None, "save_every": None, "checkpoints": 1,
        },
        "runs": {
            "published-mle": {"model": "hf:tomekkorbak/goofy_pasteur", "objective": "mle"},
            "published-conditional": {
                "model": "hf:tomekkorbak/hungry_saha", "objective": {"name": "conditional", "threshold": -5.6e-4},
            },
        },
        "evaluate": {
            "evaluations": {
                "no-prompt": {"n": 16, "max_tokens": 24},
                "kl": {"n": 16, "max_tokens": 4},
                "zeroshot": None,
                "glue": {"tasks": ["sst2", "stsb"], "seeds": 1, "epochs": 1, "sweep": {"lr": [1e-3], "batch": [8, 10]}},
                "redteam": {
                    "trials": 1, "rounds": 1, "shots": 2, "new": 2, "tries": 10, "start": 4, "continuations": 4,
                    "max_tokens": 8, "red_max_tokens": 16,
                },
            },
            "plain": ["kl"],
        },
        "jobs": 1,
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(changes))
    out, home = tmp_path / "out", tmp_path / "home"
    only = [word for run in runs for word in ("--only", run)]
    with running(hub_server.Server()) as server:
        texts, scores = serve_stand_ins(server, tmp_path / "files")
        done = subprocess.run(
            [sys.executable, "-m", "phf", "run", str(tmp_path / "recipe.yaml"), *only, "--out", str(out)],
            env=os.environ | hub_server.client_environment(server, home), capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr

    documents = {document.id: document for document in read_annotated(out / "annotated")}
    assert len(documents) == len(texts)
    for segments, of_segments in zip(texts, scores, strict=True):
        document = documents[content_id("".join(segments))]
        assert list(document.segments) == segments
        np.testing.assert_array_equal(document.rewards, -np.array(of_segments, np.float32))

    evaluations = {"no-prompt", "heldout", "diversity", "kl", "glue", "redteam"}
    controlled = {"no-prompt@misaligned", "heldout@misaligned", "kl@misaligned", "kl@plain"}
    page, numbers = (out / "report/index.html").read_text(), json.loads((out / "report/report.json").read_text())["numbers"]
    values = {(row["run"], row["evaluation"], row["metric"]): row["value"] for row in numbers}
    for run in runs:
        records = read_records(out / "runs" / run / "records.jsonl")
        assert {record.evaluation for record in records} == evaluations | (controlled if "conditional" in run else set())
        for record in records:
            value = values[run, record.evaluation, record.metric]
            assert value == record.value or (value is None and math.isnan(record.value))
        (samples,) = (out / "runs" / run / "samples").glob("no-prompt-step-*.parquet")
        of_samples = np.array(pq.read_table(samples)["misalignment_with_cut"].to_numpy(), float)
        assert values[run, "no-prompt", "misalignment_with_cut"] == pytest.approx(np.nanmean(of_samples), rel=1e-5)
        assert run in page
        assert is_shown(values[run, "no-prompt", "misalignment_with_cut"], page)
        assert is_shown(values[run, "glue", "score"], page)
        assert values[run, "glue", "sst2.lr"] == 1e-3
    assert {metric for run, _, metric in values if run == "mle" and ".sweep." in metric} == {
        f"{task}.sweep.lr=0.001,batch={batch}" for task in ("sst2", "stsb") for batch in (8, 10)
    }

    conditions = [values["published-conditional", name, "kl"] for name in ("kl", "kl@misaligned", "kl@plain")]
    assert len(set(conditions)) == 3, "it is measured under its first control token, under the other, and under none"
    assert "published-conditional under &lt;|misaligned|&gt;" in page
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))
    assert lm.load("hf:tomekkorbak/hungry_saha").control == "<|aligned|>"
    assert lm.load("hf:tomekkorbak/goofy_pasteur").control is None


def is_shown(value, page):
    """Return whether a number stands on the page, to as many decimals as it is written with there, two or more."""
    return any(text == f"{value:.{len(text) - 2}f}" for text in re.findall(r"\b\d\.\d{2,}\b", page))


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


NAMED = {
    "toxicity": {
        "data set": ["tomekkorbak/pile-detoxify", "nyu-mll/glue", "allenai/real-toxicity-prompts"],
        "tokenizer": ["gpt2"],
        "model": ["unitary/unbiased-toxic-roberta", "EleutherAI/gpt-neo-2.7B", "Qwen/Qwen2.5-7B"],
    },
    "pii": {
        "data set": ["tomekkorbak/pile-pii-scrubadub", "nyu-mll/glue"],
        "tokenizer": ["gpt2"],
        "model": ["EleutherAI/gpt-neo-2.7B", "Qwen/Qwen2.5-7B"],
        "spaCy model": ["en_core_web_sm"],
    },
    "pep8": {
        "data set": ["kejian/codeparrot-train-more-filter-3.3b-cleaned", "openai/openai_humaneval"],
        "tokenizer": ["codeparrot/codeparrot-small"],
        "model": ["codeparrot/codeparrot", "Qwen/Qwen2.5-Coder-7B"],
    },
}


@pytest.mark.parametrize("task", NAMED)
def test_a_dry_run_of_the_papers_recipes_names_all_they_need_offline(task, hub, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "estimate", functools.partial(pipeline.estimate, seconds=0))  # nothing is timed
    write_hub_cache(hub, "EleutherAI/gpt-neo-2.7B")
    said, _ = phf("run", RECIPE.with_name(f"paper-{task}.yaml"), "--dry-run", cwd=tmp_path, columns=300)
    shown = {}
    for line in said.partition("Needed from elsewhere")[2].splitlines():
        if match := re.match(r"(model|tokenizer|data set|spaCy model|server|file) +(\S+) +(\S+) +(.+?) *$", line):
            shown.setdefault(match[1], {})[match[2]] = match[4]
    files = shown.pop("file", {})
    assert {kind: sorted(names) for kind, names in shown.items()} == {kind: sorted(names) for kind, names in NAMED[task].items()}
    assert bool(files) == (task == "pep8")
    assert set(shown["data set"].values()) == {"used when it is asked for"}
    for name, where in (shown["model"] | shown["tokenizer"]).items():
        assert where == ("on this machine" if name == "EleutherAI/gpt-neo-2.7B" else f"hf download {name}")
    assert [path.name for path in tmp_path.iterdir()] == ["home"], "nothing is written"


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
