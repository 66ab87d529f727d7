"""The head against its specification: full logits, log-softmax, elementwise loss, mean."""

import pytest
import torch

from phf.head import linear_token_loss, token_logprobs
from phf.head.layer import Logits
from phf.objectives import AWR, MLE, RWR
from support.head_problems import BENDS, OBJECTIVES, problem


def by_name(objective):
    return type(objective).__name__


def full_logprobs(hidden, weight, targets, bias, bend):
    """The specification."""
    scores = hidden @ weight.T
    if bias is not None:
        scores = scores + bias
    scores = scores * bend.scale
    if bend.softcap is not None:
        scores = bend.softcap * torch.tanh(scores / bend.softcap)
    return scores.log_softmax(1).gather(1, targets[:, None]).squeeze(1)


@pytest.mark.parametrize("bend", BENDS, ids=str)
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("chunk", [1, 4, 13, 100, None])
def test_logprobs_are_those_of_the_full_logits(bend, with_bias, chunk):
    hidden, weight, bias, targets, _, _ = problem()
    bias = bias if with_bias else None
    inputs = [tensor for tensor in (hidden, weight, bias) if tensor is not None]
    upstream = torch.linspace(-2, 3, len(targets), dtype=torch.float64)  # not uniform: a wrong mean would hide in ones
    fused = token_logprobs(hidden, weight, targets, bias=bias, logits=bend, chunk=chunk)
    full = full_logprobs(hidden, weight, targets, bias, bend)
    torch.testing.assert_close(fused, full)
    for got, wanted in zip(
        torch.autograd.grad(fused, inputs, upstream), torch.autograd.grad(full, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=by_name)
@pytest.mark.parametrize("bend", [BENDS[0], BENDS[3]], ids=str)
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_loss_is_that_of_the_full_logits(objective, bend, chunk):
    hidden, weight, bias, targets, reward, value = problem()
    inputs = [hidden, weight, bias, value]
    fused = linear_token_loss(hidden, weight, targets, objective.token_loss, reward, value, bias=bias, logits=bend, chunk=chunk)
    full = objective.token_loss(full_logprobs(hidden, weight, targets, bias, bend), reward, value).mean()
    torch.testing.assert_close(fused, full)
    got = torch.autograd.grad(3.7 * fused, inputs, allow_unused=True)
    wanted = torch.autograd.grad(3.7 * full, inputs, allow_unused=True)
    for name, one, other in zip(("hidden", "weight", "bias", "value"), got, wanted, strict=True):
        other = torch.zeros_like(one) if other is None else other
        torch.testing.assert_close(one, other, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("objective", OBJECTIVES, ids=by_name)
def test_gradcheck(objective):
    hidden, weight, bias, targets, reward, _ = problem(n=5, d=3, v=7)

    # AWR's weight holds the value constant, so its finite difference in the value is not its gradient: see test_objectives.
    value = torch.linspace(-1, 0, 5, dtype=torch.float64)

    def loss(hidden, weight, bias):
        return linear_token_loss(hidden, weight, targets, objective.token_loss, reward, value, bias=bias, chunk=2)

    assert torch.autograd.gradcheck(loss, (hidden, weight, bias))


def test_gradcheck_of_logprobs():
    hidden, weight, bias, targets, _, _ = problem(n=5, d=3, v=7)
    assert torch.autograd.gradcheck(
        lambda h, w, b: token_logprobs(h, w, targets, bias=b, chunk=2, logits=Logits(0.5, 2.0)), (hidden, weight, bias)
    )


def test_gradients_reach_columns():
    hidden, weight, _, targets, reward, value = problem()
    reward = reward.nan_to_num(-0.5)
    scale = torch.rand(len(targets), dtype=torch.float64, requires_grad=True)

    def loss(logprob, scale, value):
        return -scale * logprob + value**3

    fused = linear_token_loss(hidden, weight, targets, loss, scale, value, chunk=4)
    full = loss(full_logprobs(hidden, weight, targets, None, Logits()), scale, value).mean()
    for got, wanted in zip(torch.autograd.grad(fused, [scale, value]), torch.autograd.grad(full, [scale, value]), strict=True):
        torch.testing.assert_close(got, wanted)


def test_ignored_tokens_take_no_part():
    hidden, weight, _, targets, reward, value = problem()
    ignore = torch.zeros(len(targets), dtype=torch.bool)
    ignore[[0, 3, 12]] = True
    rest = ~ignore
    objective = AWR(alpha=0.5, beta=1.0)
    ignoring = linear_token_loss(hidden, weight, targets, objective.token_loss, reward, value, ignore=ignore, chunk=4)
    without = linear_token_loss(hidden[rest], weight, targets[rest], objective.token_loss, reward[rest], value[rest], chunk=4)
    torch.testing.assert_close(ignoring, without)
    gradient = torch.autograd.grad(ignoring, hidden)[0]
    assert not gradient[ignore].any()
    assert gradient[rest].any(1).all()


def test_tied_weights_and_accumulation_add_up():
    _, weight, _, targets, reward, _ = problem()
    indices = torch.arange(len(targets)) % len(weight)
    objective = RWR(beta=0.7)

    def fused(rows):
        return linear_token_loss(weight[indices[rows]], weight, targets[rows], objective.token_loss, reward[rows], chunk=3)

    everything = slice(None)
    full = objective.token_loss(full_logprobs(weight[indices], weight, targets, None, Logits()), reward).mean()
    wanted = torch.autograd.grad(full, weight)[0]
    torch.testing.assert_close(torch.autograd.grad(fused(everything), weight)[0], wanted)
    weight.grad = None
    for rows in (slice(0, 4), slice(4, 13)):
        share = (rows.stop - rows.start) / len(targets)
        (fused(rows) * share).backward()
    torch.testing.assert_close(weight.grad, wanted)


def test_backward_twice_gives_the_same():
    hidden, weight, _, targets, _, _ = problem()
    loss = linear_token_loss(hidden, weight, targets, MLE().token_loss, torch.zeros(len(targets)))
    first = torch.autograd.grad(loss, [hidden, weight], retain_graph=True)
    second = torch.autograd.grad(2 * loss, [hidden, weight])
    for one, two in zip(first, second, strict=True):
        torch.testing.assert_close(2 * one, two)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_low_precision_is_close_and_accumulates_in_float32(kind):
    hidden, weight, _, targets, reward, value = problem(n=200, d=32, v=50)
    low = [tensor.detach().to(kind).requires_grad_() for tensor in (hidden, weight)]
    objective = AWR(alpha=0.3, beta=0.5)
    loss = linear_token_loss(*low, targets, objective.token_loss, reward.float(), value.float(), chunk=7)
    assert loss.dtype == torch.float32
    full = objective.token_loss(full_logprobs(hidden, weight, targets, None, Logits()), reward, value).mean()
    tolerance = 1e-5 if kind == torch.float32 else 2e-2
    assert loss.item() == pytest.approx(full.item(), rel=tolerance)
    got = torch.autograd.grad(loss, low)
    wanted = torch.autograd.grad(full, [hidden, weight])
    for one, other, tensor in zip(got, wanted, low, strict=True):
        assert one.dtype == tensor.dtype
        assert ((one.double() - other).norm() / other.norm()).item() < tolerance


def test_autocast_is_what_it_is_for_a_linear_layer():
    hidden, weight, _, targets, reward, _ = problem(n=40, d=16, v=30, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        fused = linear_token_loss(hidden, weight, targets, MLE().token_loss, reward)
        logits = torch.nn.functional.linear(hidden, weight)
    full = torch.nn.functional.cross_entropy(logits.float(), targets)
    torch.testing.assert_close(fused, full, rtol=1e-3, atol=1e-3)
    assert torch.autograd.grad(fused, weight)[0].dtype == torch.float32


def test_no_gradient_is_computed_where_none_is_wanted(monkeypatch):
    hidden, weight, _, targets, reward, _ = problem()
    monkeypatch.setattr("phf.head.autograd.Gradients.add", lambda *_: pytest.fail("a gradient was computed"))
    with torch.no_grad():
        loss = linear_token_loss(hidden, weight, targets, MLE().token_loss, reward)
    assert not loss.requires_grad
    assert linear_token_loss(hidden.detach(), weight.detach(), targets, MLE().token_loss, reward).isfinite()


def test_extreme_logits_stay_exact():
    hidden = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0]])
    targets = torch.tensor([0, 0])
    logprob = token_logprobs(hidden, weight, targets)
    assert logprob.tolist() == [0.0, -2e4]
    logprob.sum().backward()
    assert hidden.grad.isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": torch.zeros(2, 3, 4)}, "expected .N, D. and .V, D."),
        ({"weight": torch.zeros(5, 9)}, "expected .N, D. and .V, D."),
        ({"targets": torch.zeros(9, dtype=torch.long)}, "one for each of 3 rows"),
        ({"bias": torch.zeros(9)}, "one for each of 5 words"),
        ({"column": torch.zeros(9)}, "a column has shape"),
        ({"token_loss": lambda logprob, column: logprob.mean()}, "elementwise"),
    ],
)
def test_wrong_shapes_are_named(change, message):
    given = {
        "hidden": torch.zeros(3, 4), "weight": torch.zeros(5, 4), "targets": torch.zeros(3, dtype=torch.long),
        "bias": None, "column": torch.zeros(3), "token_loss": lambda logprob, column: -logprob,
    } | change  # fmt: skip
    with pytest.raises(ValueError, match=message):
        linear_token_loss(
            given["hidden"], given["weight"], given["targets"], given["token_loss"], given["column"], bias=given["bias"]
        )
