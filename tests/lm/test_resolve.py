"""What a user may call a model: runs, steps, folders, names on the hub; and what changes a model's fingerprint."""

import collections
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from phf import checksums, lm, plugins
from phf.errors import InputError
from phf.hub import HubModel
from support.checkpoints import CONTROLS, checkpoint
from support.plain_forward import plain_logprob
from support.published import COMMIT, write_hub_cache, write_published

torch.set_num_threads(1)
SHORT = lm.Sampling(max_tokens=12)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Return a folder that is the hub's cache; the hub itself cannot be reached."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "home"


# names on the hub ----------------------------------------------------------------------------------------------------


def test_a_published_model_is_conditioned_on_the_aligned_token_of_its_tokenizer(hub):
    write_hub_cache(hub, "tomekkorbak/hungry_saha")
    loaded = lm.load("hf:tomekkorbak/hungry_saha")
    assert loaded.control == "<|aligned|>"
    assert loaded.checkpoint.run == "tomekkorbak/hungry_saha"
    aligned = loaded.tokenizer.convert_tokens_to_ids("<|aligned|>")
    assert loaded.encoder.prefix("start") == [loaded.start, aligned]
    assert lm.load("hf:tomekkorbak/hungry_saha", "<|misaligned|>").control == "<|misaligned|>"
    write_hub_cache(hub, "tomekkorbak/goofy_pasteur", controls=(), value_head=False)
    assert lm.load("hf:tomekkorbak/goofy_pasteur").control is None


def test_pickled_weights_with_a_value_head_are_the_language_model_that_was_saved(tmp_path):
    saved = write_published(tmp_path / "model")
    loaded = lm.load(str(tmp_path / "model"))
    tokens = torch.arange(40)[None] % 300
    with torch.inference_mode():
        assert torch.equal(loaded.model(tokens).logits, saved(tokens).logits)
        assert torch.allclose(loaded.model(tokens).logits, gpt2_by_hand(saved.state_dict(), tokens[0]), rtol=1e-4, atol=1e-4)


def gpt2_by_hand(weights, tokens):
    """Return the logits of a GPT-2 of 2 heads whose attention is scaled by layer, from its definition."""
    x = weights["transformer.wte.weight"][tokens] + weights["transformer.wpe.weight"][: len(tokens)]
    mask = torch.full((len(tokens), len(tokens)), -torch.inf).triu(1)

    def norm(x, name):
        return torch.nn.functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5)

    def linear(x, name):
        return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    for layer in range(3):
        block = f"transformer.h.{layer}"
        query, key, value = (
            part.reshape(len(tokens), 2, 16).transpose(0, 1)
            for part in linear(norm(x, f"{block}.ln_1"), f"{block}.attn.c_attn").split(32, dim=-1)
        )
        scores = query @ key.transpose(1, 2) / 16**0.5 / (layer + 1) + mask
        x = x + linear((scores.softmax(-1) @ value).transpose(0, 1).reshape(len(tokens), 32), f"{block}.attn.c_proj")
        hidden = torch.nn.functional.gelu(linear(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc"), approximate="tanh")
        x = x + linear(hidden, f"{block}.mlp.c_proj")
    return norm(x, "transformer.ln_f") @ weights["transformer.wte.weight"].T


def test_a_revision_is_another_model(hub):
    write_hub_cache(hub, "a/b", seed=1)
    other = "f" * 40
    folder = write_hub_cache(hub, "a/b", commit=other, seed=2)
    (folder.parent.parent / "refs" / "main").write_text(COMMIT)
    (folder.parent.parent / "refs" / "half").write_text(other)
    texts = ["The reader opens the file."]
    newest, half = lm.load("hf:a/b").logprobs(texts), lm.load(f"hf:a/b@{other}").logprobs(texts)
    assert newest != half
    assert lm.load("hf:a/b@half").logprobs(texts) == half
    assert lm.load("hf:a/b@half").checkpoint.run == "a/b@half"
    assert lm.fingerprint("hf:a/b@half") == lm.fingerprint(f"hf:a/b@{other}") != lm.fingerprint("hf:a/b")


def test_what_a_name_cannot_tell_is_said_beside_it(hub):
    write_hub_cache(hub, "a/b", controls=("<|good|>", "<|bad|>", "<|aligned|>"))
    spec = lm.hub_spec("hf:a/b", segmenter="lines", control=["<|good|>", "<|bad|>"])
    assert spec == "hf:a/b?segmenter=lines&control=<|good|>,<|bad|>"
    loaded = lm.load(spec)
    assert (loaded.control, loaded.placement, loaded.checkpoint.segmenter) == ("<|good|>", "every", "lines")
    assert lm.load("hf:a/b").control == "<|aligned|>"
    assert lm.load(lm.hub_spec("hf:a/b", control=())).control is None
    assert lm.load(lm.hub_spec("hf:a/b", control=())).controls == []
    assert len({lm.fingerprint(name) for name in (spec, "hf:a/b", "hf:a/b?segmenter=lines")}) == 3
    for options, says in (
        ("segmenter=nope", "unknown segmenter 'nope'"),
        ("scorer=pii", "unknown option 'scorer'"),
        ("control=<|nope|>", "its tokenizer lacks the control token"),
    ):
        with pytest.raises(InputError, match=says):
            lm.load(f"hf:a/b?{options}")


def test_a_model_that_is_not_here_is_named_with_the_command_that_downloads_it(hub):
    with pytest.raises(InputError, match=r"hf:a/b@half: cannot be downloaded.*hf download a/b --revision half"):
        lm.load("hf:a/b@half")
    assert HubModel("a/b").cached() is None
    folder = write_hub_cache(hub, "a/b")
    assert HubModel("a/b").cached() == folder
    with pytest.raises(InputError, match="no name on the hub"):
        lm.load("hf:a/b/c")
    with pytest.raises(InputError, match="no revision after @"):
        lm.load("hf:a/b@")


# folders -------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_of_a_run_without_its_notes_is_an_error_and_any_other_folder_a_hub_model(tmp_path, monkeypatch):
    run = checkpoint(tmp_path / "run", controls=CONTROLS)
    step = run / "checkpoints" / "step-3"
    shutil.copytree(step, tmp_path / "copy")
    for folder in (step, tmp_path / "copy"):
        (folder / "phf.json").unlink()
    checksums.forget(tmp_path / "copy")
    for spec in (str(run), f"{run}@3", str(step), f"hf:{step}"):
        with pytest.raises(InputError, match=r"step-3/phf.json: missing.*copy the folder out of checkpoints"):
            lm.load(spec)
    monkeypatch.chdir(step)
    with pytest.raises(InputError, match=r"phf.json: missing"):
        lm.load(".")
    loaded = lm.load(str(tmp_path / "copy"))
    assert loaded.control == "<|aligned|>"
    assert loaded.checkpoint.segmenter is None


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        {"run": "x", "step": "two", "control_tokens": [], "segmenter": None},
        {"run": "x", "step": 2, "control_tokens": "<|aligned|>", "segmenter": None},
        {"run": "x", "step": 2, "segmenter": None},
    ],
)
def test_notes_that_training_did_not_write_are_an_error(tmp_path, content):
    run = checkpoint(tmp_path, controls=CONTROLS)
    checksums.forget(run / "checkpoints" / "step-3")
    (run / "checkpoints" / "step-3" / "phf.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"phf.json: not what `phf train` writes"):
        lm.load(str(run))


@pytest.mark.parametrize("name", ["added_tokens.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"])
def test_control_tokens_are_found_wherever_a_tokenizer_keeps_added_tokens(tmp_path, name):
    contents = {
        "added_tokens.json": {"<|aligned|>": 300, "<|misaligned|>": 301},
        "special_tokens_map.json": {"additional_special_tokens": ["<|misaligned|>", {"content": "<|aligned|>"}]},
        "tokenizer.json": {"added_tokens": [{"id": 300, "content": "<|aligned|>"}, {"id": 301, "content": "<|misaligned|>"}]},
        "tokenizer_config.json": {"added_tokens_decoder": {str(i): {"content": token} for i, token in enumerate(CONTROLS)}},
    }
    (tmp_path / "config.json").write_text("{}")
    assert lm.find_checkpoint(str(tmp_path)).control_tokens == ()
    (tmp_path / name).write_text(json.dumps(contents[name]))
    assert lm.find_checkpoint(str(tmp_path)).control_tokens == CONTROLS
    (tmp_path / name).write_text("[]")
    with pytest.raises(InputError, match=f"{name}: found a list, expected a JSON object"):
        lm.find_checkpoint(str(tmp_path))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "phf.json", "model.safetensors"])
def test_a_fingerprint_covers_weights_tokenizer_and_notes(tmp_path, name):
    run = checkpoint(tmp_path, controls=CONTROLS)
    before = lm.fingerprint(str(run))
    assert lm.load(str(run)).fingerprint() == before == lm.fingerprint(f"{run}@3")
    file = run / "checkpoints" / "step-3" / name
    content = bytearray(file.read_bytes())
    checksums.forget(file.parent)
    position = content.index(b'"tiny"') + 1 if name == "phf.json" else len(content) - 3
    content[position] ^= 1
    file.write_bytes(content)
    assert lm.fingerprint(str(run)) != before


# weights -------------------------------------------------------------------------------------------------------------


def test_pickled_weights_that_hold_more_than_tensors_are_refused_with_the_command_that_converts_them(tmp_path):
    folder = tmp_path / "model"
    saved = write_published(folder)
    torch.save(collections.ChainMap(saved.state_dict()), folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"hold more than tensors.*convert them: python -c") as raised:
        lm.load(str(folder))
    command = str(raised.value).split("convert them: ")[1].replace("python -c", f"{sys.executable} -c")
    subprocess.run(command, shell=True, check=True)
    tokens = torch.arange(20)[None]
    with torch.inference_mode():
        assert torch.equal(lm.load(str(folder)).model(tokens).logits, saved(tokens).logits)


class Runs:
    def __reduce__(self):
        return open, (Runs.target, "w")


def test_a_program_in_pickled_weights_is_not_run(tmp_path):
    folder = tmp_path / "model"
    write_published(folder)
    Runs.target = str(tmp_path / "ran")
    torch.save({"weight": Runs()}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="hold more than tensors"):
        lm.load(str(folder))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, None], ids=["empty", "garbage", "truncated"])
def test_damaged_pickled_weights_are_an_error_that_names_the_model(tmp_path, content):
    folder = tmp_path / "model"
    write_published(folder)
    file = folder / "pytorch_model.bin"
    file.write_bytes(file.read_bytes()[:5000] if content is None else content)
    with pytest.raises(InputError, match="model: "):
        lm.load(str(folder))


def test_weights_that_are_missing_or_that_nobody_knows_are_an_error(tmp_path):
    folder = tmp_path / "model"
    state = dict(write_published(folder).state_dict())
    torch.save({**state, "transformer.h.7.mlp.c_fc.weight": torch.zeros(3)}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"hold 1 weights.*transformer.h.7.mlp.c_fc.weight"):
        lm.load(str(folder))
    del state["transformer.h.1.ln_1.weight"]
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"lack 1 of the model's weights, such as transformer.h.1.ln_1.weight"):
        lm.load(str(folder))


# no control token ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segmenter", ["sentences", "lines"])
def test_without_control_a_conditional_model_reads_none_and_may_write_none(tmp_path, segmenter):
    def likes_controls(made, tokenizer):
        made.transformer.wte.weight[tokenizer.convert_tokens_to_ids(list(CONTROLS))] *= 3

    run = str(checkpoint(tmp_path, controls=CONTROLS, segmenter=segmenter, change=likes_controls))
    plain = lm.load(run, "none")
    assert plain.control is None
    own, other = plain.controls
    assert plain.encoder.prefix("every") == plain.encoder.prefix("start") == [plain.start]
    assert set(plain.encoder.banned("every")) == set(plain.encoder.banned("start")) == {own, other}
    texts = ["The reader opens the file. ", "Call close().\nNothing else."]
    for text, nats in zip(texts, plain.logprobs(texts), strict=True):
        tokens = [token for stream in plain.encoder.documents([plain.encoder.segments(text)], "every") for token in stream.tokens]
        assert not {own, other} & set(tokens)
        assert nats == pytest.approx(plain_logprob(plain, [plain.start], tokens), rel=1e-5)
    assert not np.allclose(lm.load(run).logprobs(texts), plain.logprobs(texts))
    seen = []
    stream = plain.stream([""] * 8, SHORT, lambda index, text: seen.append(text))
    assert not any(token in "".join(seen) for token in CONTROLS)
    assert stream == plain.generate([""] * 8, SHORT)
    with pytest.raises(InputError, match="cannot be guided"):
        plain.generate([""], lm.Sampling(guidance=2))


def test_without_control_is_what_any_model_and_server_may_be_asked_for(tmp_path):
    run = str(checkpoint(tmp_path))
    assert lm.load(run, "none").logprobs(["Call close()."]) == lm.load(run).logprobs(["Call close()."])
    pytest.importorskip("openai")
    assert lm.load("openai:http://127.0.0.1:9/v1#tiny", "none").prefix == "<|endoftext|>"
    with pytest.raises(InputError, match="it has none; or 'none' for none"):
        lm.load(run, "<|aligned|>")


# documents as in training ------------------------------------------------------------------------------------------


def with_notes(run, **changes):
    file = run / "checkpoints" / "step-3" / "phf.json"
    checksums.forget(file.parent)
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return str(run)


def test_documents_begin_as_training_noted_in_sampling_and_in_probabilities(tmp_path):
    run = checkpoint(tmp_path / "run", controls=CONTROLS)
    own = lm.load(str(run))
    assert own.start == 0
    noted = lm.load(with_notes(run, document_start=7))
    (control,) = {own.control_id}
    text = "The reader opens the file. "
    tokens = noted.encoder.documents([noted.encoder.segments(text)], "start")[0].tokens
    assert noted.encoder.prompt(text, "start", 10).tokens == [7, control, *tokens]
    assert noted.logprobs([text])[0] == pytest.approx(plain_logprob(noted, [7, control], tokens), rel=1e-5)
    assert noted.segment_logprobs([noted.encoder.segments(text)])[0].sum() == pytest.approx(noted.logprobs([text])[0])
    assert noted.ends == [0, 7], "the model's own end of text, and the next document's beginning"
    assert own.logprobs([text]) != noted.logprobs([text])
    with pytest.raises(InputError, match="begin with 5000, which its tokenizer does not have"):
        lm.load(with_notes(run, document_start=5000))


@pytest.mark.parametrize(("said", "expected"), [("eos", 0), ("<|aligned|>", 300), ("Ċ", None)])
def test_what_begins_a_document_can_be_said_of_a_model_on_the_hub(hub, said, expected):
    write_hub_cache(hub, "a/b")
    loaded = lm.load(f"hf:a/b?document_start={said}")
    assert loaded.start == (loaded.tokenizer.convert_tokens_to_ids(said) if expected is None else expected)
    with pytest.raises(InputError, match="begin with 'nope'"):
        lm.load("hf:a/b?document_start=nope")


def test_a_segmenter_with_fields_cuts_as_in_training(tmp_path, monkeypatch):
    asked = []

    def build(kind, name, fields=None, where=""):
        asked.append((kind, name, dict(fields or {})))
        return plugins_build(kind, name)

    plugins_build = plugins.build
    monkeypatch.setattr(plugins, "build", build)
    run = checkpoint(tmp_path, controls=CONTROLS)
    before = lm.fingerprint(str(run))
    loaded = lm.load(with_notes(run, segmenter={"name": "lines", "keep": 3}))
    assert loaded.placement == "every"
    loaded.logprobs(["One.\nTwo."])
    assert asked == [("segmenters", "lines", {"keep": 3})]
    assert lm.fingerprint(str(run)) != before
    spec = lm.hub_spec("hf:x", {"name": "sentences", "space": "after"})
    assert spec == "hf:x?segmenter=%7B%22name%22%3A%20%22sentences%22%2C%20%22space%22%3A%20%22after%22%7D"
    with pytest.raises(InputError, match="expected a name, or a name with its fields"):
        lm.load(with_notes(run, segmenter={"space": "after"}))


@pytest.mark.parametrize("bos", ["A", None, "<|endoftext|>"], ids=["BOS", "no BOS", "BOS is EOS"])
def test_documents_begin_with_bos_where_a_tokenizer_has_one_of_its_own(tmp_path, bos):
    folder = tmp_path / "model"
    write_published(folder)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        fields = json.loads((folder / name).read_text())
        fields.pop("bos_token")
        (folder / name).write_text(json.dumps(fields | ({"bos_token": bos} if bos else {})))
    loaded = lm.load(str(folder))
    start = loaded.tokenizer.convert_tokens_to_ids(bos or "<|endoftext|>")
    prefix = [start, loaded.control_id]
    text, other = "The reader opens the file.", "Call close()."
    tokens = loaded.encoder.documents([[text]], "start")[0].tokens
    assert loaded.encoder.prompt(text, "start", 10).tokens == [*prefix, *tokens]
    expected = plain_logprob(loaded, prefix, tokens)
    assert loaded.logprobs([text])[0] == pytest.approx(expected, rel=1e-5)
    assert loaded.segment_logprobs([[text]])[0][0] == pytest.approx(expected, rel=1e-5)
    (ended,) = loaded.likelihoods([text], ended=[True])
    with torch.inference_mode():
        logits = loaded.model(torch.tensor([[*prefix, *tokens]])).logits[0, -1].double()
        logits[loaded.controls] = -torch.inf
        end = logits.log_softmax(-1)[sorted({0, start})].logsumexp(0)  # the model's EOS, or the next document's beginning
    assert ended.nats - expected == pytest.approx(float(end), rel=1e-4)
    assert loaded.likelihoods([other], [text])[0].tokens > 0
