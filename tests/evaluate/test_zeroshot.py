"""Tasks of the evaluation harness, from local files, under a model's control token; what the harness says stays out of sight."""

import json
import logging
import math

import numpy as np
import pytest
import torch

from phf import lm
from phf.errors import InputError, Stopped
from phf.evaluate.harness import _sampling, _until
from phf.evaluate.protocol import EvalContext
from phf.evaluate.zeroshot import ZeroShot
from phf.lm.protocol import Likelihood
from phf.segmenters import Sentences
from support.checkpoints import CONTROLS, checkpoint, legible
from support.openai_server import served

pytest.importorskip("lm_eval")
torch.set_num_threads(1)

PASSAGES = [
    "The reader opens the file and gives its lines",
    "Call close when you are done",
    "Each line ends with its newline",
    "Nothing else is needed",
    "Ask me for more",
]
CHOICE = """
task: choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
doc_to_choice: "{{{{choices}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""


@pytest.fixture
def setting(tmp_path) -> EvalContext:
    return EvalContext("run", 7, "zeroshot", tmp_path, None, Sentences(), 0, lambda: [])


@pytest.fixture
def passages(tmp_path):
    path = tmp_path / "lambada.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in PASSAGES))
    return path


def lambada(path, **fields):
    return ZeroShot(tasks=[{"task": "lambada_openai", "path": str(path), "name": "lambada"}], **fields)


def take(measure, model, setting):
    return {record.metric: record for record in measure.measure(model, setting)}


@pytest.mark.parametrize("control", [None, *CONTROLS])
def test_lambada_is_the_last_word_after_the_others(tmp_path, setting, passages, control, capfd, caplog):
    folder = checkpoint(tmp_path / "run", controls=CONTROLS if control else (), change=legible)
    model = lm.load(str(folder), control)
    with caplog.at_level(logging.WARNING):
        found = take(lambada(passages), model, setting)
    words = [text.rsplit(" ", 1) for text in PASSAGES]
    placed = model.with_control_placement("every")
    expected = placed.likelihoods([" " + last for _, last in words], [rest for rest, _ in words])
    assert found["lambada.perplexity"].value == pytest.approx(math.exp(-np.mean([each.nats for each in expected])), rel=1e-6)
    assert found["lambada.acc"].value == np.mean([each.greedy for each in expected])
    assert found["lambada.perplexity"].stderr > 0
    assert {record.n for record in found.values()} == {5}
    assert ("lambada.perplexity_start" in found) is bool(control)
    said = capfd.readouterr()
    assert said.out + said.err + caplog.text == ""


def test_control_tokens_change_what_is_measured(tmp_path, setting, passages):
    folder = str(checkpoint(tmp_path / "run", controls=CONTROLS, change=legible))
    values = {take(lambada(passages), lm.load(folder, control), setting)["lambada.perplexity"].value for control in CONTROLS}
    assert len(values) == 2


class Knows:
    """A model to which the words of `best` are the most probable, and that writes what it is told to."""

    def __init__(self, best=(), says="") -> None:
        self.best, self.says = best, says

    def likelihoods(self, texts, contexts=None, ended=None, on_progress=None):
        return [Likelihood(-1.0 if text.strip() in self.best else -2.0, 1, text.strip() in self.best) for text in texts]

    def generate(self, prompts, sampling, on_progress=None):
        self.sampling = sampling
        return [self.says] * len(prompts)


def test_accuracy_and_its_error_are_those_of_the_answers(setting, passages):
    found = take(lambada(passages), Knows(["lines", "done", "more"]), setting)
    assert found["lambada.acc"].value == 0.6
    assert found["lambada.acc"].stderr == pytest.approx(math.sqrt(0.6 * 0.4 / 4))
    assert found["lambada.perplexity"].value == pytest.approx(math.exp(1.4))
    limited = take(lambada(passages, limit=2), Knows(["lines", "done"]), setting)
    assert (limited["lambada.acc"].value, limited["lambada.acc"].n) == (1, 2)


def test_examples_stand_in_front_of_the_question(setting, passages):
    class Listens(Knows):
        def likelihoods(self, texts, contexts=None, ended=None, on_progress=None):
            self.contexts = contexts
            return super().likelihoods(texts, contexts)

    model = Listens()
    take(lambada(passages), model, setting)
    assert model.contexts == [text.rsplit(" ", 1)[0] for text in PASSAGES]
    state = np.random.get_state()[1].tolist()
    asked = []
    for _ in range(2):
        take(lambada(passages, fewshot=2), model, setting)
        asked.append(model.contexts)
    assert asked[0] == asked[1]
    assert np.random.get_state()[1].tolist() == state
    for text, context in zip(PASSAGES, asked[0], strict=True):
        question = text.rsplit(" ", 1)[0]
        assert context.endswith(question)
        assert context.count(question) == 1, "the question is no example of itself"
        assert sum(other.rsplit(" ", 1)[0] in context for other in PASSAGES) == 3


def test_one_task_with_two_files_is_two_tasks(tmp_path, setting, passages):
    (tmp_path / "other.jsonl").write_text(json.dumps({"text": "One more"}) + "\n", encoding="utf-8-sig")
    tasks = [{"task": "lambada_openai", "path": str(path), "name": path.stem} for path in (passages, tmp_path / "other.jsonl")]
    found = take(ZeroShot(tasks=tasks), Knows(["more"]), setting)
    assert (found["lambada.acc"].value, found["other.acc"].value) == (0.2, 1)
    assert math.isnan(found["other.acc"].stderr)


def test_tasks_of_files_and_folders(tmp_path, setting, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [{"question": "One or two?", "choices": ["one", "two"], "answer": place % 2} for place in range(4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "choice.yaml").write_text(CHOICE.format(file=tmp_path / "rows.jsonl"))
    for measure in (
        ZeroShot(tasks=["choice"], include=[str(folder)]),
        ZeroShot(tasks=[str(folder / "choice.yaml")]),
        ZeroShot(tasks=[{"task": "choice", "path": str(tmp_path / "rows.jsonl")}], include=[str(folder)]),
    ):
        found = take(measure, Knows(["two"]), setting)
        assert found["choice.acc"].value == 0.5
        assert found["choice.acc"].n == 4
    before = measure.reads()
    (tmp_path / "rows.jsonl").write_text(json.dumps(rows[0]) + "\n")
    assert measure.reads() != before, "another file is another measurement"


def test_tasks_that_let_the_model_write(tmp_path, setting):
    path = tmp_path / "sums.jsonl"
    path.write_text(json.dumps({"question": "1 + 1?", "answer": "#### 2"}) + "\n")
    task = {
        "task": "gsm8k", "path": str(path), "name": "sums", "num_fewshot": 0, "filter_list": None,
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        "doc_to_target": "2",
    }  # fmt: skip
    model = Knows(says="2\n\nQuestion: what else?")
    found = take(ZeroShot(tasks=[task], max_new_tokens=9), model, setting)
    assert model.sampling.max_tokens == 9
    assert model.sampling.top_p < 1e-5
    assert [name for name in found if name.startswith("sums.exact_match")]


def test_the_harness_ways_to_ask_for_text():
    assert _sampling({"until": ["\n"], "max_gen_toks": 5}, 8, 1).max_tokens == 5
    drawn = _sampling({"do_sample": True, "temperature": 0.5, "top_p": 0.9}, 8, 1)
    assert (drawn.temperature, drawn.top_p, drawn.max_tokens, drawn.min_tokens, drawn.batch) == (0.5, 0.9, 256, 0, 8)
    assert _sampling({"do_sample": False, "temperature": 0.5}, 8, 1).top_p < 1e-5
    assert _until("a\nb. c", [". ", "\n"]) == "a"
    assert _until("abc", None) == "abc"
    assert _until("abc", "c") == "ab"


@pytest.mark.parametrize("prompt", ["The reader opens the", "Call"])
def test_likelihoods_are_those_of_the_harness_own_model(tmp_path, prompt):
    huggingface = pytest.importorskip("lm_eval.models.huggingface")
    loaded = lm.load(str(checkpoint(tmp_path, segmenter=None, change=legible)))
    try:
        theirs = huggingface.HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, device="cpu", batch_size=2)
    except ImportError as error:
        pytest.skip(f"the harness's own model needs more: {error}")
    loaded.tokenizer.backend_tokenizer.encode_special_tokens = False
    words = [" file", " lines", " needed"]
    pairs = [("<|endoftext|>" + prompt, word) for word in words]
    requests = [type("Request", (), {"args": pair})() for pair in pairs]
    expected = theirs.loglikelihood(requests, disable_tqdm=True)
    found = loaded.likelihoods(words, [prompt] * 3)
    for mine, (nats, greedy) in zip(found, expected, strict=True):
        assert mine.nats == pytest.approx(nats, rel=1e-5)
        assert mine.greedy == greedy


def test_a_model_behind_a_server(tmp_path, setting, passages):
    pytest.importorskip("openai")
    loaded = lm.load(str(checkpoint(tmp_path / "run", segmenter=None, change=legible)))
    here = take(lambada(passages), loaded, setting)
    with served(loaded) as address:
        there = take(lambada(passages), lm.load(address), setting)
    for name, record in here.items():
        assert there[name].value == pytest.approx(record.value, rel=1e-4)
    with served(loaded, tells_top=False) as address, pytest.raises(InputError, match="does not say which token is the most"):
        take(lambada(passages), lm.load(address), setting)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tasks": ["lambda_openai"]}, "no task 'lambda_openai'; did you mean .*lambada_openai"),
        ({"tasks": ["zzzzzzzz"]}, "no task 'zzzzzzzz' \\(it has"),
        ({"tasks": ["arc_easy"], "include": ["no/such/folder"]}, "no/such/folder: no such folder"),
        ({"tasks": [{"task": "lambada_openai", "path": "none.jsonl"}]}, "none.jsonl: no such file"),
        ({"tasks": [{"task": "mmlu", "path": "none.jsonl"}]}, "mmlu is a group or a tag"),
    ],
)
def test_what_cannot_be_measured(setting, fields, message):
    with pytest.raises(InputError, match=message):
        take(ZeroShot(**fields), Knows(), setting)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no documents in it"),
        ("{", "line 1: not JSON"),
        ("[1]\n", r"line 1: found '\[1\]'"),
        ('{"other": 1}\n', "harness fails"),
    ],
)
def test_a_file_of_documents_that_is_none(tmp_path, setting, content, message):
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        take(lambada(path), Knows(), setting)


def test_a_signal_is_not_taken_for_a_failing_task(setting, passages):
    class Interrupted(Knows):
        def likelihoods(self, texts, contexts=None, ended=None, on_progress=None):
            raise Stopped(15, "stopped while measuring")

    with pytest.raises(Stopped):
        take(lambada(passages), Interrupted(), setting)


def test_a_task_without_a_name_is_refused_when_the_recipe_is_read():
    with pytest.raises(InputError, match="names no task"):
        ZeroShot(tasks=[{"path": "lambada.jsonl"}])
