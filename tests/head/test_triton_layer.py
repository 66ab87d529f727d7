"""The Triton kernels, in Triton's interpreter on the CPU, against the head in plain PyTorch."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from phf import config
from phf.errors import InputError
from phf.train import train
from support import tiny_corpora as tiny

PROGRAM = """
import torch
from support.head_problems import BENDS, OBJECTIVES, problem
from phf.head import linear_token_loss

for objective in OBJECTIVES:
    for bend in BENDS:
        for width in (17, 4096, 5000):
            found = []
            for kernel in ("torch", "triton"):
                hidden, weight, bias, targets, reward, value = problem(v=width, dtype=torch.float32)
                columns = (reward, value) if objective.needs_value else (reward,)
                loss = linear_token_loss(
                    hidden, weight, targets, objective.token_loss, *columns, bias=bias, logits=bend, chunk=4, kernel=kernel
                )
                (3 * loss).backward()
                found.append([loss, hidden.grad, weight.grad, bias.grad, *(c.grad for c in columns if c.grad is not None)])
            for one, two in zip(*found, strict=True):
                torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)

def in_bf16(kernel):
    hidden, weight, bias, targets, reward, _ = problem(v=300, dtype=torch.float32)
    low = [tensor.detach().bfloat16().requires_grad_() for tensor in (hidden, weight)]
    loss = linear_token_loss(*low, targets, OBJECTIVES[4].token_loss, reward, kernel=kernel)
    loss.backward()
    return [loss, *(tensor.grad.float() for tensor in low)]

for one, two in zip(in_bf16("torch"), in_bf16("triton"), strict=True):
    torch.testing.assert_close(two, one, rtol=2e-2, atol=2e-3)
hidden, weight, _, targets, reward, _ = problem()
try:
    linear_token_loss(hidden, weight, targets, OBJECTIVES[0].token_loss, reward, kernel="triton")
except ValueError as error:
    assert "float64" in str(error)
else:
    raise AssertionError("float64 was taken")
print("same")
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_the_kernels_give_what_pytorch_gives():
    environment = {
        **os.environ,
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]),
    }
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment)
    assert done.stdout == "same\n", done.stderr


def test_without_a_gpu_it_is_refused(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    store = tiny.token_store(tmp_path)
    with pytest.raises(InputError, match=r"train\.kernel is triton, which needs a GPU"):
        train(store, tmp_path / "run", "run", config.Component(name="mle"), tiny.train_options(kernel="triton"))
    assert not (tmp_path / "run").exists()
