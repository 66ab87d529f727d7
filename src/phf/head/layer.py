"""The last layer: hidden states to logits, chunk by chunk."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Logits:
    """What a model does between `hidden @ weight.T` and its logits.

    Args:
        scale: the product is multiplied by it (Cohere's `logit_scale`, 1 / Granite's `logits_scaling`).
        softcap: if given, logits = softcap * tanh(scaled / softcap) (Gemma 2).
    """

    scale: float = 1.0
    softcap: float | None = None


class Layer:
    """The last linear layer, the scaling and soft cap behind it, and the softmax; owns the one buffer of logits."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, logits: Logits, chunk: int) -> None:
        self.weight = weight.to(hidden.dtype)
        self.bias, self.logits = bias, logits
        rows = min(chunk, len(hidden))
        self.buffer = hidden.new_empty((rows, len(weight)), dtype=self.precision(hidden))
        self.derivative: Tensor | None = None  # d logits / d (hidden @ weight.T + bias), where it is not constant

    @staticmethod
    def precision(hidden: Tensor) -> torch.dtype:
        """Return the precision of the logits in the buffer."""
        return accumulator(hidden)

    def project(self, hidden: Tensor) -> Tensor:
        """Return (C, V) logits. They live in the buffer until the next call."""
        scores = self.buffer[: len(hidden)]
        if hidden.dtype == scores.dtype:
            torch.mm(hidden, self.weight.T, out=scores)
        else:
            scores.copy_(hidden @ self.weight.T)
        if self.bias is not None:
            scores += self.bias
        if self.logits.scale != 1.0:
            scores *= self.logits.scale
        if self.logits.softcap is not None:
            scores.div_(self.logits.softcap).tanh_()
            self.derivative = 1 - scores.square()
            scores *= self.logits.softcap
        return scores

    def logprob(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the targets' log-probabilities (C,) and the sums (C,) of exp(logits - largest), which replace the logits."""
        target = scores.gather(1, targets[:, None]).squeeze(1)
        largest = scores.amax(1)
        sums = scores.sub_(largest[:, None]).exp_().sum(1)
        return target - largest - sums.log(), sums

    def slope(self, exponentials: Tensor, sums: Tensor, targets: Tensor, upstream: Tensor) -> Tensor:
        """Turn the exponentials, in place, into d loss / d (hidden @ weight.T + bias), given d loss / d logprob (C,)."""
        slope = exponentials.mul_((-upstream / sums)[:, None])
        slope.scatter_add_(1, targets[:, None], upstream[:, None].to(slope.dtype))
        return self.before_logits(slope)

    def before_logits(self, slope: Tensor) -> Tensor:
        """Turn, in place, d loss / d logits into d loss / d (hidden @ weight.T + bias): back through soft cap and scale."""
        if self.derivative is not None:
            slope *= self.derivative
        if self.logits.scale != 1.0:
            slope *= self.logits.scale
        return slope


def accumulator(tensor: Tensor) -> torch.dtype:
    """Return the precision that sums over a tensor are taken in."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
