"""The dry run: what it says of tokens, samples and disk is what a run comes to, and it writes nothing."""

import json
import math
import shutil

import pyarrow.parquet as pq
import pytest

from phf import config, corpora, pipeline
from phf.artifacts import read_json
from phf.cli import main
from phf.pipeline import estimate
from support import tiny_corpora as tiny


def recipe(tmp_path, **changes):
    half = {"objective": {"name": "conditional", "threshold": 0.0}, "train": {"init": {"run": "mle", "at": "50%"}}}
    sections = {
        "train": config.plain(tiny.train_options(tokens=550, log_every=2, checkpoints=2)),
        "runs": {"mle": "mle", "half": half},
        "evaluate": {
            "evaluations": {
                "texts": {"name": "samples", "n": 7, "min_tokens": 1, "max_tokens": 14},
                "heldout": "heldout",
            },
            "misaligned": ["texts"],
            "checkpoints": {"texts": "all"},
        },
        "report": {"y": "texts.misalignment_with_cut"},
        "jobs": 1,
    }
    return config.check(config.Recipe, tiny.recipe(tmp_path, **sections | changes), "")


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def of(found, stage, run=None):
    return [item for item in found.items if (item.stage, item.run) == (stage, run)]


def test_tokens_samples_and_disk_are_those_of_the_run(tmp_path):
    made, out = recipe(tmp_path), tmp_path / "out"
    before = estimate(made, out, seconds=0.2)
    assert not out.exists()
    assert not any(item.done for item in before.items)
    pipeline.run(made, out)
    for name in made.runs:
        (training,) = of(before, "train", name)
        folder = out / "runs" / name
        checkpoints = sorted((folder / "checkpoints").iterdir(), key=lambda path: int(path.name.partition("-")[2]))
        already = 256 if name == "half" else 0
        assert training.tokens == read_json(checkpoints[-1] / "phf.json")["tokens"] - already
        written = size(folder / "checkpoints") + sum(size(path) for path in folder.glob("state-*"))
        assert training.disk == pytest.approx(written, rel=0.1)
        assert 0 < training.seconds < math.inf
        assert training.basis == "measured"
        sampled = sum(pq.read_metadata(path).num_rows for path in (folder / "samples").glob("*.parquet"))
        assert sum(item.samples for item in of(before, "evaluate", name)) == sampled
        assert sampled == 7 * 2 * (1 if name == "mle" else 2)
    after = estimate(made, out, seconds=0)
    assert {item.done for item in after.items if item.stage != "report"} == {1.0}
    assert (after.seconds, after.unknown) == (0, 0)
    assert sum(item.tokens for item in after.items) == sum(item.tokens for item in before.items)

    (out / "runs/mle/records.jsonl").unlink()
    shutil.rmtree(out / "runs/half/checkpoints/step-4")
    shutil.rmtree(out / "runs/half/state-4")
    left = estimate(made, out, seconds=0)
    assert [item.done for item in of(left, "annotate") + of(left, "tokenize") + of(left, "train", "mle")] == [1, 1, 1]
    assert {item.done for item in of(left, "evaluate", "mle")} == {0}
    assert {item.done for item in of(left, "train", "half")} == {0}
    assert {(item.seconds, item.basis) for item in of(left, "train", "half")} == {(None, "no speed was measured")}
    assert not of(estimate(made, out, ["mle"], seconds=0), "train", "half")


def test_the_corpus_is_extrapolated_from_its_beginning(tmp_path):
    made = recipe(tmp_path, corpus={"inputs": [str(tmp_path / "corpus.jsonl")]})
    characters = sum(len(document.text) for document in tiny.documents(80))
    (annotating,) = of(estimate(made, tmp_path / "out", ["mle"], seconds=0.2), "annotate")
    assert annotating.disk == pytest.approx(0.5 * characters)
    assert annotating.seconds > 0


def test_requests_to_servers_are_counted_at_most(tmp_path):
    server = "openai:http://localhost:9/v1#m"
    judge = {"name": "judge", "url": "http://localhost:9/v1", "model": "m", "rubric": "Is {text} good?", "max_calls": 500}
    evaluations = {
        "texts": {"name": "samples", "n": 7, "min_tokens": 1, "max_tokens": 8},
        "kl": {"name": "kl", "reference": server, "n": 5, "max_tokens": 8},
    }
    runs = {"mle": "mle", "rwr": {"name": "rwr", "beta": 1}, "served": {"model": server, "objective": "mle"}}
    made = recipe(tmp_path, annotate={"scorer": judge}, runs=runs, evaluate={"evaluations": evaluations},
                  report={"y": "texts.misalignment", "x": "kl.kl"})  # fmt: skip
    found = estimate(made, tmp_path / "out", seconds=0)
    requests = {(item.stage, item.run, item.evaluation): dict(item.requests) for item in found.items if item.requests}
    assert requests == {
        ("annotate", None, None): {judge["url"]: 500},
        ("evaluate", "mle", "texts"): {judge["url"]: 14},
        ("evaluate", "mle", "kl"): {server: 10},  # the reference writes and reads once for all runs
        ("evaluate", "rwr", "texts"): {judge["url"]: 14},
        ("evaluate", "served", "texts"): {judge["url"]: 14, server: 7},
        ("evaluate", "served", "kl"): {server: 5},
    }


def test_what_cannot_be_known_has_its_reason(tmp_path):
    huge = {"preset": "gpt2-large", "n_embd": 65_536, "n_head": 64}
    made = recipe(tmp_path, runs={"huge": {"objective": "mle", "train": {"model": huge}}, "own": {"objective": "mle",
                  "train": {"model": "from:someone/model"}}}, corpus={"inputs": ["hf:someone/data"]})  # fmt: skip
    found = estimate(made, tmp_path / "out", seconds=0.1)
    assert [item.seconds for item in of(found, "train", "huge") + of(found, "train", "own") + of(found, "annotate")] == [None] * 3
    notes = " ".join(found.notes)
    assert "need more memory than" in notes
    assert "its shape is that of someone/model" in notes
    assert "how much the corpus holds is known when it is read" in notes
    assert found.unknown >= 3


def test_the_command_prints_tables_and_json_and_writes_nothing(tmp_path, monkeypatch, capsys):
    made = recipe(tmp_path)
    (tmp_path / "recipe.yaml").write_text(config.dump(made))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as exited:
        main(["run", str(tmp_path / "recipe.yaml"), "--dry-run", "--json"])
    assert not exited.value.code
    said = json.loads(capsys.readouterr().out)
    assert {item["stage"] for item in said["items"]} == {"annotate", "tokenize", "train", "evaluate", "report"}
    assert said["out"] == "work/tiny"
    with pytest.raises(SystemExit):
        main(["run", str(tmp_path / "recipe.yaml"), "--dry-run", "--only", "mle"])
    text = capsys.readouterr().out
    assert "train mle" in text
    assert "train half" not in text
    assert "Dry run: nothing was started." in text
    assert list(folder.iterdir()) == []


def test_a_corpus_that_does_not_say_its_size_is_not_read_for_ever(tmp_path, monkeypatch):
    rows = iter(lambda: corpora.Row("a", "a text"), None)
    monkeypatch.setattr("phf.corpora.rows", lambda corpus, on_progress: rows)
    plan = estimate(recipe(tmp_path), tmp_path / "work", at_once=1, seconds=0.01)
    (annotating,) = [item for item in plan.items if item.stage == "annotate"]
    assert annotating.seconds is None
    assert "the corpus was not read to its end in" in annotating.basis
