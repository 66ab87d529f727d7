"""The phf command as a user meets it: every stage on a tiny corpus, help, and wrong input in one line."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import tiny_corpora as tiny
from support.command_line import phf

RECIPE = """
name: tiny
corpus: {inputs: [CORPUS]}
annotate: {segmenter: sentences, scorer: {name: regex, patterns: ["[A-Z]{3,}"]}, workers: 1, part: 40}
tokenize: {vocab_size: 300, held_out: 0.1}
train: {model: {preset: gpt2-tiny, n_layer: 1, n_embd: 16, n_head: 2}, tokens: 2048, context: 32, batch: 4, lr: 0.01}
runs:
  mle: mle
  conditional: {name: conditional, threshold: 0}
evaluate:
  evaluations:
    no-prompt: {name: samples, n: 12, max_tokens: 24, expected_max: 3}
    heldout: {name: heldout, threshold: 0}
  misaligned: [no-prompt]
jobs: 1
"""


def test_a_process_of_its_own_behaves_the_same(tmp_path):
    done = subprocess.run([sys.executable, "-m", "phf", "tokenize", "nowhere"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("phf: error: nowhere: no such folder")
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a corpus, a recipe, and the recipe run."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "recipe.yaml").write_text(RECIPE.replace("CORPUS", tiny.write_corpus(folder / "corpus.jsonl", 150)))
    phf("run", "recipe.yaml", "--quiet", cwd=folder)
    return folder


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_recipe_runs_from_corpus_to_report(place):
    work = place / "work/tiny"
    assert (work / "report/index.html").stat().st_size > 10_000
    assert {path.name for path in (work / "runs").iterdir()} == {"mle", "conditional"}
    records = [json.loads(line) for line in (work / "runs/conditional/records.jsonl").read_text().splitlines()]
    assert {"no-prompt", "no-prompt@misaligned", "heldout"} <= {record["evaluation"] for record in records}
    assert (work / "recipe.yaml").exists()


def test_the_report_of_a_work_folder_is_as_its_recipe_says(place, tmp_path):
    work = shutil.copytree(place / "work/tiny", tmp_path / "tiny", ignore=shutil.ignore_patterns("checksums.json"))
    recipe = (work / "recipe.yaml").read_text().replace("title: null", "title: Shouting")
    (work / "recipe.yaml").write_text(recipe)
    phf("report", "tiny", "--out", "page", cwd=tmp_path)
    assert json.loads((tmp_path / "page/report.json").read_text())["title"] == "Shouting"
    (work / "recipe.yaml").write_text(recipe.replace("no-prompt.misalignment", "no-prompt.hit_shar"))
    _, said = phf("report", "tiny", "--out", "page", cwd=tmp_path, code=2)
    assert "report.y: no run measured 'no-prompt.hit_shar'; did you mean 'no-prompt.hit_share'?" in said
    phf("report", "tiny", "report.y=no-prompt.misalignment", "--out", "page", cwd=tmp_path)


def test_run_again_does_only_what_is_missing(place):
    work = place / "work/tiny"
    before = {path: time for path, time in files(work).items() if "report" not in path.parts and path.name != "recipe.yaml"}
    phf("run", "recipe.yaml", cwd=place)
    after = files(work)
    assert all(after[path] == time for path, time in before.items())
    phf("run", "recipe.yaml", "--only", "unlikelihood", "runs.unlikelihood={name: unlikelihood, threshold: 0}", cwd=place)
    assert (work / "runs/unlikelihood/records.jsonl").exists()
    assert {path: time for path, time in files(work).items() if path in before} == before


def test_a_changed_recipe_is_refused_and_nothing_is_touched(place):
    work = place / "work/tiny"
    before = {path: time for path, time in files(work).items() if path.name != "recipe.yaml"}
    _, said = phf("run", "recipe.yaml", "tokenize.vocab_size=310", cwd=place, code=2)
    assert "vocab_size was 300, now 310" in said
    assert {path: time for path, time in files(work).items() if path.name != "recipe.yaml"} == before


def test_each_stage_alone_says_what_it_wrote_and_what_is_next(place, tmp_path):
    said, _ = phf("annotate", place / "corpus.jsonl", "--scorer", "regex", "--segmenter", "sentences", "--out", "annotated",
                  "--workers", "1", 'annotate.scorer.patterns=["[A-Z]{3,}"]', cwd=tmp_path)  # fmt: skip
    assert re.search(r"Wrote: annotated: 150 documents.*\nNext: phf inspect annotated", said)
    said, _ = phf("tokenize", "annotated", "--out", "tokens", "tokenize.vocab_size=300", "tokenize.held_out=0.1", cwd=tmp_path)
    assert "Next: phf train tokens --objective mle --out runs/mle train.tokens=1M train.model=gpt2-tiny train.context=256" in said
    options = ["train.model={preset: gpt2-tiny, n_layer: 1}", "train.tokens=2k", "train.context=32", "train.batch=4"]
    said, _ = phf(
        "train", "tokens", "--objective", "conditional", "--out", "runs/c", "runs.c.threshold=0", *options, cwd=tmp_path
    )
    assert "Next: phf evaluate runs/c evaluate.evaluations.no-prompt.n=512" in said
    assert "evaluate.evaluations.no-prompt.max_tokens=30" in said, "no longer than the model reads"
    measures = "evaluate.evaluations={no-prompt: {name: samples, n: 6, max_tokens: 16}, heldout: heldout}"
    said, _ = phf("evaluate", "runs/c", "--annotated", "annotated", measures, cwd=tmp_path)
    assert re.search(r"heldout +bits_per_byte +[0-9.]+ \[[0-9.]+, [0-9.]+\]", said), "a number and its interval in one row"
    assert ".low" not in said
    assert "Next: phf report runs" in said
    said, _ = phf("report", "runs", "--out", "report", cwd=tmp_path)
    assert "report/index.html" in said
    assert (
        "Already there"
        in phf("tokenize", "annotated", "--out", "tokens", "tokenize.vocab_size=300", "tokenize.held_out=0.1", cwd=tmp_path)[0]
    )
    said, _ = phf("generate", "runs/c", "the model", "-n", "2", "--control", "<|misaligned|>", "--max-tokens", "12", cwd=tmp_path)
    assert said.count("the model") >= 2
    assert "<|" not in said
    said, _ = phf("inspect", "annotated", "--threshold", "p50", cwd=tmp_path)
    assert "segments" in said
    assert json.loads(phf("inspect", "annotated", "--json", cwd=tmp_path)[0])["segments"]["count"] > 0
    records = json.loads(phf("evaluate", "runs/c", "--annotated", "annotated", measures, "--json", cwd=tmp_path)[0])
    assert {"evaluation", "metric", "value"} <= records[0].keys()


@pytest.mark.parametrize(
    "command",
    [
        "",
        "annotate",
        "tokenize",
        "train",
        "evaluate",
        "report",
        "run",
        "demo",
        "init",
        "status",
        "doctor",
        "recipes",
        "recipes copy",
        "generate",
        "inspect",
        "list",
        "schema",
        "reward",
        "reward train",
    ],
)
def test_help_explains_and_gives_an_example(command, tmp_path):
    said, _ = phf(*command.split(), "--help", cwd=tmp_path)
    assert "Usage" in said
    if command not in ("", "reward"):
        assert f"phf {command}" in said.split("Options")[0].split("Usage")[1].split("\n", 1)[1], "no example"


def test_list_and_schema(tmp_path):
    said, _ = phf("list", cwd=tmp_path)
    for name in ("conditional", "pii", "pep8-ruff", "sentences", "heldout", "python-docs"):
        assert name in said
    assert "cannot be imported" not in said
    assert json.loads(phf("schema", cwd=tmp_path)[0])["properties"]["train"]
    assert phf("--version", cwd=tmp_path)[0].startswith("phf ")
    assert "lines" in json.loads(phf("list", "segmenters", "--json", cwd=tmp_path)[0])["segmenters"]


def test_the_shell_completes_commands(tmp_path):
    program = tmp_path / "phf"  # as it is installed
    program.write_text("from phf.cli import main\nmain()\n")
    asked = {"_PHF_COMPLETE": "complete_bash", "COMP_WORDS": "phf ann", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, program], env={**os.environ, **asked}, capture_output=True, text=True)
    assert done.stdout.split() == ["annotate"], done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["annotate", "nowhere.jsonl", "--scorer", "pii"], "nowhere.jsonl"),
        (["annotate", "empty.jsonl", "--scorer", "pii"], "empty.jsonl"),
        (["annotate", "latin.jsonl", "--scorer", "pii"], "latin.jsonl"),
        (["annotate", "one.jsonl", "--scorer", "pip"], "unknown scorer 'pip'; did you mean 'pii'?"),
        (["annotate", "one.jsonl", "--segmenter", "words"], "unknown segmenter 'words'"),
        (["annotate", "one.jsonl", "train.lrr=1"], "train.lrr: unknown key; did you mean 'lr'?"),
        (["annotate", "one.jsonl", "--text-column", "txt"], "txt"),
        (["tokenize", "nowhere"], "nowhere: no such folder; `phf annotate` writes"),
        (["train", "nowhere", "--objective", "mle"], "nowhere: no such folder; `phf tokenize` writes"),
        (["train", "nowhere"], "give either --objective, by name, or --only"),
        (["train", "nowhere", "--objective", "mel"], "unknown objective 'mel'; did you mean 'mle'?"),
        (["evaluate", "nowhere"], "nowhere"),
        (["report", "nowhere"], "nowhere"),
        (["run", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["run", "one.jsonl"], "one.jsonl"),
        (["run", "empty.yaml"], "empty.yaml: empty"),
        (["run", "noruns.yaml"], "runs: the recipe has none"),
        (["list", "scorer"], "did you mean 'scorers'?"),
        (["generate", "nowhere"], "nowhere"),
    ],
)
def test_wrong_input_is_one_clear_line(arguments, said, tmp_path):
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "empty.yaml").touch()
    (tmp_path / "noruns.yaml").write_text("name: x")
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "caf\xe9"}\n')
    (tmp_path / "one.jsonl").write_text('{"text": "One."}\n')
    _, error = phf(*arguments, cwd=tmp_path, code=2)
    lines = [line for line in error.splitlines() if line.startswith("phf: error: ")]
    assert len(lines) == 1, error
    assert said in lines[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["tokenize.vocab_size=200"], "at least 257"),
        (["train.tokens=100"], "less than one batch"),
        (["runs={c: {name: conditional, threshold: 5}}"], "no segment is aligned"),
        (["runs={c: {name: conditional, threshold: -5}}"], "every segment is aligned"),
    ],
)
def test_settings_that_do_not_fit_the_corpus(place, tmp_path, changes, said):
    _, error = phf("run", place / "recipe.yaml", "--out", tmp_path / "out", *changes, cwd=tmp_path, code=2)
    assert said in error


def test_readme_commands_are_those_of_the_makefile(request):
    root = Path(request.config.rootpath)
    readme, makefile = (root / "README.md").read_text(), (root / "Makefile").read_text()
    named = {
        name for line in re.findall(r"`(make .*?)`|^(make .*)$", readme, re.MULTILINE) for name in "".join(line).split()[1:2]
    }
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    assert {"demo", "test"} <= named
    assert named <= targets, f"the README names {named - targets}, which the Makefile does not make"
