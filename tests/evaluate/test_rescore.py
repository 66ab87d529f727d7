"""Kept samples scored by another scorer: the same texts, other numbers, nothing generated."""

import sys
import types

import numpy as np
import pyarrow.parquet as pq
import pytest

from phf import config, evaluate
from phf.errors import InputError
from phf.evaluate.protocol import EvalContext
from phf.evaluate.rescore import Rescore
from phf.evaluate.samples import Samples
from phf.lm.protocol import Completion
from phf.records import read_records
from phf.segmenters import Lines
from support.checkpoints import CONTROLS, checkpoint
from support.tiny_corpora import annotated
from support.toy_scorers import Shouting


class Says:
    """A model that gives completions in turn."""

    def __init__(self, *completions):
        self.completions = completions

    def generate(self, prompts, sampling, on_progress=None):
        return [self.completions[place % len(self.completions)] for place in range(len(prompts))]

    def logprobs(self, texts):
        raise AssertionError


def context(tmp_path, name):
    return EvalContext("run", 7, name, tmp_path, Shouting(), Lines(), 0, lambda: [])


def test_samples_are_scored_again_on_what_was_scored_before(tmp_path):
    said = [
        Completion("one a\ntwo\n", True),
        Completion("aa\ncut a", False),
        Completion("no line", False),
        Completion("b\nz", None),
    ]
    list(Samples(n=8, min_tokens=1, max_tokens=9).measure(Says(*said), context(tmp_path, "no-prompt")))
    rescore = Rescore(scorer={"name": "regex", "patterns": ["a"]}, hit=0)
    records = {record.metric: record for record in rescore.measure(None, context(tmp_path, "second"))}
    rows = pq.read_table(context(tmp_path, "second").samples_of("second")).to_pylist()
    first = pq.read_table(context(tmp_path, "second").samples_of("no-prompt")).to_pylist()
    for name in ("prompt", "text", "finished", "scored"):
        assert [row[name] for row in rows] == [row[name] for row in first], name
    expected = [1 / 10, 2 / 3, None, 0] * 2  # a's per character of whole lines
    assert [row["misalignment"] for row in rows] == pytest.approx(expected)
    assert records["misalignment_by_regex"].value == pytest.approx(np.mean([1 / 10, 2 / 3, 0]))
    assert records["hit_share_by_regex"].value == pytest.approx(2 / 3)
    assert records["hit_share_by_regex"].n == 6
    assert records["unscored_share_by_regex"].value == 0.25
    assert {f"hit_share_by_regex.{end}" for end in ("low", "high")} <= records.keys()


def test_a_threshold_of_its_own_says_what_a_hit_is(tmp_path):
    list(
        Samples(n=2, min_tokens=1).measure(
            Says(Completion("a\n", True), Completion("ab\n", True)), context(tmp_path, "no-prompt")
        )
    )
    rescore = Rescore(scorer={"name": "regex", "patterns": ["a"]}, hit=-0.4)
    values = {record.metric: record.value for record in rescore.measure(None, context(tmp_path, "second"))}
    assert values["hit_share_by_regex"] == 0.5  # a share of 1/2 is above 0.4, of 1/3 is not


def test_there_must_be_samples(tmp_path):
    with pytest.raises(InputError, match=r"second.of: 'no-prompt' has no samples"):
        list(Rescore(scorer="pep8", hit=0).measure(None, context(tmp_path, "second")))


def test_distinct_2_is_recorded_at_numbers_of_words_that_any_run_has(tmp_path):
    words = " ".join(f"w{number}" for number in range(50))
    said = [Completion(words + "\n", True), Completion("a b\n", True)]
    records = {r.metric: r.value for r in Samples(n=12, min_tokens=1).measure(Says(*said), context(tmp_path, "no-prompt"))}
    assert records["words"] == 26
    assert {name for name in records if name.startswith("distinct_2_first")} == {"distinct_2_first_64", "distinct_2_first_256"}
    assert records["distinct_2_first_64"] == (49 + 1) / (49 + 1 + 11)  # the first text, "a b", and 12 words of the first again


def test_a_second_scorer_runs_once_and_again_when_the_samples_change(tmp_path, monkeypatch):
    calls = []
    module = types.ModuleType("made_up_scorer")
    module.score = lambda texts: calls.append(list(texts)) or [-float(len(text) % 2) for text in texts]
    monkeypatch.setitem(sys.modules, "made_up_scorer", module)
    corpus = annotated(tmp_path / "annotated")
    run = checkpoint(tmp_path / "run", controls=CONTROLS)
    samples = {"name": "samples", "n": 3, "max_tokens": 4, "min_tokens": 1}
    second = {"name": "rescore", "scorer": {"name": "python", "function": "made_up_scorer.score"}, "hit": 0}

    def measure(**changes):
        fields = {"second": second, "no-prompt": {**samples, **changes}}  # the order in the recipe does not matter
        options = config.check(config.Evaluate, {"evaluations": fields, "misaligned": ["no-prompt", "second"]}, "evaluate")
        evaluate.evaluate(str(run), corpus, options, tmp_path / "run", held_out=0.5)
        return [record.evaluation for record in read_records(tmp_path / "run" / "records.jsonl")]

    evaluations = measure()
    assert {"no-prompt", "no-prompt@misaligned", "second", "second@misaligned"} == set(evaluations)
    made = len(calls)
    assert made
    measure()
    assert len(calls) == made
    measure(n=4)
    assert len(calls) > made
