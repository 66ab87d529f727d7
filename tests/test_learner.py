"""The learner against a plain computation with full logits, over architectures and objectives."""

import logging
import math

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    RecurrentGemmaConfig,
    xLSTMConfig,
)

from phf.learner import Learner, ValueHead
from phf.objectives import AWR, MLE, RWR, Conditional, Filtering, Unlikelihood

SMALL = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
SMALL |= {"num_key_value_heads": 1, "head_dim": 8, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
CONFIGS = {
    "gpt2": GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
    "llama": LlamaConfig(**SMALL),
    "gemma2 (soft cap)": Gemma2Config(**SMALL, final_logit_softcapping=2.0),
    "cohere (scaled)": CohereConfig(**SMALL, logit_scale=0.3),
    "granite (divided)": GraniteConfig(**SMALL, logits_scaling=4.0),
    "gpt-neox": GPTNeoXConfig(**{k: v for k, v in SMALL.items() if k not in ("num_key_value_heads", "head_dim")}),
}
OBJECTIVES = [MLE(), Unlikelihood(threshold=-0.5), RWR(beta=0.5), AWR(alpha=0.3, beta=0.5)]


def make(name, objective, seed=0):
    torch.manual_seed(seed)
    return Learner(AutoModelForCausalLM.from_config(CONFIGS[name], dtype=torch.float32), objective)


def batch(seed=1):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(40, (3, 9), generator=generator)
    rewards = -torch.rand(3, 9, generator=generator)
    rewards[0, :4] = math.nan
    return tokens, rewards


def plainly(learner, tokens, rewards):
    """The specification: full logits, the shift by one, the elementwise loss, its mean."""
    output = learner.model(input_ids=tokens[:, :-1], use_cache=False, output_hidden_states=True)
    logprob = output.logits.float().log_softmax(-1).gather(-1, tokens[:, 1:, None]).squeeze(-1)
    value = learner.value_head(output.hidden_states[-1]) if learner.value_head is not None else None
    return learner.objective.token_loss(logprob, rewards[:, 1:], value).mean(), -logprob.mean()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
@pytest.mark.parametrize("name", CONFIGS)
def test_loss_and_gradients_are_those_of_full_logits(name, objective):
    learner = make(name, objective)
    assert learner.fused, "this architecture's last layer is linear"
    if learner.value_head is not None:
        torch.nn.init.normal_(learner.value_head.weight, generator=torch.Generator().manual_seed(0))
    parameters = [p for p in learner.parameters() if p.requires_grad]
    tokens, rewards = batch()
    loss, facts = learner(tokens, rewards)
    wanted, nll = plainly(learner, tokens, rewards)
    torch.testing.assert_close(loss, wanted)
    assert facts["nll"].item() == pytest.approx(nll.item(), rel=1e-5)
    for got, expected in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(wanted, parameters), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


class Twisted(torch.nn.Module):
    """A last layer that is not linear."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.weight = inner, inner.weight

    def forward(self, hidden):
        return self.inner(hidden).sin()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
def test_another_last_layer_takes_the_full_path_and_says_so(objective, caplog):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS["llama"], dtype=torch.float32)
    model.lm_head = Twisted(model.lm_head)
    with caplog.at_level(logging.WARNING, "phf"):
        learner = Learner(model, objective)
    assert not learner.fused
    assert "full logits" in caplog.text
    tokens, rewards = batch()
    torch.testing.assert_close(learner(tokens, rewards).loss, plainly(learner, tokens, rewards)[0])


@pytest.mark.parametrize(
    "objective", [Filtering(threshold=-9.0), Conditional(threshold=0.0), Unlikelihood(threshold=-9.0), RWR(beta=1e9)], ids=repr
)
def test_objectives_that_meet_mle_give_its_loss(objective):
    tokens, rewards = batch()
    torch.testing.assert_close(make("gpt2", objective)(tokens, rewards).loss, make("gpt2", MLE())(tokens, rewards).loss)


def test_a_value_head_at_zero_makes_awr_rwr():
    tokens, rewards = batch()
    awr, rwr = make("gpt2", AWR(alpha=1.0, beta=0.3)), make("gpt2", RWR(beta=0.3))
    torch.testing.assert_close(awr(tokens, rewards).loss, rwr(tokens, rewards).loss)


def test_the_reward_is_of_the_predicted_token_and_the_value_of_the_predicting_position():
    tokens, rewards = batch()
    learner = make("gpt2", RWR(beta=0.3))
    before = learner(tokens, rewards).loss
    changed = rewards.clone()
    changed[:, 0] = -5.0  # nobody predicts the first token
    torch.testing.assert_close(learner(tokens, changed).loss, before)
    changed[:, -1] = -5.0
    assert not torch.allclose(learner(tokens, changed).loss, before)


def test_facts_describe_the_weights():
    tokens, rewards = batch()
    facts = make("gpt2", MLE())(tokens, rewards).facts
    assert set(facts) == {"nll", "unscored_share"}
    assert facts["unscored_share"].item() == pytest.approx(rewards[:, 1:].isnan().float().mean().item())
    assert facts["unscored_share"].item() > 0
    facts = make("gpt2", RWR(beta=0.5))(tokens, rewards).facts
    weight = (rewards[:, 1:].nan_to_num(0.0) / 0.5).exp()
    assert facts["weight_min"].item() == pytest.approx(weight.min().item())
    assert facts["weight_mean"].item() == pytest.approx(weight.mean().item())
    assert facts["weight_max"].item() == pytest.approx(1.0)
    assert facts["weight_ess"].item() == pytest.approx((weight.sum() ** 2 / (weight.numel() * (weight**2).sum())).item())
    assert "value_correlation" in make("gpt2", AWR())(tokens, rewards).facts


def test_a_value_head_starts_at_zero_and_the_papers_at_a_half():
    hidden = torch.randn(2, 3, 8)
    assert not ValueHead(8)(hidden).any()
    assert ValueHead(8)(hidden).shape == (2, 3)
    assert (ValueHead(8, "sigmoid")(hidden) == -0.5).all()
    assert [name for name, _ in ValueHead(8, "sigmoid").named_parameters()] == ["weight"], "no bias"
    head = ValueHead(8, "sigmoid")
    torch.nn.init.normal_(head.weight)
    torch.testing.assert_close(head(hidden), -torch.sigmoid(hidden @ head.weight[0]))


def test_gradients_of_the_papers_value_head_reach_the_model():
    tokens, rewards = batch()
    learner = make("gpt2", AWR(alpha=0.0, beta=0.5, value="sigmoid"))  # the value's squared error alone
    torch.nn.init.normal_(learner.value_head.weight)
    learner(tokens, rewards).loss.backward()
    assert learner.value_head.weight.grad.any()
    assert learner.model.get_input_embeddings().weight.grad.any()


def test_the_paper_starts_with_larger_weights():
    """Seen on rewards near 0: minus a half is expected, so every good token beats it."""
    tokens, rewards = batch()
    mean = {kind: make("gpt2", AWR(alpha=0.5, beta=0.5, value=kind))(tokens, rewards).facts for kind in ("linear", "sigmoid")}
    scored = rewards[:, 1:][~rewards[:, 1:].isnan()]
    count = rewards[:, 1:].numel()
    for kind, value in (("linear", 0.0), ("sigmoid", -0.5)):
        wanted = (((scored - value) / 0.5).exp().sum() + count - len(scored)) / count
        assert mean[kind]["weight_mean"].item() == pytest.approx(wanted.item())


CAPPED = {
    "recurrent_gemma": RecurrentGemmaConfig(
        **{key: value for key, value in SMALL.items() if key not in ("head_dim", "num_hidden_layers")}, num_hidden_layers=3,
        lru_width=16, attention_window_size=8, logits_soft_cap=5.0,
    ),
    "xlstm": xLSTMConfig(
        vocab_size=40, hidden_size=16, embedding_dim=16, num_heads=2, num_blocks=1, num_hidden_layers=1,
        output_logit_soft_cap=5.0, chunk_size=8, mode="train",
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    ),
    "gemma2": Gemma2Config(**SMALL, final_logit_softcapping=5.0),
}  # fmt: skip


@pytest.mark.parametrize("size", [0.02, 10.0], ids=["untrained", "large"])
@pytest.mark.parametrize("name", CAPPED)
def test_known_caps_are_part_of_the_loss(name, size):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CAPPED[name], dtype=torch.float32)
    torch.nn.init.normal_(model.get_output_embeddings().weight, std=size)
    learner = Learner(model, MLE())
    assert learner.fused
    assert learner.logits.softcap == 5.0
    tokens, rewards = batch()
    torch.testing.assert_close(learner(tokens, rewards).loss, plainly(learner, tokens, rewards)[0], rtol=1e-4, atol=1e-4)


class Cap(torch.nn.Module):
    """A model whose logits pass through a function of an unknown name."""

    def __init__(self, inner, bend):
        super().__init__()
        self.inner, self.bend, self.config, self.base_model = inner, bend, inner.config, inner.base_model

    def get_output_embeddings(self):
        return self.inner.get_output_embeddings()

    def get_input_embeddings(self):
        return self.inner.get_input_embeddings()

    def forward(self, **arguments):
        output = self.inner(**arguments)
        output.logits = self.bend(output.logits)
        return output


BENDS = {
    "cap 30": lambda logits: 30 * torch.tanh(logits / 30),
    "cap 500": lambda logits: 500 * torch.tanh(logits / 500),
    "clamp": lambda logits: logits.clamp(-50, 50),
    "scale": lambda logits: 0.9 * logits,
}


@pytest.mark.parametrize("size", [0.02, 10.0], ids=["untrained", "trained"])
@pytest.mark.parametrize("bend", BENDS)
def test_an_unknown_cap_is_seen_before_and_after_training(bend, size):
    """The logits of an untrained model are small, and no cap shows on them; resumed, the path would be another one."""
    torch.manual_seed(0)
    model = Cap(AutoModelForCausalLM.from_config(CONFIGS["llama"], dtype=torch.float32), BENDS[bend])
    torch.nn.init.normal_(model.get_output_embeddings().weight, std=size)
    learner = Learner(model, MLE())
    assert not learner.fused
    tokens, rewards = batch()
    torch.testing.assert_close(learner(tokens, rewards).loss, plainly(learner, tokens, rewards)[0])


class Documented:
    """An objective of a plugin, written from the documented contract alone."""

    needs_value = False
    control_tokens = ()

    def keep(self, rewards):
        return bool(np.nanmean(rewards) > -0.5)

    def controls(self, rewards, rng):
        return np.full(len(rewards), -1, np.int8)

    def token_loss(self, logprob, reward, value=None):
        return -logprob * (1 + reward.nan_to_num(0.0))


def test_an_objective_of_the_documented_contract_alone_trains():
    tokens, rewards = batch()
    learner = make("gpt2", Documented())
    loss, facts = learner(tokens, rewards)
    torch.testing.assert_close(loss, plainly(learner, tokens, rewards)[0])
    assert set(facts) == {"nll", "unscored_share"}
