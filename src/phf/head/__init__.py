"""Log-probabilities and losses of the last linear layer, without ever holding the logits of more than one chunk of tokens.

The forward pass of a loss walks over chunks of tokens: project a chunk onto the vocabulary, take its log-sum-exp, call the
elementwise `token_loss` on the chunk's log-probabilities, ask autograd for d loss / d logprob of that small vector, and push it
back through the softmax into the gradients of hidden and weight while the chunk's logits are still there. The backward pass
only scales what was computed. One head serves every objective, at three matrix products and one buffer.
"""

# N tokens, D width, V vocabulary, C tokens of a chunk.

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from phf.errors import require
from phf.head.layer import Layer as Layer
from phf.head.layer import Logits as Logits
from phf.head.layer import accumulator

TokenLoss = Callable[..., Tensor]
Kernel = Literal["torch", "triton"]

_CHUNK_BYTES = {"cpu": 100 * 2**20, "cuda": 1024 * 2**20}
_CHUNK_MULTIPLE = 128  # matrix products are fastest on whole tiles of rows


def token_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    logits: Logits = Logits(),
    chunk: int | None = None,
) -> Tensor:
    """Give the natural-log probability of each target under softmax(hidden @ weight.T + bias).

    Differentiable in hidden, weight and bias; the backward pass computes each chunk's logits once more. Never holds (N, V).

    Args:
        hidden: (N, D).
        weight: (V, D).
        targets: (N,) integers.
        bias: (V,), if the layer has one.
        logits: scaling and soft cap of the logits.
        chunk: tokens to a chunk; chosen so that a chunk's logits take at most 100 MiB on a CPU and 1 GiB on a GPU if not given.

    Returns:
        (N,) float32 (float64 for float64 input).
    """
    _check(hidden, weight, targets, bias)
    hidden = _autocast(hidden)
    result: Tensor = _TokenLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, targets, logits, chunk or _chunk(hidden, weight)
    )
    return result


def linear_token_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    token_loss: TokenLoss,
    *columns: Tensor,
    bias: Tensor | None = None,
    ignore: Tensor | None = None,
    logits: Logits = Logits(),
    chunk: int | None = None,
    kernel: Kernel = "torch",
) -> Tensor:
    """Give the mean of `token_loss(logprob, *columns)` over tokens, where logprob is as in `token_logprobs`.

    Gradients reach hidden, weight, bias and columns; they are computed in the forward pass (unless under `torch.no_grad`) and
    are exact for any elementwise `token_loss`.

    Args:
        hidden: (N, D).
        weight: (V, D).
        targets: (N,) integers.
        token_loss: called chunk by chunk with logprob and each column (C,), float32; gives (C,) elementwise.
        columns: (N,) each, what the loss needs of a token besides its log-probability (its reward, its value).
        bias: (V,), if the layer has one.
        ignore: (N,) bool, True for tokens that take no part: not in the mean, no gradient.
        logits: scaling and soft cap of the logits.
        chunk: tokens to a chunk, see `token_logprobs`.
        kernel: what takes the softmax and its gradient: PyTorch, or Triton kernels (`head_triton`), which need a GPU.

    Returns:
        Scalar, float32 (float64 for float64 input); NaN if every token is ignored.
    """
    _check(hidden, weight, targets, bias)
    for column in columns:
        if column.shape != targets.shape:
            raise ValueError(f"a column has shape {tuple(column.shape)}; expected that of targets, {tuple(targets.shape)}")
    hidden = _autocast(hidden)
    if ignore is not None:
        taking_part = (~ignore).nonzero().squeeze(1)
        hidden, targets = hidden[taking_part], targets[taking_part]
        columns = tuple(column[taking_part] for column in columns)
    # The function's forward runs without grad mode, so whether gradients are wanted at all is asked here.
    learn = torch.is_grad_enabled()
    result: Tensor = _LinearTokenLoss.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, targets, token_loss, logits, chunk or _chunk(hidden, weight), kernel, learn, *columns
    )
    return result


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, logits: Logits, chunk: int
    ) -> Tensor:
        layer = Layer(hidden, weight, bias, logits, chunk)
        out = hidden.new_empty(len(targets), dtype=accumulator(hidden))
        for rows in _chunks(len(targets), chunk):
            scores = layer.project(hidden[rows])
            out[rows] = layer.logprob(scores, targets[rows])[0]
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.logits, ctx.chunk = logits, chunk
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        hidden, weight, bias, targets = ctx.saved_tensors
        layer = Layer(hidden, weight, bias, ctx.logits, ctx.chunk)
        gradients = _Gradients(hidden, layer.weight, weight, bias, ctx.needs_input_grad[:3])
        for rows in _chunks(len(targets), ctx.chunk):
            scores = layer.project(hidden[rows])
            _, sums = layer.logprob(scores, targets[rows])
            gradients.add(rows, hidden[rows], layer.slope(scores, sums, targets[rows], upstream[rows]))
        return (*gradients.cast(), None, None, None)


class _LinearTokenLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        token_loss: TokenLoss,
        logits: Logits,
        chunk: int,
        kernel: Kernel,
        learn: bool,
        *columns: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(hidden, weight, bias, targets, *columns)
        ctx.options = (token_loss, logits, chunk, kernel, [learn and need for need in ctx.needs_input_grad])
        loss, ctx.gradients = _loss_and_gradients(hidden, weight, bias, targets, columns, *ctx.options)
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        # The gradients are given away, to be scaled in place and kept by whoever asked: no second (V, D) is made.
        # Who asks again (retain_graph) pays for computing them again.
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            hidden, weight, bias, targets, *columns = ctx.saved_tensors
            _, gradients = _loss_and_gradients(hidden, weight, bias, targets, columns, *ctx.options)
        if upstream.device.type != "cpu" or upstream.item() != 1.0:  # asking a GPU would make it wait
            gradients = [None if g is None else g.mul_(upstream.to(g.dtype)) for g in gradients]
        return (*gradients[:3], None, None, None, None, None, None, *gradients[3:])


def _loss_and_gradients(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    columns: Sequence[Tensor],
    token_loss: TokenLoss,
    logits: Logits,
    chunk: int,
    kernel: Kernel,
    needed: Sequence[bool],
) -> tuple[Tensor, list[Tensor | None]]:
    """Walk over the chunks once; give the loss and the gradients of hidden, weight, bias and each column."""
    layer = _layer(kernel)(hidden, weight, bias, logits, chunk)
    gradients = _Gradients(hidden, layer.weight, weight, bias, needed[:3])
    need_column = needed[9:]
    column_gradients = [torch.zeros_like(c) if need else None for c, need in zip(columns, need_column, strict=True)]
    kind, count = accumulator(hidden), len(targets)
    share = hidden.new_full((), 1 / max(count, 1), dtype=kind)
    total = hidden.new_zeros((), dtype=torch.float64 if hidden.device.type == "cpu" else kind)
    for rows in _chunks(count, chunk):
        scores = layer.project(hidden[rows])
        logprob, sums = layer.logprob(scores, targets[rows])
        with torch.enable_grad():
            logprob.requires_grad_(any(needed[:3]))
            parts = [c[rows].detach().to(kind).requires_grad_(need) for c, need in zip(columns, need_column, strict=True)]
            losses = token_loss(logprob, *parts)
            if losses.shape != logprob.shape:
                raise ValueError(f"token_loss gave {tuple(losses.shape)} for {tuple(logprob.shape)}; it must be elementwise")
            loss = losses.sum()
        total += loss.detach()
        wanted = [tensor for tensor in (logprob, *parts) if tensor.requires_grad]
        if not wanted or not loss.requires_grad:
            continue
        slopes = iter(torch.autograd.grad(loss, wanted, share, allow_unused=True))
        if logprob.requires_grad and (slope := next(slopes)) is not None:
            gradients.add(rows, hidden[rows], layer.slope(scores, sums, targets[rows], slope))
        for gradient in column_gradients:
            if gradient is not None and (slope := next(slopes)) is not None:
                gradient[rows] = slope.to(gradient.dtype)
    return (total / count).to(kind), [*gradients.cast(), *column_gradients]


class _Gradients:
    """Gradients of hidden, weight and bias, summed over chunks; weight and bias in the accumulator's precision."""

    def __init__(self, hidden: Tensor, used: Tensor, weight: Tensor, bias: Tensor | None, needed: Any) -> None:
        kind = accumulator(hidden)
        self.used = used  # the weight as it was multiplied with
        self.kinds = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        self.hidden = torch.zeros_like(hidden) if needed[0] else None
        self.weight = torch.zeros_like(weight, dtype=kind) if needed[1] else None
        self.bias = torch.zeros_like(bias, dtype=kind) if bias is not None and needed[2] else None

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
        """Give the gradients in the precision of what they are gradients of."""
        both = zip((self.hidden, self.weight, self.bias), self.kinds, strict=True)
        return [None if gradient is None else gradient.to(kind) for gradient, kind in both]


def _layer(kernel: Kernel) -> type[Layer]:
    if kernel == "torch":
        return Layer
    require("triton", "triton", "the head's kernel triton")
    from phf.head.triton_layer import TritonLayer

    return TritonLayer


def _autocast(hidden: Tensor) -> Tensor:
    """Do to the layer's input what autocast does to that of `torch.nn.Linear`."""
    device = hidden.device.type
    if hidden.dtype != torch.float64 and torch.is_autocast_enabled(device):
        return hidden.to(torch.get_autocast_dtype(device))
    return hidden


def _chunk(hidden: Tensor, weight: Tensor) -> int:
    size = 8 if hidden.dtype == torch.float64 else 4
    rows = max(1, _CHUNK_BYTES.get(hidden.device.type, _CHUNK_BYTES["cpu"]) // (size * weight.shape[0]))
    return rows if rows < _CHUNK_MULTIPLE else rows - rows % _CHUNK_MULTIPLE


def _chunks(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _check(hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None) -> None:
    if hidden.dim() != 2 or weight.dim() != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(f"hidden is {tuple(hidden.shape)} and weight {tuple(weight.shape)}; expected (N, D) and (V, D)")
    if targets.shape != hidden.shape[:1]:
        raise ValueError(f"targets are {tuple(targets.shape)}; expected one for each of {hidden.shape[0]} rows of hidden")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias is {tuple(bias.shape)}; expected one for each of {weight.shape[0]} words")
