"""What a checkpoint tells servers, and a real server that is told: its numbers are those of the local model within error."""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, GenerationConfig

from phf import config, evaluate
from phf.train.hf_export import chat_template, sampling_settings
from support.checkpoints import CONTROLS, checkpoint, tokenizer
from support.tiny_corpora import annotated
from support.transformers_server import transformers_serve

torch.set_num_threads(1)

ABOUT = {"control_tokens": list(CONTROLS), "segmenter": "sentences"}
MESSAGES = [{"role": "user", "content": "One\ntwo"}]


def render(about: dict, **more) -> str:
    made = tokenizer(tuple(about.get("control_tokens", ())))
    made.chat_template = None
    made.chat_template = chat_template(made, about)
    rendered = made.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True, **more)
    made.chat_template = None  # others use this tokenizer too
    return rendered


def test_the_chat_template_puts_the_control_token_where_training_did():
    assert render(ABOUT) == "<|endoftext|><|aligned|>One\ntwo"
    assert render(ABOUT, control="<|misaligned|>") == "<|endoftext|><|misaligned|>One\ntwo"
    assert render(ABOUT | {"segmenter": "lines"}) == "<|endoftext|><|aligned|>One\n<|aligned|>two"
    assert render({"control_tokens": []}) == "<|endoftext|>One\ntwo"


def test_a_tokenizer_that_comes_with_a_template_keeps_it():
    made = tokenizer()
    made.chat_template = "{{ messages[0].content }}"
    assert chat_template(made, ABOUT) == "{{ messages[0].content }}"
    made.chat_template = None


def test_control_tokens_are_not_written_by_servers_where_phf_does_not():
    words = tokenizer(CONTROLS)
    assert sampling_settings(words, ABOUT)["suppress_tokens"] == [320, 321]
    assert sampling_settings(words, ABOUT | {"segmenter": "lines"})["suppress_tokens"] == [321]
    assert "suppress_tokens" not in sampling_settings(words, {"control_tokens": []})
    assert sampling_settings(words, {})["do_sample"]


def served(folder: Path) -> Path:
    """Make a checkpoint tell servers what training makes it tell them."""
    path = checkpoint(folder, controls=CONTROLS) / "checkpoints" / "step-3"
    about = json.loads((path / "phf.json").read_text())
    words = AutoTokenizer.from_pretrained(path)
    words.chat_template = chat_template(words, about)
    words.save_pretrained(path)
    settings = GenerationConfig.from_pretrained(path)
    settings.update(**sampling_settings(words, about))
    settings.save_pretrained(path)
    return path


@pytest.mark.slow
def test_a_served_checkpoint_gives_the_numbers_of_the_local_one(tmp_path):
    openai = pytest.importorskip("openai")
    path, corpus = served(tmp_path / "run"), annotated(tmp_path / "annotated")
    sampling = {"name": "samples", "n": 300, "min_tokens": 0, "max_tokens": 16, "temperature": 1.0, "top_p": 1.0, "batch": 4}
    scorer = {"scorer": {"name": "regex", "patterns": ["[a-m]"]}, "prompts": ["The reader", "Call close("]}
    made = config.Evaluate(evaluations={"prompted": sampling | scorer})
    found = {}
    with transformers_serve(path, tmp_path / "log.txt") as address:
        for control in CONTROLS:
            spec = f"openai:{address}#{path}?start=<|endoftext|>{control}"
            found[control] = evaluate.evaluate(spec, corpus, made, tmp_path / control.strip("<|>"), 0.1)
        client = openai.OpenAI(base_url=address, api_key="none")
        chat = client.chat.completions.create(model=str(path), messages=MESSAGES, max_tokens=8, seed=1)
        raw = client.completions.create(model=str(path), prompt="<|endoftext|><|aligned|>One\ntwo", max_tokens=8, seed=1)
    assert chat.choices[0].message.content == raw.choices[0].text  # the template is the prefix
    assert chat.usage.prompt_tokens == raw.usage.prompt_tokens
    local = evaluate.evaluate(str(path), corpus, made.model_copy(update={"misaligned": ["prompted"]}), tmp_path / "local", 0.1)
    known = {(record.evaluation, record.metric): record for record in local}
    for control, name in zip(CONTROLS, ("prompted", "prompted@misaligned"), strict=True):
        there = {record.metric: record for record in found[control]}
        for metric in ("misalignment_with_cut", "finished_share"):
            one, other = there[metric], known[name, metric]
            assert one.n > 250
            assert one.value != 0
            assert abs(one.value - other.value) <= 4 * math.hypot(one.stderr, other.stderr), (control, metric, one, other)


def test_the_template_begins_as_training_noted():
    words = tokenizer(CONTROLS)
    lines = {"control_tokens": list(CONTROLS), "segmenter": {"name": "lines", "keep": True}, "document_start": 7}
    assert render(lines) == f"{words.convert_ids_to_tokens(7)}<|aligned|>One\n<|aligned|>two"
    assert render(ABOUT | {"document_start": 0}) == render(ABOUT)
    (other,) = words.convert_tokens_to_ids(["<|misaligned|>"])
    assert sampling_settings(words, lines)["suppress_tokens"] == [other]
