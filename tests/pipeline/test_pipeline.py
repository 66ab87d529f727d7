"""The pipeline: runs side by side give what they give one by one, and a signal stops them all with their work saved."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

from phf import config, pipeline
from phf.errors import InputError
from phf.progress import Progress
from support import tiny_corpora as tiny


def recipe(tmp_path, **changes):
    return config.check(config.Recipe, tiny.recipe(tmp_path, **changes), "")


def test_side_by_side_is_one_by_one(tmp_path):
    seen = []
    pipeline.run(recipe(tmp_path, jobs=1), tmp_path / "one", on_progress=seen.append)
    together = []
    page = pipeline.run(recipe(tmp_path, jobs=2), tmp_path / "two", on_progress=together.append)
    assert page == tmp_path / "two/report/index.html"
    assert page.stat().st_size > 10_000
    for name in ("mle", "conditional"):
        one, two = (load_file(tmp_path / way / "runs" / name / "checkpoints/step-8/model.safetensors") for way in ("one", "two"))
        for key, tensor in one.items():
            assert tensor.equal(two[key]), f"{name} {key}"
    for listened in (seen, together):
        assert all(isinstance(progress, Progress) for progress in listened)
        stages = {progress.stage for progress in listened}
        assert {"annotate", "tokenize", "train mle", "train conditional"} <= stages


def test_every_gpu_gets_a_run(tmp_path, monkeypatch):
    made = recipe(tmp_path)
    monkeypatch.setattr(pipeline, "usable_cores", lambda: 16)
    for gpus, at_once in ([], 2), (["0"], 1), (["0", "1"], 2), (["0", "1", "2"], 2):
        monkeypatch.setattr(pipeline, "visible_gpus", lambda gpus=gpus: gpus)
        assert pipeline.jobs_at_once(made, 2) == at_once
    assert pipeline.jobs_at_once(made.model_copy(update={"jobs": 3}), 5) == 3


def test_a_failed_run_does_not_stop_its_neighbour(tmp_path):
    made = recipe(tmp_path, jobs=2, runs={"bad": {"name": "conditional", "threshold": 9.0}, "mle": "mle"})
    with pytest.raises(InputError, match="no segment is aligned"):
        pipeline.run(made, tmp_path / "out")
    assert (tmp_path / "out/runs/mle/records.jsonl").exists()
    assert not (tmp_path / "out/runs/bad").exists()


def from_mle(at):
    return {"objective": {"name": "conditional", "threshold": 0.0}, "train": {"init": {"run": "mle", "at": at}}}


def test_a_run_goes_on_from_another_which_is_trained_first(tmp_path):
    fields = config.plain(tiny.train_options(precision="fp32", tokens=512, log_every=2, checkpoints=2))
    later = {"objective": {"name": "rwr", "beta": 1.0}, "train": {"init": {"run": "half", "at": "100%"}, "tokens": 768}}
    runs = {"later": later, "half": from_mle("50%"), "mle": "mle"}
    pipeline.run(recipe(tmp_path, train=fields, runs=runs, jobs=2), tmp_path / "out", only=["later"])
    steps = {name: sorted((tmp_path / "out/runs" / name / "checkpoints").iterdir())[-1].name for name in runs}
    assert steps == {"mle": "step-8", "half": "step-4", "later": "step-4"}
    pipeline.run(recipe(tmp_path, train=fields, runs=runs, jobs=1), tmp_path / "out")


def test_a_run_cannot_go_on_from_what_there_will_not_be(tmp_path):
    with pytest.raises(InputError, match=r"train\.init: mle has no checkpoint at 50% of its 512 tokens; it has 512 tokens"):
        pipeline.run(recipe(tmp_path, runs={"mle": "mle", "half": from_mle("50%")}), tmp_path / "out")
    circle = {
        "a": {"objective": "mle", "train": {"init": {"run": "b"}}},
        "b": {"objective": "mle", "train": {"init": {"run": "a"}}},
    }
    with pytest.raises(InputError, match=r"is initialised from itself: a from b from a"):
        pipeline.run(recipe(tmp_path, runs=circle), tmp_path / "out")
    assert not (tmp_path / "out/annotated").exists()


def test_unknown_runs_are_refused(tmp_path):
    with pytest.raises(InputError, match="unknown run 'mel'; did you mean 'mle'"):
        pipeline.run(recipe(tmp_path), tmp_path / "out", only=["mel"])
    with pytest.raises(InputError, match="the recipe has none"):
        pipeline.run(config.Recipe(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_samples_longer_than_the_model_reads_are_refused_before_training(tmp_path):
    made = recipe(tmp_path, evaluate={"evaluations": {"no-prompt": {"name": "samples", "n": 4, "max_tokens": 40}}})
    with pytest.raises(InputError, match=r"no-prompt\.max_tokens is 40, but mle .* 16 tokens.*set it to 14 or less"):
        pipeline.run(made, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_runs_and_they_go_on(tmp_path, number):
    made = recipe(tmp_path, jobs=2)
    (tmp_path / "recipe.yaml").write_text(config.dump(made))
    command = [sys.executable, "-m", "phf", "run", "recipe.yaml", "--out", "out", "train.tokens=200k"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    metrics = [tmp_path / "out/runs" / name / "metrics.jsonl" for name in made.runs]
    while not all(path.exists() and path.stat().st_size for path in metrics) and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, number)  # as a terminal does: to every process
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    for name in made.runs:
        assert list((tmp_path / "out/runs" / name).glob("state-*")), said
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/report/index.html").exists()


def seeded(tmp_path):
    fields = config.plain(tiny.train_options(precision="fp32", tokens=512, log_every=2, checkpoints=2))
    runs = {"mle": {"objective": "mle", "seeds": 2}, "half": {**from_mle("50%"), "seeds": 2}, "other": "mle"}
    return recipe(tmp_path, train=fields, runs=runs, jobs=1)


def test_only_takes_every_seed_of_a_run_or_one(tmp_path):
    made = seeded(tmp_path).expanded()
    assert pipeline.select(made, ["mle"]) == ["mle.seed-0", "mle.seed-1"]
    assert pipeline.select(made, ["mle.seed-1"]) == ["mle.seed-1"]
    assert pipeline.select(made, ["half"]) == ["mle.seed-0", "half.seed-0", "mle.seed-1", "half.seed-1"]
    assert pipeline.select(made, ["other", "half.seed-1"]) == ["mle.seed-1", "half.seed-1", "other"]
    with pytest.raises(InputError, match=r"unknown run 'mle.seed-2'; did you mean 'mle.seed-"):
        pipeline.select(made, ["mle.seed-2"])


def test_seeds_are_trained_as_pairs_and_pooled_on_the_page(tmp_path):
    page = pipeline.run(seeded(tmp_path), tmp_path / "out", only=["half"])
    folders = {path.name: path for path in (tmp_path / "out/runs").iterdir()}
    assert set(folders) == {"mle.seed-0", "mle.seed-1", "half.seed-0", "half.seed-1"}
    trained = {name: config.read_yaml(folder / "config.yaml")["train"] for name, folder in folders.items()}
    assert {name: options["seed"] for name, options in trained.items()} == {name: int(name[-1]) for name in folders}
    for seed in (0, 1):
        assert trained[f"half.seed-{seed}"]["init"]["run"].endswith(f"mle.seed-{seed}")
    weights = [load_file(folders[f"half.seed-{seed}"] / "checkpoints/step-4/model.safetensors") for seed in (0, 1)]
    assert any(not tensor.equal(weights[1][key]) for key, tensor in weights[0].items())
    numbers = json.loads((page.parent / "report.json").read_text())["numbers"]
    seeds = {row["run"]: row["seeds"] for row in numbers if row["metric"] == "bits_per_byte"}
    assert seeds == {"mle": 2, "half": 2} | dict.fromkeys(folders, 1)
