"""Guided decoding: its ends are the two conditions themselves, and between and beyond them it is the textbook's."""

import numpy as np
import pytest
import torch

from phf import lm
from phf.errors import InputError
from phf.lm import sampler
from phf.lm.guidance import Guidance
from phf.lm.nucleus import sample_nucleus
from phf.lm.protocol import Sampling
from phf.tokens.tokenizer import encode
from support.checkpoints import CONTROLS, TEXTS, checkpoint, model
from support.plain_forward import plain_logprob

torch.set_num_threads(1)

OWN, OTHER = 320, 321
ENDS = list(range(40))  # many, so that samples end at different times
KINDS = [("gpt2", 1), ("gpt2", 3), ("gpt2", 32), ("llama", 4), ("mistral", 4), ("bloom", 4), ("mamba", 4)]


def prompts(control: int, count: int = 11) -> list[list[int]]:
    generator = np.random.default_rng(1)
    return [[0, control, *generator.integers(1, 320, size=generator.integers(0, 20)).tolist()] for _ in range(count)]


@torch.inference_mode()
def sample_guided(model, prompt, sampling: Sampling, index: int, banned, guidance: Guidance) -> sampler.Sample:
    """Sample one prompt alone from the textbook's distribution, reading both texts anew for every token."""
    key = np.array([sampling.seed, index], np.uint64)
    uniforms = np.random.Generator(np.random.Philox(key=key)).random(sampling.max_tokens, dtype=np.float32)
    tokens: list[int] = []
    while len(tokens) < sampling.max_tokens:
        text = prompt + tokens
        own, other = (model(input_ids=torch.tensor([read])).logits[:, -1].log_softmax(-1) for read in (text, guidance.swap(text)))
        other[:, guidance.own] = other[:, guidance.other]
        logits = other + guidance.gamma * (own - other)
        logits[:, [guidance.other, *banned]] = -torch.inf
        if len(tokens) < sampling.min_tokens:
            logits[:, ENDS] = -torch.inf
        token = int(sample_nucleus(logits, torch.tensor([uniforms[len(tokens)]]), sampling.temperature, sampling.top_p))
        if token in ENDS:
            return sampler.Sample(tokens, True)
        tokens.append(token)
    return sampler.Sample(tokens, False)


# the two ends ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("banned", [[OWN, OTHER], [OTHER]], ids=["all", "others"])
@pytest.mark.parametrize(("kind", "batch"), KINDS)
def test_gamma_1_through_both_rows_is_conditional_sampling_token_for_token(kind, batch, banned):
    tiny = model(kind, 322)
    sampling = Sampling(min_tokens=2, max_tokens=24, batch=batch, seed=5)
    plain = sampler.generate(tiny, prompts(OWN), sampling, ENDS, banned)
    guided = sampler.generate(tiny, prompts(OWN), sampling, ENDS, banned, guidance=Guidance(1.0, OWN, OTHER))
    assert guided == plain
    assert len({len(sample.tokens) for sample in plain}) > 3


@pytest.mark.parametrize("own_allowed", [False, True])
@pytest.mark.parametrize(("kind", "batch"), KINDS)
def test_gamma_0_is_the_other_condition_token_for_token(kind, batch, own_allowed):
    tiny, guidance = model(kind, 322), Guidance(0.0, OWN, OTHER)
    sampling = Sampling(min_tokens=2, max_tokens=24, batch=batch, seed=5)
    other = sampler.generate(tiny, prompts(OTHER), sampling, ENDS, [OWN] if own_allowed else [OWN, OTHER])
    banned = [OTHER] if own_allowed else [OWN, OTHER]
    guided = sampler.generate(tiny, prompts(OWN), sampling, ENDS, banned, guidance=guidance)
    assert [guidance.swap(sample.tokens) for sample in guided] == [sample.tokens for sample in other]
    assert guided != sampler.generate(tiny, prompts(OWN), sampling, ENDS, banned)


def test_the_mixture_is_its_ends_to_the_last_bit():
    torch.manual_seed(0)
    own, other = torch.randn(5, 322) * 30, torch.randn(5, 322) * 30
    for gamma, end in ((1.0, own), (0.0, other)):
        mixed = Guidance(gamma, OWN, OTHER).mix(own.clone(), other.clone())
        assert torch.equal(mixed[:, :OWN], end[:, :OWN])
        assert torch.equal(mixed[:, OWN], end[:, OWN if gamma else OTHER])
        assert torch.isneginf(mixed[:, OTHER]).all()


@pytest.mark.parametrize("segmenter", ["sentences", "lines"])
def test_a_loaded_model_is_guided_from_its_other_control_token_to_its_own(tmp_path, segmenter):
    folder = str(checkpoint(tmp_path, controls=CONTROLS, segmenter=segmenter))
    asked = ["", "The reader opens the file. Each line", "Call", "one line\nanother line\n"]
    aligned, misaligned = (lm.load(folder, control) for control in CONTROLS)
    for gamma, same in ((1, aligned), (0, misaligned)):
        sampling = Sampling(max_tokens=20, seed=3, guidance=gamma)
        assert aligned.generate(asked, sampling) == same.generate(asked, Sampling(max_tokens=20, seed=3))
    backwards = misaligned.generate(asked, Sampling(max_tokens=20, seed=3, guidance=0))
    assert backwards == aligned.generate(asked, Sampling(max_tokens=20, seed=3))
    far = aligned.generate(asked, Sampling(max_tokens=20, seed=3, guidance=4))
    assert far != aligned.generate(asked, Sampling(max_tokens=20, seed=3))
    assert not any("<|" in text for text in far)


# beyond them ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("banned", [[OWN, OTHER], [OTHER]], ids=["all", "others"])
@pytest.mark.parametrize(("kind", "batch"), KINDS)
def test_guided_samples_equal_those_of_the_textbook(kind, batch, banned):
    tiny, guidance = model(kind, 322), Guidance(2.5, OWN, OTHER)
    sampling = Sampling(min_tokens=2, max_tokens=16, batch=batch, seed=5)
    expected = [sample_guided(tiny, prompt, sampling, index, banned, guidance) for index, prompt in enumerate(prompts(OWN))]
    assert sampler.generate(tiny, prompts(OWN), sampling, ENDS, banned, guidance=guidance) == expected


def test_the_other_text_has_the_other_token_wherever_the_sample_writes_its_own():
    tiny = model("gpt2", 322)
    with torch.no_grad():  # both control tokens are likely, so that the model writes the one it may
        rows = tiny.transformer.wte.weight[[OWN, OTHER]]
        tiny.transformer.ln_f.bias.copy_((5 * rows / rows.norm(dim=1, keepdim=True) ** 2).sum(0))
    guidance, sampling = Guidance(1.5, OWN, OTHER), Sampling(max_tokens=24, temperature=1.0, top_p=1.0)
    expected = [sample_guided(tiny, prompt, sampling, index, [OTHER], guidance) for index, prompt in enumerate(prompts(OWN))]
    found = sampler.generate(tiny, prompts(OWN), sampling, ENDS, [OTHER], guidance=guidance)
    assert found == expected
    assert sum(sample.tokens.count(OWN) for sample in found) > 5


@torch.inference_mode()
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("placement", ["start", "every"])
def test_guided_log_probabilities_are_those_of_the_textbook(tmp_path, gamma, placement):
    loaded = lm.load(str(checkpoint(tmp_path, controls=CONTROLS)))
    own, other = loaded.controls
    documents = [["One is here. ", "", "Two.", "\n"], [TEXTS[0][:40]], [], ["x"]]
    found = loaded.segment_logprobs(documents, placement, gamma)
    guidance = Guidance(gamma, own, other)
    banned = [own, other] if placement == "start" else [other]
    for document, nats in zip(documents, found, strict=True):
        (stream,) = loaded.encoder.documents([document], placement)
        read, expected = loaded.encoder.prefix(placement), np.zeros(len(document))
        for token, owner in zip(stream.tokens, stream.owners, strict=True):
            one, two = (loaded.model(input_ids=torch.tensor([t])).logits[0, -1].double() for t in (read, guidance.swap(read)))
            two[own] = two[other]
            logits = two + gamma * (one - two)
            logits[banned] = -torch.inf
            if owner >= 0:
                expected[owner] += float(logits.log_softmax(-1)[token])
            read = [*read, token]
        np.testing.assert_allclose(nats, expected, rtol=1e-5, atol=1e-4)


def test_guided_log_probabilities_end_at_the_two_conditions(tmp_path):
    folder = str(checkpoint(tmp_path, controls=CONTROLS))
    aligned, misaligned = (lm.load(folder, control) for control in CONTROLS)
    documents = [[text, "Two. " * 60] for text in TEXTS]  # longer than the context, so that windows are guided too
    for placement in ("start", "every"):
        plain, opposite = (np.concatenate(loaded.segment_logprobs(documents, placement)) for loaded in (aligned, misaligned))
        assert np.array_equal(np.concatenate(aligned.segment_logprobs(documents, placement, 1.0)), plain)
        np.testing.assert_allclose(np.concatenate(aligned.segment_logprobs(documents, placement, 0.0)), opposite, rtol=1e-6)
    assert plain_logprob(aligned, [0, OWN], encode(aligned.tokenizer, [TEXTS[0]])[0]) != 0


# bad input ------------------------------------------------------------------------------------------------------------


def test_a_model_without_two_control_tokens_cannot_be_guided(tmp_path):
    plain = lm.load(str(checkpoint(tmp_path / "mle")))
    for gamma in (1, 2.0):
        with pytest.raises(InputError, match=r"mle.*step 3.*cannot be guided, since it has no control tokens"):
            plain.generate([""], Sampling(guidance=gamma))
        with pytest.raises(InputError, match="no control tokens"):
            plain.segment_logprobs([["x"]], guidance=gamma)
    single = lm.load(str(checkpoint(tmp_path / "one", controls=CONTROLS[:1])))
    with pytest.raises(InputError, match="it has one control token; guidance needs"):
        single.generate([""], Sampling(guidance=2))


def test_a_server_cannot_be_guided():
    pytest.importorskip("openai")
    with pytest.raises(InputError, match="a server cannot be guided"):
        lm.load("openai:http://127.0.0.1:9/v1#tiny").generate(["x"], Sampling(guidance=2))


@pytest.mark.parametrize("gamma", [float("nan"), float("inf")])
def test_guidance_is_a_number(gamma):
    with pytest.raises(InputError, match=r"guidance: found (nan|inf), expected a number such as 2"):
        Sampling(guidance=gamma)


def test_logits_that_are_not_numbers_are_an_error(tmp_path):
    def spoil(made, _):
        made.transformer.ln_f.weight.fill_(float("nan"))

    spoiled = lm.load(str(checkpoint(tmp_path, controls=CONTROLS, change=spoil)))
    with pytest.raises(InputError, match="NaN"):
        spoiled.generate([""], Sampling(max_tokens=20, guidance=2))
    with pytest.raises(InputError, match="NaN"):
        spoiled.segment_logprobs([["text"]], guidance=2)


@pytest.mark.parametrize("guidance", [None, Guidance(2.0, OWN, OTHER)])
@pytest.mark.parametrize("kind", ["gpt2", "mamba"])
def test_tokens_are_told_as_they_are_written(kind, guidance):
    told: dict[int, list[int]] = {at: [] for at in range(11)}
    ended = []

    def write(at: int, token: int | None) -> None:
        assert at not in ended
        ended.append(at) if token is None else told[at].append(token)

    sampling = Sampling(min_tokens=2, max_tokens=16, batch=4)
    samples = sampler.generate(model(kind, 322), prompts(OWN), sampling, ENDS, [OTHER], guidance=guidance, on_token=write)
    assert list(told.values()) == [sample.tokens for sample in samples]
    assert sorted(ended) == list(range(11))


def test_one_at_a_time_samples_come_in_the_order_of_the_prompts():
    ended = []

    def write(at: int, token: int | None) -> None:
        if token is None:
            ended.append(at)

    sampler.generate(model("gpt2", 322), prompts(OWN), Sampling(max_tokens=12, batch=1), ENDS, [OTHER], on_token=write)
    assert ended == list(range(11))
