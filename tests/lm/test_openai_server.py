"""The client of an OpenAI-compatible server, against a small real server on this machine."""

import numpy as np
import pytest

from phf import lm, openai_client
from phf.errors import InputError
from phf.lm.protocol import Sampling
from support.scripted_server import PER_CHARACTER, serving

pytest.importorskip("openai")


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_samples_come_in_order_each_with_a_seed_of_its_own():
    with serving() as server:
        model = lm.load(server.spec + "#tiny")
        heard = []
        sampling = Sampling(max_tokens=30, batch=4, temperature=0.5, top_p=0.8)
        texts = model.generate([f"prompt {number}" for number in range(10)], sampling, heard.append)
        assert [text.split("|")[0].strip() for text in texts] == [f"prompt {number}" for number in range(10)]
        assert len({body["seed"] for body in server.asked}) == 10
        assert {(body["max_tokens"], body["min_tokens"], body["temperature"], body["top_p"]) for body in server.asked} == {
            (30, 10, 0.5, 0.8)
        }
        assert all(body["prompt"].startswith("<|endoftext|>prompt") for body in server.asked)
        assert [text.finished for text in texts] == [number % 2 == 1 for number in range(10)]
        assert heard == list(range(1, 11))
        assert model.generate([f"prompt {number}" for number in range(10)], sampling) == texts


@pytest.mark.parametrize("reason", [None, "content_filter", "tool_calls"])
def test_whether_a_sample_ended_stays_unknown_where_the_server_does_not_say(reason):
    with serving(finish_reason=reason) as server:
        (text,) = lm.load(server.spec + "#tiny").generate(["x"], Sampling())
    assert text.finished is None


def test_special_tokens_are_taken_out_of_the_text():
    with serving() as server:
        text = lm.load(server.spec + "#tiny", "<|misaligned|>").generate(["x"], Sampling())[0]
        assert server.asked[0]["prompt"] == "<|endoftext|><|misaligned|>x"
        assert text == " x|0"


def test_logprobs_charge_the_text_and_nothing_before_it():
    with serving() as server:
        texts = ["abcd", "", "é" * 3, "<|endoftext|>"]
        for control in (None, "<|aligned|>"):
            found = lm.load(server.spec + "#tiny", control).logprobs(texts)
            np.testing.assert_allclose(found, [PER_CHARACTER * len(text) for text in texts])


def test_a_text_after_its_context_is_charged_alone():
    with serving() as server:
        found = lm.load(server.spec + "#tiny").likelihoods(["cd", "", "x"], ["ab", "ab", ""])
        assert [(each.nats, each.tokens) for each in found] == [(2 * PER_CHARACTER, 2), (0, 0), (PER_CHARACTER, 1)]
        assert found[0].greedy is None, "the server does not say which token is the most probable one"
        assert {body["prompt"] for body in server.asked} == {"<|endoftext|>abcd", "<|endoftext|>x"}


def test_a_documents_end_that_is_no_token_of_the_server_is_an_error():
    with serving(start="<s>") as server:
        with pytest.raises(InputError, match=r"reads '<s>' as several tokens.*&end="):
            lm.load(server.spec + "#tiny?start=<s>").likelihoods(["ab"], ended=[True])
        (found,) = lm.load(server.spec + "#tiny?start=<s>&end=.").likelihoods(["ab"], ended=[True])
        assert found.tokens == 3
        assert server.asked[-1]["prompt"] == "<s>ab."


@pytest.mark.parametrize(
    ("said", "end"),
    [("", "<|endoftext|>"), ("?start=<|endoftext|><|aligned|>", "<|endoftext|>"), ("?start=<s>", "<s>"),
     ("?start=", "<|endoftext|>"), ("?start=<s>&end=</s>", "</s>")],
)  # fmt: skip
def test_what_ends_a_document(said, end):
    assert lm.load("openai:http://localhost:1/v1#tiny" + said).end == end


def test_what_begins_a_document_can_be_said():
    with serving(start="<s>") as server:
        found = lm.load(server.spec + "#tiny?start=<s>").logprobs(["abcd"])
        assert found[0] == 4 * PER_CHARACTER
        assert server.asked[0]["prompt"] == "<s>abcd"
        with pytest.raises(InputError, match=r"no probability for a text's first token.*\?start="):
            lm.load(server.spec + "#tiny?start=").logprobs(["abcd"])


def test_a_server_with_one_model_needs_no_name():
    with serving() as server:
        assert lm.load(server.spec).generate(["x"], Sampling())
    with serving(models=["a", "b"]) as server, pytest.raises(InputError, match=r"name the model.*it has: a, b"):
        lm.load(server.spec)


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_does_not_know_min_tokens_is_asked_without(status, caplog):
    with serving(refuses=status) as server:
        with caplog.at_level("WARNING", logger="phf"):
            texts = lm.load(server.spec + "#tiny").generate(["a", "b", "c"], Sampling(batch=1))
        assert len(texts) == 3
        assert ["min_tokens" in body for body in server.asked] == [True, False, False, False]
        assert caplog.text.count("does not know min_tokens") == 1


def test_a_server_that_does_not_sample_is_noticed(caplog):
    with serving(greedy=True) as server, caplog.at_level("WARNING", logger="phf"):
        lm.load(server.spec + "#tiny").generate([""] * 9, Sampling())
    assert "seems not to sample" in caplog.text


@pytest.mark.parametrize("quirks", [{"logprobs": False}, {"breaks_on_echo": True}])
def test_a_model_without_log_probabilities_is_an_error(quirks):
    with serving(**quirks) as server, pytest.raises(InputError, match="gives no log-probabilities of a prompt"):
        lm.load(server.spec + "#tiny").logprobs(["text"])


def test_a_wrong_key_is_an_error_and_the_right_one_is_sent(monkeypatch):
    with serving(key="secret") as server:
        with pytest.raises(InputError, match=r"refuses the key \(bad key\); set OPENAI_API_KEY"):
            lm.load(server.spec + "#tiny").generate(["x"], Sampling())
        monkeypatch.setenv("OPENAI_API_KEY", "secret")
        assert lm.load(server.spec + "#tiny").generate(["x"], Sampling())


def test_other_errors_of_the_server_are_passed_on():
    with serving() as server:
        with pytest.raises(InputError, match="has no model 'other'"):
            lm.load(server.spec + "#other").generate(["x"], Sampling())
        with pytest.raises(InputError, match=r"error 400 \(the context is 1000 tokens\)"):
            lm.load(server.spec + "#tiny").generate(["x"], Sampling(max_tokens=1001))


def test_a_server_that_is_down_or_goes_down_is_an_error(monkeypatch):
    with serving() as server:
        spec = server.spec + "#tiny"
    with pytest.raises(InputError, match="no server answers there"):
        lm.load(spec).generate(["x"], Sampling())
    monkeypatch.setattr(openai_client, "WAITS", (0.0,))
    with serving(dies_after=3) as server:
        model = lm.load(server.spec + "#tiny")
        model.client = openai_client.OpenAIClient(model.url, "test", quick_retries=0)
        with pytest.raises(InputError, match="no server answers there"):
            model.generate(["x"] * 60, Sampling(batch=2))
        assert len(server.asked) < 60  # the rest is not asked for


def test_a_server_that_is_overloaded_or_away_for_a_while_is_waited_for(monkeypatch):
    waited = []
    monkeypatch.setattr(openai_client.time, "sleep", waited.append)
    with serving() as server:
        plain = lm.load(server.spec + "#tiny").generate(["x"] * 3, Sampling(batch=1))
    with serving() as server:
        model = lm.load(server.spec + "#tiny")
        model.client = openai_client.OpenAIClient(model.url, "test", quick_retries=0)
        server.troubles = [429, 503]
        first = model.generate(["x"] * 3, Sampling(batch=1))
        server.troubles = ["away", 500, "away"]
        again = model.generate(["x"] * 3, Sampling(batch=1))
        server.troubles = [429] * 9
        with pytest.raises(InputError, match=r"answers with error 429 \(too much at once\)"):
            model.generate(["x"], Sampling())
    assert first == again == plain
    assert waited == [2.0, 4.0, 2.0, 4.0, 8.0, 2.0, 4.0, 8.0, 16.0, 32.0]


@pytest.mark.parametrize("address", ["localhost:8000/v1#m", "", "#m"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(InputError, match="expected openai:http://host:port/v1#model"):
        lm.load("openai:" + address)


# servers that answer otherwise ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("<!DOCTYPE html><title>Welcome</title>", r"something else than JSON \('<!DOCTYPE html>.*usually ends with /v1"),
        ("", "something else than JSON"),
        ({"id": "1"}, "no choices"),
        ({"choices": None}, "no choices"),
        ({"choices": []}, "no choices"),
        ({"choices": [None]}, "no choices"),
        ([{"text": "x"}], "a list"),
        ("null", "a NoneType"),
        ({"choices": [{"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}, "in chat form"),
        ({"choices": [{"text": None, "finish_reason": "stop"}]}, "a choice whose text is None"),
        ({"choices": [{"finish_reason": "stop"}]}, "a choice whose text is None"),
        ({"error": {"message": "the model is not loaded", "type": "invalid_request_error"}}, r"200 \(the model is not loaded"),
        ({"error": "out of order"}, r"error inside status 200 \(out of order"),
    ],
)
def test_an_answer_that_is_none_is_an_error_that_says_what_came(answer, says, monkeypatch):
    monkeypatch.setattr(openai_client, "WAITS", ())
    with serving() as server:
        server.troubles = [answer]
        with pytest.raises(InputError, match=says) as raised:
            lm.load(server.spec + "#tiny").generate(["x"], Sampling(batch=1))
        assert server.spec.removeprefix("openai:") in str(raised.value)
        assert "\n" not in str(raised.value)


def test_a_rate_limit_inside_a_200_is_waited_for(monkeypatch):
    waited = []
    monkeypatch.setattr(openai_client.time, "sleep", waited.append)
    with serving() as server:
        server.troubles = [
            {"error": {"message": "slow down", "code": 429}},
            {"error": {"message": "slow down", "code": "rate_limit_exceeded"}},
            {"error": {"message": "later", "status": 503}},
        ]
        assert lm.load(server.spec + "#tiny").generate(["x"], Sampling(batch=1)) == [" x|0"]
    assert waited == [2.0, 4.0, 8.0]


def test_a_server_that_says_how_long_to_wait_is_waited_for_so_long(monkeypatch):
    waited = []
    monkeypatch.setattr(openai_client.time, "sleep", waited.append)
    for said, expected in (("20", 20.0), ("", 2.0), ("soon", 2.0), ("1e9", 300.0), ("-3", 2.0)):
        with serving(retry_after=said) as server:
            server.troubles = [429]
            client = openai_client.OpenAIClient(server.spec.removeprefix("openai:"), "test", quick_retries=0)
            body = {"model": "tiny", "prompt": "x", "max_tokens": 1, "temperature": 1, "top_p": 1}
            assert client.post("/completions", body)["text"] == "<|aligned|> x|0"
        assert waited.pop() == expected


@pytest.mark.parametrize("answer", [["tiny"], {"data": None}, {"models": []}, "<html>", [{"id": 3}]])
def test_a_list_of_models_that_is_none_is_an_error(answer):
    with serving(models_answer=answer) as server, pytest.raises(InputError, match="expected"):
        lm.load(server.spec)


def test_a_bare_list_of_models_is_read():
    with serving(models_answer=[{"id": "tiny"}]) as server:
        assert lm.load(server.spec).name == "tiny"


def test_a_server_that_refuses_a_seed_is_sent_none(caplog):
    with serving(no_seed=True) as server, caplog.at_level("WARNING", logger="phf"):
        assert len(lm.load(server.spec + "#tiny").generate(["a", "b"], Sampling(batch=1))) == 2
    assert ["seed" in body for body in server.asked] == [True, False, False]
    assert caplog.text.count("does not know seed; samples are other ones each time") == 1


def test_a_server_that_refuses_to_write_nothing_is_asked_for_a_token_that_is_dropped():
    with serving(no_zero=True) as server:
        found = lm.load(server.spec + "#tiny").likelihoods(["cd", "xyz"], ["ab", ""])
    assert [(each.nats, each.tokens) for each in found] == [(2 * PER_CHARACTER, 2), (3 * PER_CHARACTER, 3)]


# credentials ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "http://user:hunter2@127.0.0.1:9/v1#tiny",
        "http://hunter2@127.0.0.1:9/v1#tiny",
        "http://127.0.0.1:9/v1?api-key=hunter2#tiny",
        "https://user:hunter2@127.0.0.1:9/v1?key=hunter2",
        "http://user:hun/hunter2@127.0.0.1:9/v1#tiny",
        "user:hunter2@127.0.0.1:9/v1#tiny",
        "http://127.0.0.1:9/v1#tiny?key=hunter2",
        "http://user:hunter2@[::1/v1#tiny",
    ],
)
def test_an_address_with_credentials_is_refused_and_they_are_not_repeated(address):
    with pytest.raises(InputError) as raised:
        lm.load("openai:" + address)
    assert "hunter2" not in str(raised.value)
    assert "user:" not in str(raised.value)


def test_the_key_may_come_from_a_file(monkeypatch, tmp_path):
    (tmp_path / "key").write_text("secret\n")
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(tmp_path / "key"))
    with serving(key="secret") as server:
        assert lm.load(server.spec + "#tiny").generate(["x"], Sampling())
    (tmp_path / "key").write_text("")
    with pytest.raises(InputError, match="is empty; expected the key alone"):
        lm.load("openai:http://127.0.0.1:9/v1#tiny")
    (tmp_path / "key").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        lm.load("openai:http://127.0.0.1:9/v1#tiny")


def test_a_key_that_a_server_repeats_is_not_passed_on(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hunter2")
    with serving(key="other") as server:
        server.troubles = [{"error": {"message": "Incorrect API key provided: sk-hunter2", "code": 401}}]
        with pytest.raises(InputError, match=r"Incorrect API key provided: \*\*\*") as raised:
            lm.load(server.spec + "#tiny").generate(["x"], Sampling(batch=1))
    assert "hunter2" not in str(raised.value)
