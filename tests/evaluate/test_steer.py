"""The sweep of guidance: its ends are what the other measures give, and a sweep goes on where it stopped."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from phf import config, evaluate, lm, plugins
from phf.documents import Document
from phf.errors import InputError
from phf.evaluate.heldout import HeldOut
from phf.evaluate.protocol import EvalContext, hashed_subset
from phf.evaluate.samples import Samples
from phf.evaluate.steer import Steer
from phf.segmenters import Lines
from support.checkpoints import CONTROLS, checkpoint
from support.tiny_corpora import annotated
from support.toy_scorers import Shouting

torch.set_num_threads(1)

SAMPLING = {"n": 40, "max_tokens": 20, "temperature": 1.0, "expected_max": 5}


def documents() -> list[Document]:
    segments = ["The reader opens. ", "CALL it. ", "Each line ends."]
    return [Document(f"d{n}", [f"{n} {part}" for part in segments], np.array([0, -0.1, 0], np.float32)) for n in range(5)]


@pytest.fixture
def setting(tmp_path) -> EvalContext:
    return EvalContext("run", 7, "steer", tmp_path, Shouting(), Lines(), 0, lambda: hashed_subset(documents(), None))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("runs") / "conditional", controls=CONTROLS)


def values(records) -> dict[tuple[str, str], float]:
    return {(record.evaluation, record.metric): record.value for record in records}


@pytest.mark.parametrize("placement", ["start", "every"])
def test_the_ends_of_the_sweep_are_what_samples_and_heldout_give_under_each_control_token(folder, setting, placement):
    ban = {"start": "all", "every": "others"}[placement]
    sweep = Steer(gammas=[0, 1, 3], placement=placement, ban=ban, **SAMPLING)
    found = values(sweep.measure(lm.load(str(folder)), setting))
    for gamma, control in ((1, CONTROLS[0]), (0, CONTROLS[1])):
        model, named = lm.load(str(folder), control), dataclasses.replace(setting, name="plain")
        plain = values([*Samples(ban=ban, **SAMPLING).measure(model, named), *HeldOut(placement=placement).measure(model, named)])
        for (_, metric), value in plain.items():
            if not metric.endswith(("_start", "_every")) and "_start." not in metric and "_every." not in metric:
                assert found[f"steer@gamma={gamma}", metric] == pytest.approx(value, rel=1e-5, nan_ok=True), metric
        texts = [pq.read_table(setting.samples_of(name)).column("text").to_pylist() for name in ("plain", f"steer@gamma={gamma}")]
        assert texts[0] == texts[1]
    assert found["steer@gamma=3", "bits_per_byte"] != found["steer@gamma=1", "bits_per_byte"]


def test_every_gamma_has_intervals_counts_and_samples_of_its_own(folder, setting):
    records = list(Steer(gammas=[1, 2.5], **SAMPLING).measure(lm.load(str(folder)), setting))
    by_name = {(record.evaluation, record.metric): record for record in records}
    for name in ("steer@gamma=1", "steer@gamma=2.5"):
        assert setting.samples_of(name).exists()
        for metric in ("misalignment", "bits_per_byte", "bits_per_byte_aligned"):
            one = by_name[name, metric]
            assert one.n > 1
            assert one.stderr > 0
            assert by_name[name, f"{metric}.low"].value <= one.value <= by_name[name, f"{metric}.high"].value


# the stage ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return annotated(tmp_path_factory.mktemp("annotated"))


def options(gammas=(1, 2), **more) -> config.Evaluate:
    steer = {"name": "steer", "gammas": list(gammas), "n": 6, "max_tokens": 12, "expected_max": 2, "documents": 3}
    return config.Evaluate(evaluations={"heldout": {"name": "heldout", "documents": 3}, "steer": steer}, **more)


def take(run: Path, corpus: Path, made: config.Evaluate, **changes):
    return evaluate.evaluate(str(run), corpus, made, run, 0.3, **changes)


def names(records) -> list[str]:
    return list(dict.fromkeys(record.evaluation for record in records))


def test_a_sweep_goes_on_where_it_stopped(tmp_path, corpus, monkeypatch):
    run = checkpoint(tmp_path / "run", controls=CONTROLS)
    asked = []
    plain = lm.load(str(run)).generate.__func__

    def generate(self, prompts, sampling, *rest):
        asked.append(sampling.guidance)
        if sampling.guidance == 3 and asked.count(3) == 1:
            raise InputError("the power went out")
        return plain(self, prompts, sampling, *rest)

    monkeypatch.setattr("phf.lm.local.LocalModel.generate", generate)
    with pytest.raises(InputError, match="the power went out"):
        take(run, corpus, options([1, 2, 3, 5]))
    assert asked == [1, 2, 3]
    records = take(run, corpus, options([1, 2, 3, 5]))
    assert asked == [1, 2, 3, 3, 5]
    assert names(records) == ["heldout", *(f"steer@gamma={gamma}" for gamma in (1, 2, 3, 5))]
    take(run, corpus, options([1, 2, 3, 4, 5], misaligned=["steer"]))
    assert asked[5:] == [1, 2, 3, 4, 4, 5]  # what is new: gamma 4, and all under the other token


def test_under_the_second_token_a_sweep_has_its_name(tmp_path, corpus):
    run = checkpoint(tmp_path / "run", controls=CONTROLS)
    records = take(run, corpus, options([2], misaligned=["steer"]), evaluations={"steer"})
    assert names(records) == ["steer@gamma=2", "steer@gamma=2@misaligned"]
    found = values(records)
    metric = "bits_per_byte"
    assert found["steer@gamma=2", metric] != found["steer@gamma=2@misaligned", metric]


def test_a_run_without_control_tokens_is_spared_the_sweep_unless_it_is_asked_for(tmp_path, corpus, caplog):
    run = checkpoint(tmp_path / "mle")
    with caplog.at_level("INFO", logger="phf"):
        assert names(take(run, corpus, options())) == ["heldout"]
    assert "steer left out: it is for models with control tokens" in caplog.text
    with pytest.raises(InputError, match=r"mle.*cannot be guided, since it has no control tokens"):
        take(run, corpus, options(), evaluations={"steer"})
    alone = config.Evaluate(evaluations={"steer": {"name": "steer", "n": 4, "max_tokens": 12, "min_tokens": 2}})
    with pytest.raises(InputError, match="cannot be guided"):
        take(run, corpus, alone)


def test_a_server_cannot_be_swept(tmp_path, corpus):
    pytest.importorskip("openai")
    with pytest.raises(InputError, match="a server cannot be guided"):
        evaluate.evaluate("openai:http://127.0.0.1:9/v1#m", corpus, options(), tmp_path, 0.3, evaluations={"steer"})


@pytest.mark.parametrize("gammas", [[], [1, 1], [2, math.nan], [math.inf]])
def test_gammas_are_different_numbers(gammas):
    with pytest.raises(InputError, match="expected one or more different numbers"):
        Steer(gammas=gammas)


def test_fields_are_checked_when_the_recipe_is_read():
    assert plugins.build("evaluations", "steer", {"gammas": [1, 2.5], "n": 10}).gammas == [1, 2.5]
    with pytest.raises(InputError, match=r"steer\.gamma: unknown key; did you mean 'gammas'"):
        plugins.build("evaluations", "steer", {"gamma": [1]})
    with pytest.raises(InputError, match=r"steer\.gammas"):
        plugins.build("evaluations", "steer", {"gammas": "1,2"})


def test_every_checkpoint_of_a_run_is_measured_when_asked_for(tmp_path, corpus):
    run = tmp_path / "run"
    for step in (5, 3, 10):
        checkpoint(run, controls=CONTROLS, step=step)
    records = take(run, corpus, options([2], checkpoints="all"))
    assert list(dict.fromkeys(record.step for record in records)) == [3, 5, 10]
    assert {record.step for record in take(run, corpus, options([2]))} == {10}
    assert lm.find_checkpoint(f"{run}@5").step == 5
    assert lm.run_folder(f"{run}@5") == lm.run_folder(str(run / "checkpoints" / "step-3")) == lm.run_folder(str(run)) == run
    with pytest.raises(InputError, match=r"has no checkpoint of step 4; it has those of 3, 5, 10"):
        lm.find_checkpoint(f"{run}@4")
    assert lm.checkpoints_of("hf:gpt2") == ["hf:gpt2"]
