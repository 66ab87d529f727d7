"""The head as autograd functions: both walk over chunks of tokens and hold the logits of one chunk at a time."""

# N tokens, D width, V vocabulary, C tokens of a chunk.

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from phf.errors import require
from phf.head.layer import Layer, Logits, accumulator

TokenLoss = Callable[..., Tensor]
Kernel = Literal["torch", "triton"]


@dataclass(frozen=True)
class HeadCall:
    """What a head computes, besides the tensors that gradients reach.

    Args:
        targets: (N,) integers.
        logits: scaling and soft cap of the logits.
        chunk: tokens to a chunk.
        kernel: what computes the softmax and its gradient.
    """

    targets: Tensor
    logits: Logits
    chunk: int
    kernel: Kernel = "torch"

    def layer(self, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Layer:
        """Return the last layer, with a buffer for the logits of one chunk."""
        if self.kernel == "torch":
            return Layer(hidden, weight, bias, self.logits, self.chunk)
        require("triton", "triton", "the head's kernel triton")
        from phf.head.triton_layer import TritonLayer

        return TritonLayer(hidden, weight, bias, self.logits, self.chunk)

    def chunks(self) -> Iterator[slice]:
        """Yield the rows of each chunk."""
        for start in range(0, len(self.targets), self.chunk):
            yield slice(start, min(start + self.chunk, len(self.targets)))


class TokenLogprobs(torch.autograd.Function):
    """Log-probabilities of the targets; the backward pass computes each chunk's logits once more."""

    @staticmethod
    def forward(ctx: Any, call: HeadCall, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return (N,) log-probabilities."""
        layer = call.layer(hidden, weight, bias)
        out = hidden.new_empty(len(call.targets), dtype=accumulator(hidden))
        for rows in call.chunks():
            scores = layer.project(hidden[rows])
            out[rows] = layer.logprob(scores, call.targets[rows])[0]
        ctx.save_for_backward(hidden, weight, bias)
        ctx.call = call
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        """Return the gradients of forward's arguments, given d loss / d logprob (N,)."""
        hidden, weight, bias = ctx.saved_tensors
        call: HeadCall = ctx.call
        _, *needed = ctx.needs_input_grad
        layer = call.layer(hidden, weight, bias)
        gradients = Gradients(layer, hidden, weight, bias, needed)
        for rows in call.chunks():
            scores = layer.project(hidden[rows])
            _, sums = layer.logprob(scores, call.targets[rows])
            gradients.add(rows, hidden[rows], layer.slope(scores, sums, call.targets[rows], upstream[rows]))
        return (None, *gradients.cast())


@dataclass(frozen=True)
class LossCall(HeadCall):
    """A head whose log-probabilities go into a loss.

    Args:
        token_loss: called with logprob and each column (C,); returns (C,), elementwise.
        learn: whether any gradient is wanted at all.
    """

    token_loss: TokenLoss = torch.neg
    learn: bool = True


class LinearTokenLoss(torch.autograd.Function):
    """The mean loss; its gradients are computed in the forward pass, while a chunk's exponentials are still there."""

    @staticmethod
    def forward(ctx: Any, call: LossCall, hidden: Tensor, weight: Tensor, bias: Tensor | None, *columns: Tensor) -> Tensor:
        """Return the mean loss, a scalar."""
        _, *needed = ctx.needs_input_grad
        ctx.save_for_backward(hidden, weight, bias, *columns)
        ctx.call, ctx.needed = call, [call.learn and need for need in needed]
        loss, ctx.gradients = _loss_and_gradients(call, hidden, weight, bias, columns, ctx.needed)
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        """Return the gradients of forward's arguments, given d / d loss."""
        # The gradients are handed over, to be scaled in place and owned by the caller: no second (V, D) is allocated.
        # A second backward pass (retain_graph) computes them again.
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            hidden, weight, bias, *columns = ctx.saved_tensors
            _, gradients = _loss_and_gradients(ctx.call, hidden, weight, bias, columns, ctx.needed)
        if upstream.device.type != "cpu" or upstream.item() != 1.0:  # reading it from a GPU would wait for the GPU
            gradients = [None if g is None else g.mul_(upstream.to(g.dtype)) for g in gradients]
        return (None, *gradients)


def _loss_and_gradients(
    call: LossCall, hidden: Tensor, weight: Tensor, bias: Tensor | None, columns: Sequence[Tensor], needed: Sequence[bool]
) -> tuple[Tensor, list[Tensor | None]]:
    """Walk over the chunks once; return the loss and the gradients of hidden, weight, bias and each column."""
    layer = call.layer(hidden, weight, bias)
    gradients = Gradients(layer, hidden, weight, bias, needed)
    need_column = needed[len(needed) - len(columns) :]
    column_gradients = [torch.zeros_like(c) if need else None for c, need in zip(columns, need_column, strict=True)]
    kind, count = accumulator(hidden), len(call.targets)
    share = hidden.new_full((), 1 / max(count, 1), dtype=kind)
    total = hidden.new_zeros((), dtype=torch.float64 if hidden.device.type == "cpu" else kind)
    for rows in call.chunks():
        scores = layer.project(hidden[rows])
        logprob, sums = layer.logprob(scores, call.targets[rows])
        with torch.enable_grad():
            logprob.requires_grad_(gradients.wanted)
            pieces = [c[rows].detach().to(kind).requires_grad_(need) for c, need in zip(columns, need_column, strict=True)]
            losses = call.token_loss(logprob, *pieces)
            if losses.shape != logprob.shape:
                raise ValueError(f"token_loss gave {tuple(losses.shape)} for {tuple(logprob.shape)}; it must be elementwise")
            loss = losses.sum()
        total += loss.detach()
        wanted = [tensor for tensor in (logprob, *pieces) if tensor.requires_grad]
        if not wanted or not loss.requires_grad:
            continue
        slopes = iter(torch.autograd.grad(loss, wanted, share, allow_unused=True))
        if logprob.requires_grad and (slope := next(slopes)) is not None:
            gradients.add(rows, hidden[rows], layer.slope(scores, sums, call.targets[rows], slope))
        for gradient in column_gradients:
            if gradient is not None and (slope := next(slopes)) is not None:
                gradient[rows] = slope.to(gradient.dtype)
    return (total / count).to(kind), [*gradients.cast(), *column_gradients]


class Gradients:
    """Gradients of hidden, weight and bias, summed over chunks; weight and bias in the accumulator's precision.

    Args:
        layer: the last layer, which holds the weight as it is multiplied with.
        hidden, weight, bias: of the head.
        needed: whether the gradient of each of these three is wanted; what follows is not looked at.
    """

    def __init__(self, layer: Layer, hidden: Tensor, weight: Tensor, bias: Tensor | None, needed: Sequence[bool]) -> None:
        need_hidden, need_weight, need_bias, *_ = needed
        self.wanted = need_hidden or need_weight or need_bias
        kind = accumulator(hidden)
        self.used = layer.weight
        self.kinds = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        self.hidden = torch.zeros_like(hidden) if need_hidden else None
        self.weight = torch.zeros_like(weight, dtype=kind) if need_weight else None
        self.bias = torch.zeros_like(bias, dtype=kind) if bias is not None and need_bias else None

    def add(self, rows: slice, hidden: Tensor, slope: Tensor) -> None:
        """Add what one chunk contributes, given d loss / d (hidden @ weight.T + bias)."""
        if self.bias is not None:
            self.bias += slope.sum(0)
        slope = slope.to(hidden.dtype)
        if self.hidden is not None:
            self.hidden[rows] = slope @ self.used
        if self.weight is not None and self.weight.dtype == slope.dtype:
            self.weight.addmm_(slope.T, hidden)
        elif self.weight is not None:
            self.weight += slope.T @ hidden

    def cast(self) -> list[Tensor | None]:
        """Return the gradients of hidden, weight and bias in the precision of these."""
        both = zip((self.hidden, self.weight, self.bias), self.kinds, strict=True)
        return [None if gradient is None else gradient.to(kind) for gradient, kind in both]
