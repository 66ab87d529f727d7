"""How fast a model of some shape trains on this machine: a few steps of it on random tokens."""

import math
import time
from dataclasses import dataclass
from typing import Any

import torch

from phf.config import Train
from phf.learner import Learner
from phf.machine import total_memory
from phf.objectives import MLE
from phf.train.distributed import multiplies_in_bf16
from phf.train.model import build_model
from phf.train.optimizer import make_optimizer

_BYTES_PER_PARAMETER = 16  # weight, gradient and two moments in float32
_MEMORY_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class TrainSpeed:
    """The speed of training a model of some shape on this machine.

    Args:
        parameters: of the model, tied ones once, control tokens and value head left out.
        width: of its embeddings.
        tokens_per_second: that it is trained on; NaN if it was not measured.
        model: that was measured, in evaluation mode; None if it was not.
        reason: why it was not measured.
    """

    parameters: int
    width: int
    tokens_per_second: float = math.nan
    model: Any = None
    reason: str | None = None


def measure_speed(options: Train, vocab_size: int, seconds: float) -> TrainSpeed:
    """Train a new model of a run's shape for some seconds.

    Every objective costs nearly the same, so maximum likelihood is measured. One device is: this process's.

    Args:
        options: of the run; its model is no checkpoint.
        vocab_size: of the tokenizer.
        seconds: that measuring takes, about; longer if one sequence takes longer. 0: only the shape is looked at.

    Raises:
        InputError: for a model that cannot be built.
    """
    with torch.device("meta"):
        shape = build_model(options.model, vocab_size, options.context, 0, 0, options.attention)
    parameters = sum(parameter.numel() for parameter in shape.parameters())
    width = int(shape.get_input_embeddings().weight.shape[1])
    if seconds <= 0:
        return TrainSpeed(parameters, width, reason="no speed was measured")
    gpu = torch.cuda.is_available()
    memory = torch.cuda.get_device_properties(0).total_memory if gpu else total_memory()
    if parameters * _BYTES_PER_PARAMETER > _MEMORY_SHARE * memory:
        reason = f"{parameters:,} parameters need more memory than the {memory / 2**30:.0f} GiB here allow"
        return TrainSpeed(parameters, width, reason=reason)
    device = torch.device("cuda" if gpu else "cpu")
    model = build_model(options.model, vocab_size, options.context, 0, 0, options.attention)
    learner = Learner(model, MLE(), options.kernel).to(device)
    rows = min(options.micro_batch or options.batch, options.batch) if gpu else 1
    tokens = torch.randint(vocab_size, (rows, options.context + 1), device=device)
    try:
        rate = _rate(learner, tokens, options, seconds)
    except torch.cuda.OutOfMemoryError:
        return TrainSpeed(parameters, width, reason=f"a batch of {rows} sequences does not fit the GPU; lower train.micro_batch")
    return TrainSpeed(parameters, width, rate, model.eval())


def _rate(learner: Learner, tokens: torch.Tensor, options: Train, seconds: float) -> float:
    """Return tokens a second: passes over these tokens, and the optimizer's step once a batch."""
    optimizer = make_optimizer(learner, options)
    rewards = torch.zeros(tokens.shape, device=tokens.device)
    bf16 = multiplies_in_bf16(options.precision)

    def one_pass() -> float:
        begin = time.perf_counter()
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=bf16):
            loss = learner(tokens, rewards).loss
        loss.backward()
        if tokens.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    passes = [one_pass()]
    begin = time.perf_counter()
    optimizer.step()
    step = time.perf_counter() - begin
    if passes[0] < seconds:  # the first pass also allocates
        passes = [one_pass()]
        while sum(passes) < seconds / 2:
            passes.append(one_pass())
    tokens_of_batch = options.batch * options.context
    count = tokens.shape[0] * options.context
    return tokens_of_batch / (step + sum(passes) / len(passes) * tokens_of_batch / count)
