"""The shell commands of the docs: each is one that phf has, and those of clusters and of other tools run as they stand there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from phf import config
from phf.cli import app
from support import clusters, hub_server, s3_server
from support import tiny_corpora as tiny
from support.command_line import phf

PROJECT = Path(__file__).parents[1]
PAGES = ["README.md", *sorted(str(path.relative_to(PROJECT)) for path in (PROJECT / "docs").rglob("*.md"))]
PROGRAMS = {"phf": [sys.executable, "-m", "phf"], "torchrun": [sys.executable, "-m", "torch.distributed.run"]}


def section(page, heading=""):
    """Return the text of a page, or of one of its sections."""
    text = (PROJECT / page).read_text()
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0] if heading else text


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)


def commands(text):
    """Return the commands of shell blocks, each as its words, up to a pipe or a redirection."""
    lines = "".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    split = [re.split(r" [|>] | && ", line)[0] for line in lines if line.strip()]
    words = [shlex.split(line, comments=True) for line in split]
    return [line for line in words if line]


PHF = {
    shlex.join(words): words[words.index("phf") + 1 :]
    for page in PAGES
    for words in commands(section(page))
    if "phf" in words and words[0] in ("phf", "torchrun", "accelerate")
}


NAMES = typer.main.get_command(app).commands


@pytest.mark.parametrize("words", PHF.values(), ids=PHF)
def test_every_command_and_its_options_are_phfs(words, tmp_path):
    said, _ = phf(*(words if words[0] in NAMES else ()), "--help", cwd=tmp_path)
    assert words[0] in said


def run_as_pasted(words, folder):
    if words[0] == "phf":
        return phf(*words[1:], cwd=folder)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*PROGRAMS[words[0]], *words[1:]], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def write_recipe(folder, **train):
    """Write a corpus and a recipe of two runs, under the names that the docs use."""
    fields = tiny.recipe(folder, name="work", train=config.plain(tiny.train_options(tokens=256, **train)))
    fields["annotate"]["part"] = 30
    fields["corpus"] = {"inputs": ["corpus.jsonl"]}
    (folder / "recipe.yaml").write_text(config.to_yaml(fields))
    return fields


@pytest.mark.slow
def test_the_cluster_page_runs_over_ray_and_in_two_processes(tmp_path, monkeypatch):
    write_recipe(tmp_path)
    (annotate,), (run,) = (commands(f"```sh\n{block}```") for block in blocks(section("docs/cluster.md", "Ray"), "sh"))
    with clusters.cluster(nodes=2) as cluster:
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        run_as_pasted(annotate, tmp_path)
        assert sorted(path.name for path in tmp_path.glob("work/annotated/*.parquet"))[-1] == "part-00002.parquet"
        said, _ = run_as_pasted(run, tmp_path)
    assert "work/report/index.html" in said
    for words in commands(section("docs/cluster.md", "Several GPUs")):
        run_as_pasted(words, tmp_path)
    weights = "checkpoints/step-4/model.safetensors"
    assert (tmp_path / "work/together" / weights).stat().st_size == (tmp_path / "work/runs/mle" / weights).stat().st_size


@pytest.mark.slow
def test_the_cluster_page_runs_on_an_object_store(tmp_path, monkeypatch):
    write_recipe(tmp_path)
    text = section("docs/cluster.md", "Object stores")
    with s3_server.running_server() as server:
        s3 = s3_server.make_bucket(server, "bucket", tmp_path / "cache", monkeypatch)
        s3.put(str(tmp_path / "corpus.jsonl"), "bucket/corpus.jsonl")
        for words in commands(text):
            run_as_pasted(words, tmp_path)
        assert b"heldout" in s3.cat("bucket/work/runs/mle/records.jsonl")
        assert b"mle" in s3.cat("bucket/work/report/index.html")
        (program,) = blocks(text, "python")
        names = {}
        exec(program, names)
        assert (names["tokens"] / "tokens-00000.bin").read_bytes() == s3.cat("bucket/work/tokens/tokens-00000.bin")
        assert s3.exists("bucket/notes/notes.txt")


@pytest.mark.slow
def test_what_is_pushed_and_tracked_as_pasted(tmp_path, monkeypatch):
    for library in ("jinja2", "tensorboard", "wandb", "datasets"):
        pytest.importorskip(library)
    (block,) = blocks(section("docs/integrations.md", "Experiment trackers"), "yaml")
    write_recipe(tmp_path, **yaml.safe_load(block)["train"])
    monkeypatch.setenv("WANDB_MODE", "offline")
    phf("run", "recipe.yaml", cwd=tmp_path)
    run = tmp_path / "work/work/runs/conditional"
    assert list(run.glob("tensorboard/events.out.tfevents.*"))
    assert list(run.glob("wandb/offline-run-*/*.wandb"))

    (tmp_path / "work/work").rename(tmp_path / "moved")
    (tmp_path / "work").rmdir()
    (tmp_path / "moved").rename(tmp_path / "work")
    for words in commands(section("docs/integrations.md", "Export")):
        run_as_pasted(words, tmp_path)
    assert {"out.jsonl", "out", "out.bin", "out.idx"} <= {path.name for path in tmp_path.iterdir()}

    with hub_server.serving(monkeypatch) as server:
        for words in commands(section("docs/integrations.md", "The Hugging Face hub")):
            run_as_pasted([re.sub(r"@\d+$", "@4", word) for word in words], tmp_path)  # the page's step is that of a longer run
        assert (tmp_path / "hub/me--conditional/model.safetensors").exists()
        pushed, corpus = (server.repositories[kind] for kind in (("models", "me/conditional"), ("datasets", "me/scored-corpus")))
        assert pushed["private"]
        assert "cc-by-4.0" in pushed["branches"]["main"]["README.md"].decode()
        assert "part-00000.parquet" in str(sorted(corpus["branches"]["v2"]))
