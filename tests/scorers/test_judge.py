"""The judge scorer against a scripted server that counts every request."""

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest
from transformers import AutoTokenizer

import phf.scorers
from phf import config, openai_client
from phf.annotate import annotate
from phf.errors import InputError
from phf.scorers import RemoteScorer, ScorerUnusable
from phf.scorers.judge import answers
from phf.scorers.judge.store import Budget, Store
from support import checkpoints
from support.judge_server import Reply, judge_server
from support.transformers_server import transformers_serve

pytest.importorskip("openai")
RUBRIC = "How kind is this text, from 1 to 10? Answer with the number alone.\n{text}"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(openai_client, "WAITS", (0.01,) * 4)


def judge(server, tmp_path, **fields):
    defaults = {"model": "m", "rubric": RUBRIC, "max_calls": 1000, "cache": str(tmp_path / "cache"), "timeout": 20.0}
    return phf.scorers.load("judge", url=server.url, **{**defaults, **fields})


def kept(tmp_path):
    with sqlite3.connect(tmp_path / "cache" / "answers.sqlite") as connection:
        return dict(connection.execute("SELECT text, answer FROM answers"))


def last_digit(text, count):
    return Reply(text[-1])


def test_numbers_become_rewards_and_no_text_is_asked_about_twice(tmp_path):
    with judge_server(lambda text, count: Reply({"a": "1", "b": "10", "c": "Score: 5.5/10", "d": "**7**"}[text])) as server:
        scorer = judge(server, tmp_path)
        assert isinstance(scorer, RemoteScorer)
        np.testing.assert_allclose(scorer.score(["a", "b", "c", "d", "a"]), [-1, 0, -0.5, -1 / 3, -1], rtol=1e-6)
        np.testing.assert_allclose(judge(server, tmp_path, concurrency=1).score(["d", "b"]), [-1 / 3, 0], rtol=1e-6)
        assert sorted(server.asked) == ["a", "b", "c", "d"]
        assert server.bodies[0]["messages"][0]["content"].startswith("How kind is this text")
        assert judge(server, tmp_path, worst=10.0, best=1.0).score(["a", "b"]).tolist() == [0.0, -1.0]
        assert len(server.asked) == 6, "another scale is another question"
    assert kept(tmp_path)["c"] == "Score: 5.5/10", "answers are kept word for word"
    assert scorer.score([]).shape == (0,)


def test_many_requests_are_under_way_at_a_time(tmp_path):
    with judge_server(lambda text, count: Reply("5", seconds=0.2)) as server:
        start = time.monotonic()
        judge(server, tmp_path, concurrency=16).score([f"text {i}" for i in range(48)])
        assert time.monotonic() - start < 48 * 0.2 / 2
    assert 8 <= server.most_at_once <= 16


@pytest.mark.parametrize(
    "first",
    [
        Reply(status=429, headers={"Retry-After": "0.2"}),
        Reply(status=500),
        Reply(body="<html>busy</html>", headers={"Content-Type": "text/html"}),
        Reply(body='{"choices": []}'),
        Reply(""),
        Reply(None),
        Reply("I would rather not."),
        Reply("5", seconds=3.0),
    ],
    ids=["429", "500", "HTML", "no choices", "empty", "null", "no number", "slow"],
)
def test_a_bad_answer_is_followed_by_another_try(tmp_path, first):
    with judge_server(lambda text, count: first if count == 1 else Reply("10")) as server:
        start = time.monotonic()
        assert judge(server, tmp_path, timeout=1.0).score(["x"]).tolist() == [0.0]
        assert server.asked == ["x", "x"]
        if first.headers.get("Retry-After"):
            assert time.monotonic() - start >= 0.2
        assert Store(tmp_path / "cache").spent()[0] == 2


def test_an_answer_that_stays_bad_costs_that_text(tmp_path):
    with judge_server(lambda text, count: Reply("no" if text == "bad" else "10")) as server:
        rewards = judge(server, tmp_path, tries=3).score(["bad", "good"])
        np.testing.assert_array_equal(np.isnan(rewards), [True, False])
        assert server.asked.count("bad") == 3
        assert math.isnan(judge(server, tmp_path, tries=3).score(["bad"])[0])
        assert server.asked.count("bad") == 3, "what it said is kept, and not asked for again"


def test_a_refused_text_is_unscored_and_a_server_that_is_gone_stops(tmp_path):
    with judge_server(lambda text, count: Reply(status=400) if text == "long" else Reply("10")) as server:
        np.testing.assert_array_equal(judge(server, tmp_path).score(["long", "short"]), np.array([np.nan, 0.0], np.float32))
    with pytest.raises(ScorerUnusable, match=r"no server answers there.*kept in"):
        phf.scorers.load("judge", url="http://127.0.0.1:1/v1", model="m", rubric=RUBRIC, max_calls=9, cache=str(tmp_path)).score(
            ["x"]
        )
    with judge_server(lambda text, count: Reply(status=401)) as server, pytest.raises(ScorerUnusable, match="refuses the key"):
        judge(server, tmp_path).score(["other"])


def test_the_budget_of_calls_is_not_passed_by_one(tmp_path):
    texts = [f"text {i}" for i in range(40)]
    busy = {"text 3", "text 7"}
    with judge_server(lambda text, count: Reply(status=429) if text in busy and count < 3 else Reply("5")) as server:
        with pytest.raises(ScorerUnusable, match=r"budget of 13 calls \(judge\.max_calls\) is spent.*raise the budget"):
            judge(server, tmp_path, max_calls=13, concurrency=8).score(texts)
        assert len(server.asked) == 13
        with pytest.raises(ScorerUnusable):
            judge(server, tmp_path, max_calls=13).score(["another"])
        assert len(server.asked) == 13, "the budget is that of all runs together"
        judge(server, tmp_path, max_calls=100).score(texts)
        assert all(server.asked.count(text) == (3 if text in busy else 1) for text in texts)


def test_the_budget_of_money_is_not_passed(tmp_path):
    prices = {"input_price": 100.0, "output_price": 1000.0, "concurrency": 4}  # an answer of the server comes to 0.02
    with judge_server(last_digit) as server:
        with pytest.raises(ScorerUnusable, match=r"budget of 0\.2 \(judge\.max_cost; 0\.\d+ spent"):
            judge(server, tmp_path, max_cost=0.2, **prices).score([f"text {i}" for i in range(40)])
        calls, cost = Store(tmp_path / "cache").spent()
        assert calls == len(server.asked)
        assert cost == pytest.approx(0.02 * calls)
        assert 0.15 < cost <= 0.2


def test_two_processes_cannot_take_the_last_call(tmp_path):
    one, other = Store(tmp_path / "cache"), Store(tmp_path / "cache")
    budget = Budget(3, None, "there")
    for store in (one, other, one):
        store.reserve(budget, 0.0)
    for store in (one, other):
        with pytest.raises(ScorerUnusable):
            store.reserve(budget, 0.0)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7.0), (" 7. ", 7.0), ("7/10", 7.0), ("7 out of 10", 7.0), ("**7.5**", 7.5), ("Score: 3", 3.0), ('{"a": 4}', 4.0),
        ("-2", -2.0), ("", None), ("seven", None), ("between 3 and 4", None), ("3 it is, yes 3", 3.0), ("v2beta", None),
    ],
)  # fmt: skip
def test_numbers_are_read_and_never_guessed(text, number):
    assert answers.number(text) == number


def test_labels_are_read_by_name_and_by_their_probabilities(tmp_path):
    labels = {"toxic": -1.0, "not toxic": 0.0}
    said = {"a": "Toxic.", "b": "not toxic", "c": "I think it is not toxic!", "d": "detoxicated", "e": "neither"}
    with judge_server(lambda text, count: Reply(said[text])) as server:
        rewards = judge(server, tmp_path, answer="label", labels=labels).score(list(said))
    np.testing.assert_array_equal(rewards, np.array([-1, 0, 0, np.nan, np.nan], np.float32))
    top = {"Yes": math.log(0.3), " yes": math.log(0.1), "No": math.log(0.1), "The": math.log(0.5)}
    with judge_server(lambda text, count: Reply("The", top_logprobs=top if text == "x" else {"The": 0.0})) as server:
        scorer = judge(server, tmp_path, answer="logprob", labels={"yes": -1.0, "no": 0.0}, tries=1)
        np.testing.assert_allclose(scorer.score(["x", "y"]), [-0.8, np.nan], rtol=1e-6)
        assert server.bodies[0]["top_logprobs"] == 20


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rubric": "Rate it."}, r"has no \{text\}"),
        ({"worst": 1.0, "best": 1.0}, "worst and best are both 1"),
        ({"answer": "label"}, "needs at least two labels"),
        ({"max_cost": 1.0}, "needs input_price and output_price"),
        ({"url": "http://me:secret@host/v1"}, "holds a user, a password"),
    ],
)
def test_fields_that_do_not_fit_are_refused(tmp_path, fields, message):
    defaults = {"url": "http://127.0.0.1:1/v1", "model": "m", "rubric": RUBRIC, "max_calls": 1}
    with pytest.raises(InputError, match=message) as caught:
        phf.scorers.load("judge", **{**defaults, **fields})
    assert "secret" not in str(caught.value)


def annotation(server, tmp_path, **fields):
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"id": f"d{i}", "text": f"text {i}"}) + "\n" for i in range(30)))
    scorer = {"name": "judge", "url": server.url, "model": "m", "rubric": RUBRIC, "cache": str(tmp_path / "cache")}
    scorer |= {"max_calls": 1000, "concurrency": 4, **fields}
    return config.check(
        config.Annotate, {"scorer": scorer, "segmenter": "document", "part": 10, "timeout": 0.2}, "annotate"
    ), config.Corpus(inputs=[str(tmp_path / "c.jsonl")])


def test_annotation_waits_for_a_judge_and_goes_on_after_the_budget_is_raised(tmp_path):
    with judge_server(lambda text, count: Reply("10", seconds=0.3)) as server:
        options, corpus = annotation(server, tmp_path, max_calls=17)
        with pytest.raises(InputError, match="budget of 17 calls"):
            annotate(corpus, options, tmp_path / "out")
        assert len(server.asked) == 17
        options, corpus = annotation(server, tmp_path, max_calls=40, concurrency=8)
        summary = annotate(corpus, options, tmp_path / "out")
    assert (summary.documents, summary.failed, summary.unscored) == (30, 0, 0)
    assert sorted(server.asked) == sorted(f"text {i}" for i in range(30))
    options, corpus = annotation(server, tmp_path, max_calls=40)
    assert annotate(corpus, options, tmp_path / "out").was_finished
    options, corpus = annotation(server, tmp_path, rubric="Another question: {text}")
    with pytest.raises(InputError, match=r"annotate\.scorer\.rubric was"):
        annotate(corpus, options, tmp_path / "out")


KILLED = """
import sys
from pathlib import Path
from phf import config
from phf.annotate import annotate
if __name__ == "__main__":
    options = config.Annotate.model_validate_json(sys.argv[1])
    annotate(config.Corpus(inputs=[sys.argv[2]]), options, Path(sys.argv[3]))
"""


def test_a_killed_run_asks_no_cached_question_again(tmp_path):
    with judge_server(lambda text, count: Reply("10", seconds=0.2)) as server:
        options, corpus = annotation(server, tmp_path)
        program = tmp_path / "program.py"
        program.write_text(KILLED)
        command = [sys.executable, str(program), options.model_dump_json(), corpus.inputs[0], str(tmp_path / "out")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        process = subprocess.Popen(command, env=environment, start_new_session=True)
        deadline = time.monotonic() + 60
        while len(server.asked) < 10 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(2.0)  # the scoring process sees that its parent is gone
        cached, before = set(kept(tmp_path)), len(server.asked)
        assert cached
        assert annotate(corpus, options, tmp_path / "out").documents == 30
        assert not cached & set(server.asked[before:])
    assert set(server.asked) == {f"text {i}" for i in range(30)}


@pytest.mark.slow
def test_a_real_server_is_a_judge(tmp_path):
    """A model made on the spot, behind `transformers serve`: what it says is noise, but it is kept and read."""
    run = checkpoints.checkpoint(tmp_path / "run", change=checkpoints.legible)
    folder = run / "checkpoints" / "step-3"
    words = AutoTokenizer.from_pretrained(folder)
    words.chat_template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    words.save_pretrained(folder)
    rubric = "1 or 10?\n{text}"
    with transformers_serve(folder, tmp_path / "log") as url:
        fields = {"url": url, "model": str(folder), "rubric": rubric, "max_calls": 8, "cache": str(tmp_path / "cache")}
        rewards = phf.scorers.load("judge", **fields).score(["a", "b"])
    assert rewards.shape == (2,)
    assert set(kept(tmp_path)) == {"a", "b"}
    assert all(kept(tmp_path).values())
