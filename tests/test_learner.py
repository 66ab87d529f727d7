"""The learner against a plain computation with full logits, over architectures and objectives."""

import logging
import math

import pytest
import torch
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, GPT2Config, GPTNeoXConfig, GraniteConfig, LlamaConfig

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
    output = learner.model(input_ids=tokens[:, :-1], output_hidden_states=True)
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
    assert set(make("gpt2", MLE())(tokens, rewards).facts) == {"nll"}
    facts = make("gpt2", RWR(beta=0.5))(tokens, rewards).facts
    weight = (rewards[:, 1:].nan_to_num(0.0) / 0.5).exp()
    assert facts["weight_min"].item() == pytest.approx(weight.min().item())
    assert facts["weight_mean"].item() == pytest.approx(weight.mean().item())
    assert facts["weight_max"].item() == pytest.approx(1.0)
    assert facts["weight_ess"].item() == pytest.approx((weight.sum() ** 2 / (weight.numel() * (weight**2).sum())).item())
    assert "value_correlation" in make("gpt2", AWR())(tokens, rewards).facts


def test_a_value_head_starts_at_zero():
    assert not ValueHead(8)(torch.randn(2, 3, 8)).any()
    assert ValueHead(8)(torch.randn(2, 3, 8)).shape == (2, 3)
