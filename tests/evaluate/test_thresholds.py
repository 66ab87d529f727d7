"""Thresholds of evaluations: their default, quantiles resolved as training resolves them, and warnings before sampling."""

import shutil

import numpy as np
import pytest
import torch

from phf import config, evaluate
from phf.artifacts import write_json
from phf.errors import InputError
from phf.evaluate.thresholds import CorpusThresholds, default_threshold, objectives_beside
from phf.records import read_records
from phf.tokens import TokenStore
from support.checkpoints import CONTROLS, checkpoint
from support.tiny_corpora import annotated, documents, token_store

torch.set_num_threads(1)


def component(**fields) -> config.Component:
    return config.Component.model_validate(fields)


MLE = component(name="mle")
FILTERING = component(name="filtering", threshold=-0.3)
UNLIKELY = component(name="unlikelihood", threshold=-0.2)
CONDITIONAL = component(name="conditional", threshold="p50")


def test_the_default_is_conditionals_else_unlikelihoods_never_filterings():
    assert default_threshold([MLE, FILTERING, UNLIKELY, CONDITIONAL, CONDITIONAL]) == "p50"
    assert default_threshold([MLE, FILTERING, UNLIKELY]) == -0.2
    assert default_threshold([MLE, FILTERING]) is None
    with pytest.raises(InputError, match=r"conditional runs have the thresholds -0.5, p50.*heldout.threshold=0"):
        default_threshold([CONDITIONAL, component(name="conditional", threshold=-0.5)])


def spread(count=120):
    """Documents whose rewards are all different and below 0."""
    made = documents(count)
    for number, document in enumerate(made):
        document.rewards[:] = -0.001 - (number * 7 + np.arange(len(document.rewards))) / 1000
    return made


def test_a_quantile_is_the_one_training_resolves_with_or_without_a_token_store(tmp_path):
    tokens = token_store(tmp_path, spread(), held_out=0.2)
    objective, _ = TokenStore.open(tokens).resolve(config.build("objectives", CONDITIONAL))
    run = checkpoint(tmp_path / "runs" / "r")
    options = config.Evaluate(evaluations={"heldout": {"name": "heldout"}})
    for _ in range(2):
        evaluate.evaluate(str(run), tmp_path / "annotated", options, run, 0.2, objectives=[CONDITIONAL])
        notes = config.read_yaml(run / "evaluations.json")
        (made_from,) = notes.values()
        assert made_from["thresholds"]["threshold"] == pytest.approx(objective.threshold, abs=1e-7)
        shutil.rmtree(tokens, ignore_errors=True)


def test_a_threshold_that_does_not_divide_the_corpus_is_warned_of_before_sampling(tmp_path, caplog):
    corpus, run = annotated(tmp_path / "annotated", spread()), checkpoint(tmp_path / "run")
    samples = {"name": "samples", "n": 2, "max_tokens": 12, "threshold": 0}
    options = config.Evaluate(evaluations={"no-prompt": samples, "heldout": {"name": "heldout", "threshold": -9.0}})
    evaluate.evaluate(str(run), corpus, options, run, 0.2)
    assert "no-prompt: threshold is 0: all of the corpus's" in caplog.text
    assert "no-prompt: hit is 0: all of the corpus's" in caplog.text
    assert "heldout: threshold is -9: none of the corpus's" in caplog.text
    assert "heldout MEASURED NOTHING: n = 0 for bits_per_byte_misaligned" in caplog.text
    caplog.clear()
    fine = config.Evaluate(evaluations={"heldout": {"name": "heldout", "threshold": "p50"}})
    evaluate.evaluate(str(run), corpus, fine, run, 0.2)
    assert "corpus's" not in caplog.text


def test_hits_have_a_threshold_of_their_own(tmp_path):
    corpus, run = annotated(tmp_path / "annotated"), checkpoint(tmp_path / "run")
    share = {}
    for hit in (-1e9, 1e9):
        samples = {"name": "samples", "n": 4, "max_tokens": 12, "hit": hit, "scorer": {"name": "regex", "patterns": ["."]}}
        options = config.Evaluate(evaluations={"no-prompt": samples})
        evaluate.evaluate(str(run), corpus, options, run, 0.2)
        share[hit] = next(r.value for r in read_records(run / "records.jsonl") if r.metric == "hit_share_with_cut")
    assert (share[-1e9], share[1e9]) == (0, 1)


def test_a_model_with_control_tokens_is_also_measured_without_any(tmp_path):
    corpus, run = annotated(tmp_path / "annotated"), checkpoint(tmp_path / "run", controls=CONTROLS)
    options = config.Evaluate(evaluations={"heldout": {"name": "heldout", "threshold": -0.5}}, plain=["heldout"])
    evaluate.evaluate(str(run), corpus, options, run, 0.2)
    values = {(r.evaluation, r.metric): r.value for r in read_records(run / "records.jsonl")}
    assert values["heldout", "bits_per_byte"] != values["heldout@plain", "bits_per_byte"]
    assert ("heldout@plain", "bits_per_byte_start") not in values
    plain = checkpoint(tmp_path / "plain")
    assert {record.evaluation for record in evaluate.evaluate(str(plain), corpus, options, plain, 0.2)} == {"heldout"}


def test_checkpoints_are_by_evaluation(tmp_path):
    corpus = annotated(tmp_path / "annotated")
    for step in (3, 6):
        checkpoint(tmp_path / "runs/r/checkpoints" / f"step-{step}", run="r", step=step)
    run = tmp_path / "runs/r"
    evaluations = {"heldout": {"name": "heldout", "threshold": -0.5}, "dear": {"name": "heldout", "threshold": -0.6}}
    options = config.Evaluate(evaluations=evaluations, checkpoints={"heldout": "all"})
    records = evaluate.evaluate(str(run), corpus, options, run, 0.2)
    assert {(record.evaluation, record.step) for record in records} == {("heldout", 3), ("heldout", 6), ("dear", 6)}


def test_without_a_recipe_the_runs_beside_are_asked(tmp_path):
    for name, objective in (("mle", {"name": "mle"}), ("c", {"name": "conditional", "threshold": -0.25})):
        write_json(tmp_path / "runs" / name / "config.yaml", {"name": name, "objective": objective})
    assert default_threshold(objectives_beside(tmp_path / "runs" / "mle")) == -0.25


def test_a_quantile_without_a_corpus_is_refused(tmp_path):
    thresholds = CorpusThresholds(lambda: None, tmp_path / "tokens", None)
    assert thresholds.resolve(None) == 0
    with pytest.raises(InputError, match="'p50' is a quantile of the corpus, and there is no corpus"):
        thresholds.resolve("p50")
