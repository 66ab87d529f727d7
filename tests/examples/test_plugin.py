"""The example plugin, installed by pip into a folder of its own and run through every stage by a recipe."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

PLUGIN = Path(__file__).parents[2] / "examples/plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The environment of a process that sees the installed plugin."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*command, "--target", str(folder), str(PLUGIN)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}


def phf(environment, *arguments, cwd):
    done = subprocess.run([sys.executable, "-m", "phf", *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_components_are_listed_with_their_captions(installed, tmp_path):
    listed = phf(installed, "list", cwd=tmp_path)
    for name in ("sums", "clauses", "shouting", "masked", "sample-length"):
        assert name in listed
    assert "Token-level filtering" in " ".join(listed.split())


def test_a_recipe_of_plugins_runs_through_every_stage(installed, tmp_path):
    tiny = ["train.model={preset: gpt2-tiny, n_layer: 1, n_embd: 16, n_head: 2}", "train.tokens=1024", "train.context=24"]
    phf(installed, "run", str(PLUGIN / "recipe.yaml"), "--out", "work", *tiny, cwd=tmp_path)
    work = tmp_path / "work"
    table = pq.read_table(work / "annotated/part-00000.parquet")
    assert table.num_rows == 200
    segments, rewards = table["segments"].to_pylist(), table["rewards"].to_pylist()
    assert segments[0][0].endswith(",")
    assert segments[0][1].startswith(" ")
    assert [reward < -0.5 for reward in rewards[0]] == [segment.isupper() for segment in segments[0]]
    for run in ("mle", "masked"):
        records = [json.loads(line) for line in (work / "runs" / run / "records.jsonl").read_text().splitlines()]
        (length,) = [record for record in records if record["evaluation"] == "length"]
        assert (length["metric"], length["n"]) == ("characters", 32)
        assert length["value"] > 0
    assert (work / "report/index.html").exists()


def test_the_objective_needs_no_base_class(installed, tmp_path):
    """Its loss and gradient are those of its formula, written from the contract alone."""
    program = """
import numpy as np, torch
from phf_shouting.objective import Masked
masked = Masked(threshold=-0.5)
logprob = torch.tensor([-1.0, -2.0, -3.0], requires_grad=True)
masked.token_loss(logprob, torch.tensor([0.0, -1.0, float("nan")])).sum().backward()
print(*(logprob.grad == torch.tensor([-1.0, 0.0, -1.0])).tolist())
print(masked.keep(np.array([-1.0, -1.0])), masked.keep(np.array([-1.0, 0.0])))
"""
    done = subprocess.run([sys.executable, "-c", program], env=installed, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True", "True", "False", "True"], done.stderr
