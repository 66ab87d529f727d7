"""Log-probabilities and losses of the last linear layer, without ever holding the logits of more than one chunk of tokens.

The forward pass of a loss walks over chunks of tokens: project a chunk onto the vocabulary, take its log-sum-exp, call the
elementwise `token_loss` on the chunk's log-probabilities, ask autograd for d loss / d logprob of that small vector, and push it
back through the softmax into the gradients of hidden and weight while the chunk's logits are still there. The backward pass
only scales what was computed. One head serves every objective, at three matrix products and one buffer.
"""

# N tokens, D width, V vocabulary, C tokens of a chunk.

import torch
from torch import Tensor

from phf.head.autograd import HeadCall, LinearTokenLoss, LossCall, TokenLogprobs
from phf.head.autograd import Kernel as Kernel
from phf.head.autograd import TokenLoss as TokenLoss
from phf.head.layer import Logits as Logits

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
    """Return the natural-log probability of each target under softmax(hidden @ weight.T + bias).

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
    call = HeadCall(targets, logits, chunk or _chunk(hidden, weight))
    result: Tensor = TokenLogprobs.apply(call, hidden, weight, bias)  # type: ignore[no-untyped-call]
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
    """Return the mean of `token_loss(logprob, *columns)` over tokens, where logprob is as in `token_logprobs`.

    Gradients reach hidden, weight, bias and columns; they are computed in the forward pass (unless under `torch.no_grad`) and
    are exact for any elementwise `token_loss`.

    Args:
        hidden: (N, D).
        weight: (V, D).
        targets: (N,) integers.
        token_loss: called chunk by chunk with logprob and each column (C,), float32; returns (C,), elementwise.
        columns: (N,) each, what the loss needs of a token besides its log-probability (its reward, its value).
        bias: (V,), if the layer has one.
        ignore: (N,) bool, True for tokens that are left out of the mean and get no gradient.
        logits: scaling and soft cap of the logits.
        chunk: tokens to a chunk, see `token_logprobs`.
        kernel: what computes the softmax and its gradient: PyTorch, or the Triton kernels of `phf.head.triton_layer` (GPUs only).

    Returns:
        Scalar, float32 (float64 for float64 input); NaN if every token is ignored.
    """
    _check(hidden, weight, targets, bias)
    for column in columns:
        if column.shape != targets.shape:
            raise ValueError(f"a column has shape {tuple(column.shape)}; expected that of targets, {tuple(targets.shape)}")
    hidden = _autocast(hidden)
    if ignore is not None:
        rows = (~ignore).nonzero().squeeze(1)
        hidden, targets = hidden[rows], targets[rows]
        columns = tuple(column[rows] for column in columns)
    # The function's forward runs without grad mode, so whether gradients are wanted at all is asked here.
    call = LossCall(targets, logits, chunk or _chunk(hidden, weight), kernel, token_loss, learn=torch.is_grad_enabled())
    result: Tensor = LinearTokenLoss.apply(call, hidden, weight, bias, *columns)  # type: ignore[no-untyped-call]
    return result


def _autocast(hidden: Tensor) -> Tensor:
    """Cast the layer's input as autocast casts that of `torch.nn.Linear`."""
    device = hidden.device.type
    if hidden.dtype != torch.float64 and torch.is_autocast_enabled(device):
        return hidden.to(torch.get_autocast_dtype(device))
    return hidden


def _chunk(hidden: Tensor, weight: Tensor) -> int:
    size = 8 if hidden.dtype == torch.float64 else 4
    rows = max(1, _CHUNK_BYTES.get(hidden.device.type, _CHUNK_BYTES["cpu"]) // (size * weight.shape[0]))
    return rows if rows < _CHUNK_MULTIPLE else rows - rows % _CHUNK_MULTIPLE


def _check(hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None) -> None:
    if hidden.dim() != 2 or weight.dim() != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(f"hidden is {tuple(hidden.shape)} and weight {tuple(weight.shape)}; expected (N, D) and (V, D)")
    if targets.shape != hidden.shape[:1]:
        raise ValueError(f"targets are {tuple(targets.shape)}; expected one for each of {hidden.shape[0]} rows of hidden")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias is {tuple(bias.shape)}; expected one for each of {weight.shape[0]} words")
