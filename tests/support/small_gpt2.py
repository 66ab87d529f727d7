"""A GPT-2 of two layers, rows of tokens with rewards for it, and the gradients that our own learner computes on them."""

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

VOCABULARY = 60
CONTROL_IDS = (58, 59)


def model(seed=0):
    torch.manual_seed(seed)
    shape = {"n_layer": 2, "n_embd": 16, "n_head": 2, "n_positions": 32, "vocab_size": VOCABULARY}
    return GPT2LMHeadModel(GPT2Config(**shape, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))


def rows(count=4, length=20, lengths=None):
    """Rows of tokens with control tokens in front of segments, rewards from -2 to 0, and NaN."""
    draw = np.random.default_rng(0)
    made = []
    for number in range(count):
        size = lengths[number] if lengths else length
        tokens = draw.integers(1, 58, size)
        rewards = np.repeat(draw.choice([0.0, -2.0, -0.3, np.nan], size // 5 + 1), 5)[:size].astype(np.float32)
        tokens[::5] = np.where(rewards[::5] < 0, CONTROL_IDS[1], CONTROL_IDS[0])
        tokens[0], rewards[0] = 0, np.nan
        made.append({"input_ids": tokens.tolist(), "rewards": rewards.tolist()})
    return made


def own_gradients(learner, data):
    tokens, rewards = (torch.tensor([row[name] for row in data]) for name in ("input_ids", "rewards"))
    outcome = learner(tokens, rewards)
    outcome.loss.backward()
    gradients = {name: parameter.grad for name, parameter in learner.model.named_parameters()}
    if learner.value_head is not None:
        gradients |= {f"value_head.{name}": parameter.grad for name, parameter in learner.value_head.named_parameters()}
    return gradients, outcome
