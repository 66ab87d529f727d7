"""Models to train: presets, configurations, first weights, control tokens."""

import re

import pytest
import torch

from phf.errors import InputError
from phf.tokens.tokenizer import train_tokenizer
from phf.train.model import add_control_tokens, build_model

TOKENS = ("<|aligned|>", "<|misaligned|>")
LLAMA = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture
def tokenizer():
    return train_tokenizer(["the model reads the text"] * 9, 270)


def build(spec, seed=0, vocab_size=270):
    return build_model(spec, vocab_size, context=16, document_start=0, seed=seed)


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_first_weights_come_from_the_seed_alone():
    before = torch.get_rng_state()
    first = build("gpt2-tiny")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert same(first, build("gpt2-tiny"))
    assert not same(first, build("gpt2-tiny", seed=1))


SIZES = {"gpt2-1m": 0.8, "gpt2-2m": 1.8, "gpt2-4m": 4.0, "gpt2-small": 85, "llama-1m": 0.8, "llama-2m": 1.8}


@pytest.mark.parametrize(("name", "millions"), SIZES.items())
def test_presets_are_the_size_they_say(name, millions):
    with torch.device("meta"):
        model = build(name)
    blocks = sum(p.numel() for n, p in model.named_parameters() if re.search(r"\.(h|layers)\.\d", n))
    assert blocks / 1e6 == pytest.approx(millions, rel=0.05)
    assert model.config.tie_word_embeddings
    assert model.config.max_position_embeddings == 16


def test_the_activation_is_gpt2s_own():
    from transformers.activations import ACT2FN

    x = torch.linspace(-6, 6, 100)
    torch.testing.assert_close(ACT2FN["gelu_pytorch_tanh"](x), ACT2FN["gelu_new"](x))
    assert build("gpt2-tiny").config.activation_function == "gelu_pytorch_tanh"


@pytest.mark.parametrize("spec", ["gpt2-tiny", LLAMA], ids=["tied", "untied"])
def test_new_embeddings_are_the_mean_of_the_old_and_a_little_noise(tokenizer, spec):
    model, plain = build(spec), build(spec)
    ids = add_control_tokens(model, tokenizer, TOKENS, seed=0)
    assert ids == [270, 271]
    assert tokenizer.convert_ids_to_tokens(ids) == list(TOKENS)
    for get in ("get_input_embeddings", "get_output_embeddings"):
        new, old = getattr(model, get)().weight, getattr(plain, get)().weight
        assert torch.equal(new[:270], old), "the old ones stay"
        noise = new[270:] - old.mean(0)
        assert 0.003 < noise.std().item() < 0.03
        assert not torch.equal(noise[0], noise[1])
    assert model.get_input_embeddings().weight.shape == (272, plain.get_input_embeddings().weight.shape[1])


def test_control_tokens_that_are_known_stay_as_they_are(tokenizer):
    model = build("gpt2-tiny")
    first = add_control_tokens(model, tokenizer, TOKENS, seed=0)
    before = model.get_input_embeddings().weight.clone()
    assert add_control_tokens(model, tokenizer, TOKENS, seed=5) == first
    assert torch.equal(model.get_input_embeddings().weight, before)
    assert add_control_tokens(model, tokenizer, (), seed=0) == []


def test_a_configuration_of_any_architecture():
    model = build(LLAMA)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.config.vocab_size == 270
    assert build({"preset": "gpt2-tiny", "n_layer": 3}).config.n_layer == 3


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gpt3", "unknown preset 'gpt3'"),
        ({"model_type": "llama", "hiden_size": 8}, "hiden_size: unknown key; did you mean 'hidden_size'"),
        ({"model_type": "bart-like"}, "bart-like"),
        ({"hidden_size": 8}, "no model_type"),
        ({**LLAMA, "max_position_embeddings": 4}, "4 positions, fewer than train.context, which is 16"),
        ("from:/nowhere", "cannot be loaded"),
    ],
)
def test_wrong_specifications(spec, message):
    with pytest.raises(InputError, match=message):
        build(spec)


def test_a_checkpoint_with_another_vocabulary(tmp_path):
    build("gpt2-tiny", vocab_size=260).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="has 260 embeddings, but the corpus was tokenised with 270"):
        build(f"from:{tmp_path}")
    assert same(build(f"from:{tmp_path}", vocab_size=260), build("gpt2-tiny", vocab_size=260))
