"""The softmax of the head and its gradient as Triton kernels: logits are read twice and written once, whatever their precision.

In plain PyTorch a chunk of logits passes through memory some eight times (largest, subtract, exponentiate, sum, multiply, ...).
"""

# C rows (tokens of a chunk), V columns (vocabulary).

import torch
import triton
import triton.language as tl
from torch import Tensor

from phf.head.layer import Layer

_BLOCK = 4096


class TritonLayer(Layer):
    """The head's last layer with these kernels; the logits keep the precision of the matrix product."""

    @staticmethod
    def precision(hidden: Tensor) -> torch.dtype:
        """Return the precision of the logits in the buffer.

        Raises:
            ValueError: for float64, which the kernels do not compute in.
        """
        if hidden.dtype == torch.float64:
            raise ValueError("kernel triton computes in float32; use kernel torch for float64")
        return hidden.dtype

    def logprob(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the targets' log-probabilities (C,) and the logits' log-sum-exp (C,)."""
        return log_softmax_at(scores, targets)

    def slope(self, scores: Tensor, total: Tensor, targets: Tensor, upstream: Tensor) -> Tensor:
        """Turn the logits, in place, into d loss / d (hidden @ weight.T + bias), given d loss / d logprob (C,)."""
        replace_by_slope(scores, targets, total, upstream)
        return self.before_logits(scores)


def log_softmax_at(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-probability of each target and the log-sum-exp of each row, both (C,) float32; logits (C, V) stay."""
    count, width = logits.shape
    logprob, total = (logits.new_empty(count, dtype=torch.float32) for _ in range(2))
    _log_softmax_at[(count,)](logits, targets, logprob, total, width, logits.stride(0), block=_BLOCK)
    return logprob, total


def replace_by_slope(logits: Tensor, targets: Tensor, total: Tensor, upstream: Tensor) -> None:
    """Write upstream * d logprob / d logits over the logits, given their log-sum-exp and d loss / d logprob (C,)."""
    count, width = logits.shape
    _replace_by_slope[(count,)](logits, targets, total, upstream.float(), width, logits.stride(0), block=_BLOCK)


@triton.jit  # type: ignore[untyped-decorator]
def _log_softmax_at(logits, targets, logprob, total, width, stride, block: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    start = logits + row * stride
    largest = float("-inf")
    sums = 0.0
    for first in range(0, width, block):
        columns = first + tl.arange(0, block)
        part = tl.load(start + columns, mask=columns < width, other=float("-inf")).to(tl.float32)
        new = tl.maximum(largest, tl.max(part, axis=0))
        sums = sums * tl.exp(largest - new) + tl.sum(tl.exp(part - new), axis=0)
        largest = new
    logsumexp = largest + tl.log(sums)
    target = tl.load(start + tl.load(targets + row)).to(tl.float32)
    tl.store(total + row, logsumexp)
    tl.store(logprob + row, target - logsumexp)


@triton.jit  # type: ignore[untyped-decorator]
def _replace_by_slope(logits, targets, total, upstream, width, stride, block: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    start = logits + row * stride
    logsumexp = tl.load(total + row)
    slope = tl.load(upstream + row)
    target = tl.load(targets + row)
    for first in range(0, width, block):
        columns = first + tl.arange(0, block)
        inside = columns < width
        part = tl.load(start + columns, mask=inside, other=float("-inf")).to(tl.float32)
        change = tl.where(columns == target, slope, 0.0) - slope * tl.exp(part - logsumexp)
        tl.store(start + columns, change.to(logits.dtype.element_ty), mask=inside)
