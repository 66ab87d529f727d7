"""The attack: which examples are sampled, what is asked, that it resumes where it stopped, and that it finds what there is."""

import json
import math
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phf import checksums, lm, plugins
from phf.errors import InputError
from phf.evaluate import redteam as redteam_module
from phf.evaluate.protocol import EvalContext
from phf.evaluate.redteam import RedTeam, worst
from phf.evaluate.redteam.attackers import Attempt, FewShot, Recombine, sample_examples
from phf.evaluate.redteam.items import INSTRUCTIONS, FencedCode, NumberedList
from phf.lm.protocol import Completion
from phf.scorers import Finding
from phf.segmenters import Whole

WORDS = "alpha beta gamma delta epsilon zeta bad eta theta iota".split()  # noqa: SIM905
PROMPTS = [" ".join(WORDS[place : place + 3]) for place in range(len(WORDS) - 2)]


class Weak:
    """A model that writes X's: as many as its prompt has the word "bad", and one more by chance; counts its calls."""

    def fingerprint(self):
        return "weak"

    def __init__(self, stop_after=10**9):
        self.calls, self.stop_after = 0, stop_after

    def generate(self, prompts, sampling, on_progress=None):
        self.calls += 1
        if self.calls > self.stop_after:
            raise InputError("the server died")
        rng = np.random.default_rng(sampling.seed)
        luck = rng.integers(2, size=len(prompts))
        return [Completion("y" + "X" * (prompt.split().count("bad") + int(more)), True) for prompt, more in zip(prompts, luck)]

    def logprobs(self, texts):
        raise AssertionError


class CountsX:
    """A scorer: each X costs 0.1; a text of five cannot be scored."""

    def score(self, texts):
        return np.array([math.nan if text.count("X") == 5 else -0.1 * text.count("X") for text in texts], np.float32)

    def findings(self, text):
        return [Finding(match.start(), match.end(), "x") for match in re.finditer("X", text)]


class Says:
    """A red model that gives the same answers in turn."""

    def __init__(self, *answers):
        self.answers, self.asked = answers, []

    def generate(self, prompts, sampling, on_progress=None):
        self.asked += prompts
        self.sampling = sampling
        start = len(self.asked) - len(prompts)
        return [Completion(self.answers[(start + place) % len(self.answers)], True) for place in range(len(prompts))]


def setting(folder, seed=0) -> EvalContext:
    return EvalContext("run", 7, "redteam", folder, CountsX(), Whole(), seed, list)


def small(**changes) -> RedTeam:
    fields = {"prompts": PROMPTS, "trials": 3, "rounds": 4, "new": 6, "continuations": 8, "best": 3, "temperature": 0.02}
    return RedTeam(**(fields | changes))


def take(plan, folder, model=None, seed=0):
    records = list(plan.measure(model or Weak(), setting(folder, seed)))
    return {record.metric: record.value for record in records}, {record.metric: record for record in records}


def journal_of(folder, count=1):
    found = list((folder / "redteam").glob("redteam-step-7-*.jsonl"))
    assert len(found) == count
    return found[0]


def test_examples_are_sampled_by_the_softmax_of_their_scores():
    pool = [Attempt("a", 0.1, 1), Attempt("b", 0.0, 1), Attempt("c", math.nan, 0)]
    rng = np.random.default_rng(0)
    firsts = [sample_examples(pool, 1, 0.1, rng)[0].text for _ in range(4000)]
    assert firsts.count("a") / 4000 == pytest.approx(math.e / (math.e + 1), abs=0.03)
    assert firsts.count("c") == 0
    assert [attempt.text for attempt in sample_examples(pool, 3, 0.1, rng)][2] == "c"  # what has no score comes last
    assert len(sample_examples(pool, 9, 0.1, rng)) == 3


def test_the_second_example_is_sampled_from_those_left():
    pool = [Attempt(name, score, 1) for name, score in (("a", 0.2), ("b", 0.1), ("c", 0.0))]
    rng = np.random.default_rng(1)
    pairs = ["".join(attempt.text for attempt in sample_examples(pool, 2, 0.1, rng)) for _ in range(6000)]
    weights = {name: math.exp(score / 0.1) for name, score in (("a", 0.2), ("b", 0.1), ("c", 0.0))}
    total = sum(weights.values())
    for one, other in ("ab", "ba", "ac", "cb"):
        expected = weights[one] / total * weights[other] / (total - weights[one])
        assert pairs.count(one + other) / 6000 == pytest.approx(expected, abs=0.025)


def test_a_model_is_shown_a_list_and_gives_its_next_item():
    items = NumberedList()
    assert items.few_shot("Go on:", ["one\ntwo", "three"]) == "Go on:\n1. one two\n2. three\n3."
    assert items.first_item(" The fourth \n5. more") == "The fourth"
    assert items.first_item("\n4. The fourth\n5.") == "The fourth"
    assert items.first_item(" \n ") == ""
    model = Says(" new one\n", "")
    assert FewShot(model, "Go on:", items, 1.0, 0.8, 16, 4).ask(["x"], 3, 0) == ["new one", "", "new one"]
    assert (model.sampling.temperature, model.sampling.top_p, model.sampling.max_tokens) == (1.0, 0.8, 16)


CODE = "\n    def f(self, x):\n        return x\n\n"
CLEAN = "    def f(self, x):\n        return x"


def test_code_is_shown_in_fences_and_keeps_its_lines():
    items = FencedCode()
    assert items.few_shot("Go on:", [CLEAN, "x=1"]) == f"Go on:\n```\n{CLEAN}\n```\n\n```\nx=1\n```\n\n```\n"
    assert items.few_shot("", ["a = '```'"]).endswith("\n````\na = '```'\n````\n\n````\n"), "no example closes a fence"
    for answer in (
        f"{CODE}```\n\n```\nmore\n```", CODE, f"```\n{CODE}```\n", f"\n```python\n{CODE}\n```\nThat is it.", f"{CLEAN}\n  ```",
    ):  # fmt: skip
        assert items.first_item(answer) == CLEAN, answer
    assert items.first_item("```") == items.first_item("\n \n") == ""


@given(st.text("ab \n\t`:()"))
def test_code_is_cut_into_words_that_join_to_it(text):
    items = FencedCode()
    assert items.join(items.cut(text)) == items.clean(text)
    assert items.clean(items.clean(text)) == items.clean(text)


def test_recombined_prompts_are_of_the_examples_words_and_hang_on_the_seed():
    red = Recombine(NumberedList())
    made = red.ask(PROMPTS[:4], 200, 5)
    assert made == red.ask(PROMPTS[:4], 200, 5)
    assert made != red.ask(PROMPTS[:4], 200, 6)
    assert {word for text in made for word in text.split()} <= set(" ".join(PROMPTS[:4]).split())
    assert len(set(made)) > 60
    assert red.ask(["one"], 20, 0)  # even of a single word


def test_recombined_code_keeps_its_lines():
    made = Recombine(FencedCode()).ask([CLEAN, "def g(y):\n    y+=1\n    return y"], 200, 5)
    assert sum("\n" in text for text in made) > 100
    lines = {line for text in made for line in text.split("\n")}
    assert {"    def f(self, x):", "        return x", "    return y"} <= lines


def test_the_attack_finds_what_leads_the_model_astray(tmp_path):
    values, records = take(small(), tmp_path)
    assert values["new_round_4"] > values["pool_round_0"] + 0.03
    assert values["best_round_4"] > values["best_round_0"]
    assert values["misalignment"] == values["pool_round_4"]
    assert [f"pool_round_{number}" in values for number in range(6)] == [True] * 5 + [False]
    assert records["misalignment"].n == 3
    assert values["misalignment.low"] <= values["misalignment"] <= values["misalignment.high"]
    assert records["pool_round_0"].stderr == 0  # one first pool for all trials
    rows = pq.read_table(tmp_path / "redteam" / "redteam-step-7.parquet").to_pylist()
    assert rows[0]["misalignment"] == max(row["misalignment"] for row in rows if row["misalignment"] is not None)
    assert "bad" in rows[0]["prompt"]
    assert len({(row["trial"], row["prompt"]) for row in rows}) == len(rows)  # none twice in a pool
    again = [row["misalignment_again"] for row in rows if row["misalignment_again"] is not None]
    assert len(again) == 3 * 3
    assert values["misalignment_best"] == pytest.approx(np.mean(again))
    samples = pq.read_table(tmp_path / "samples" / "redteam-step-7.parquet").to_pylist()
    assert all(len(row["findings"]) == row["text"].count("X") for row in samples if row["misalignment"])


def test_the_best_are_tried_again_with_new_luck(tmp_path):
    """What is chosen for its score has been lucky; where all prompts are alike, the second score tells."""
    values, _ = take(small(prompts=["one two three four", "five six seven eight"], continuations=4, rounds=3), tmp_path)
    assert values["best_round_3"] > values["misalignment_best"]


@pytest.mark.parametrize("calls", [1, 2, 5, 12, 13])
def test_stopped_and_continued_is_the_same_as_straight_through(tmp_path, calls):
    straight, _ = take(small(), tmp_path / "straight")
    with pytest.raises(InputError, match="the server died"):
        take(small(), tmp_path / "stopped", Weak(stop_after=calls))
    with journal_of(tmp_path / "stopped").open("a") as file:
        file.write('{"trial": 0, "rou')  # killed in the middle of a line
    rest = Weak()
    continued, _ = take(small(), tmp_path / "stopped", rest)
    assert continued == straight
    assert rest.calls == 1 + 3 * 4 + 1 - calls
    both = [journal_of(tmp_path / name).read_text() for name in ("straight", "stopped")]
    assert both[0] == both[1]


def test_seeds_decide(tmp_path):
    assert take(small(), tmp_path / "a", seed=1)[0] == take(small(), tmp_path / "b", seed=1)[0]
    assert take(small(), tmp_path / "c", seed=2)[0] != take(small(), tmp_path / "a", seed=1)[0]


def test_an_attack_of_something_else_begins_anew_and_leaves_the_other_alone(tmp_path):
    first, _ = take(small(), tmp_path)
    other = Weak()
    take(small(continuations=4), tmp_path, other)
    assert other.calls == 14
    back = Weak()
    assert take(small(), tmp_path, back)[0] == first
    assert back.calls == 1  # the worst are tried again, nothing else
    journal_of(tmp_path, 2)


def test_a_damaged_journal_is_an_error(tmp_path):
    take(small(), tmp_path)
    checksums.forget(journal_of(tmp_path).parent)
    journal_of(tmp_path).write_text("nonsense\n")
    with pytest.raises(InputError, match=r"damaged .* delete it"):
        take(small(), tmp_path)


@pytest.fixture
def red(monkeypatch):
    def use(*answers):
        model = Says(*answers)
        monkeypatch.setattr(redteam_module.lm, "load", lambda spec: model)
        monkeypatch.setattr(redteam_module.lm, "fingerprint", lambda spec: spec)
        return model

    return use


def test_the_papers_attack_on_code_keeps_lines_and_has_an_instruction_samplings_and_a_scorer(tmp_path, red):
    model = red(f"{CODE}```\nno more", "bad  = bad\n```", "def g( x ):\n    bad")
    target = Weak()
    asked = []
    target.generate = lambda prompts, sampling, on_progress=None: (
        asked.append((prompts, sampling)) or Weak.generate(target, prompts, sampling)
    )
    own = {"name": "regex", "patterns": ["X", "bad"]}
    plan = small(
        prompts=["def a():\n    bad", "def b():\n    good"], instruction="pep8", red="hf:red", trials=1, rounds=1, new=3,
        red_max_tokens=99, red_temperature=1.2, red_top_p=0.95, sampling_temperature=0.6, top_p=0.8, count_prompt=True,
        score_prompt=True, scorer=own,
    )  # fmt: skip
    values, _ = take(plan, tmp_path, target)
    assert all(shown.startswith(INSTRUCTIONS["pep8"] + "\n```\ndef ") for shown in model.asked)
    assert (model.sampling.temperature, model.sampling.top_p, model.sampling.max_tokens) == (1.2, 0.95, 99)
    prompts = {prompt for batch, _ in asked for prompt in batch}
    assert prompts == {"def a():\n    bad", "def b():\n    good", CLEAN, "bad  = bad", "def g( x ):\n    bad"}
    assert {(s.temperature, s.top_p, s.max_tokens, s.count_prompt) for _, s in asked} == {(0.6, 0.8, 64, True)}
    rows = {row["prompt"]: row for row in pq.read_table(tmp_path / "redteam/redteam-step-7.parquet").to_pylist()}
    samples = pq.read_table(tmp_path / "samples/redteam-step-7.parquet").to_pylist()
    again = [(s["text"].count("X") + 2) / (s["prompt"] + s["text"]).__len__() for s in samples if s["prompt"] == "bad  = bad"]
    assert rows["bad  = bad"]["misalignment_again"] == pytest.approx(np.mean(again), rel=1e-5)
    assert values["unscored_share"] == 0


def test_the_first_pool_is_as_published_or_measured(tmp_path):
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(json.dumps({"text": f"{word} bad", "score": 0.1 * n}) + "\n" for n, word in enumerate(WORDS)))
    fields = {"prompts": str(path), "start": 4, "start_order": "file", "trials": 2, "rounds": 1}
    values, _ = take(small(**fields, start_scores="published"), tmp_path / "a")
    assert values["pool_round_0"] == pytest.approx(0.15)
    rows = pq.read_table(tmp_path / "a/redteam/redteam-step-7.parquet").to_pylist()
    first = {row["prompt"]: row["scored"] for row in rows if row["round"] == 0}
    assert first == dict.fromkeys([f"{word} bad" for word in WORDS[:4]], 0)
    assert values["unscored_share"] == 0, "of the continuations that there were"
    values, _ = take(small(**fields, start_scores=0.001), tmp_path / "b")
    assert values["pool_round_0"] == pytest.approx(0.001)
    measured, _ = take(small(**fields), tmp_path / "c")
    assert measured["pool_round_0"] > 0.1
    sampled = small(**fields | {"start_order": "sampled"}, start_scores=0.001)
    take(sampled, tmp_path / "d")
    rows = pq.read_table(tmp_path / "d/redteam/redteam-step-7.parquet").to_pylist()
    assert {row["prompt"] for row in rows if row["round"] == 0} != set(first)
    path.write_text('{"text": "one two", "score": 1}\n{"text": "three four"}\n')
    with pytest.raises(InputError, match=r"start_scores: published, but 1 of the 2 prompts of the first pool have no score"):
        take(small(**fields, start_scores="published"), tmp_path / "e")


def test_an_instruction_is_a_tasks_or_given(red, tmp_path):
    with pytest.raises(
        InputError, match=r"found 'toxicty'; did you mean 'toxicity'\? \(known: pep8, pii, toxicity\); expected one"
    ):
        plugins.build("evaluations", "redteam", {"prompts": "x.txt", "instruction": "toxicty"})
    model = red(*(f" prompt {number}" for number in range(99)))
    take(small(red="hf:red", trials=1, rounds=1, instruction="Write rude questions:"), tmp_path)
    assert all(shown.startswith("Write rude questions:\n1. ") for shown in model.asked)


def test_what_a_red_model_gives_is_counted_and_asked_for_again(tmp_path, red):
    model = red(" fresh one", "", " alpha beta gamma", " " + "long " * 99, " fresh two\nand more", "!!!")
    plan = small(red="hf:red", trials=1, rounds=1, new=4, tries=2)
    values, records = take(plan, tmp_path)
    line = json.loads(journal_of(tmp_path).read_text().splitlines()[2])
    assert [row[0] for row in line["new"]] == ["fresh one", "fresh two"]
    # Four answers, then three more for the three that were no use: fresh two, !!!, fresh one again.
    assert {name: line[name] for name in ("asked", "empty", "repeated", "too_long")} == {
        "asked": 7, "empty": 2, "repeated": 2, "too_long": 1,
    }  # fmt: skip
    assert values["red_asked"] == 7
    assert values["red_empty_share"] == pytest.approx(2 / 7)
    assert records["red_empty_share"].n == 7
    assert len(model.asked) == 7 <= plan.asks
    assert all(asked.startswith("A list of texts") for asked in model.asked)


def test_a_red_model_that_gives_nothing_usable_is_an_error_and_the_state_is_kept(tmp_path, red):
    red("\n", " alpha beta gamma")
    with pytest.raises(
        InputError, match=r"'hf:red' gave no new prompt in 18 answers of trial 1, round 1 \(9 empty, 9 known already"
    ):
        take(small(red="hf:red"), tmp_path)
    assert len(journal_of(tmp_path).read_text().splitlines()) == 2  # the first pool is scored
    red(" one", " two", " three", " four", " five", " six", *(f" more {number}" for number in range(99)))
    model = Weak()
    take(small(red="hf:red"), tmp_path, model)
    assert model.calls == 13


def test_prompts_that_cannot_be_used_are_counted_or_refused(tmp_path, caplog, red):
    with pytest.raises(
        InputError, match=r"redteam\.prompts: the list has 1 usable prompts, expected at least 2, since one cannot"
    ):
        take(small(prompts=["one two", "one two", "", "x" * 999]), tmp_path)
    assert "of 4 prompts 1 are longer than 300 characters and 2 empty or duplicates" in caplog.text
    path = tmp_path / "prompts.txt"
    path.write_text("one two\n")
    with pytest.raises(InputError, match=r"prompts\.txt has 1 usable prompts"):
        take(small(prompts=str(path)), tmp_path)
    red(*(f" prompt {number}" for number in range(99)))
    assert take(small(prompts=str(path), red="hf:red"), tmp_path)[0]["red_asked"] == 72  # a model can do with one
    with pytest.raises(InputError, match="no such file of prompts"):
        take(small(prompts=str(tmp_path / "none.txt")), tmp_path)


def test_a_budget_that_the_plan_may_pass_is_refused_before_anything_is_asked():
    with pytest.raises(InputError, match="may ask the red model 6,000 times, and the budget is 5,000"):
        plugins.build("evaluations", "redteam", {"prompts": "x.txt", "budget": 5000})
    assert RedTeam(prompts=["a b"], budget=6000).asks == 6000


def test_texts_that_cannot_be_scored_are_unknown_and_counted(tmp_path):
    silent = [" ".join(["bad"] * 4 + [word]) for word in ("one", "two")]
    values, _ = take(small(prompts=silent, trials=1, rounds=1), tmp_path)
    assert 0 < values["unscored_share"] < 1  # texts of five X
    assert not math.isnan(values["misalignment"])


def test_the_worst_are_those_with_the_highest_known_score():
    pool = [Attempt("a", 0.1, 1), Attempt("b", math.nan, 0), Attempt("c", 0.3, 1), Attempt("d", 0.2, 1)]
    assert [attempt.text for attempt in worst(pool, 2)] == ["c", "d"]


def test_a_local_model_attacks_a_local_model(tmp_path):
    """For real, both of them tiny: whatever they write, the attack runs and is the same a second time."""
    from support.checkpoints import checkpoint

    target = lm.load(str(checkpoint(tmp_path / "target")))
    spec = str(checkpoint(tmp_path / "red"))
    plan = RedTeam(
        prompts=["Each line", "Ask the"],
        red=spec,
        trials=1,
        rounds=2,
        new=3,
        continuations=2,
        max_tokens=8,
        red_max_tokens=16,
        tries=5,
    )
    first = list(plan.measure(target, setting(tmp_path / "a")))
    second = list(plan.measure(target, setting(tmp_path / "b")))
    assert [(r.metric, repr(r.value)) for r in first] == [(r.metric, repr(r.value)) for r in second]
