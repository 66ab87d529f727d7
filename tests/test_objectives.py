"""Objectives: equivalences, golden losses of the released research code, unscored tokens, edges."""

import dataclasses
import itertools
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from phf.errors import InputError
from phf.objectives import (
    AWR,
    MAX_WEIGHT,
    MLE,
    RWR,
    Conditional,
    Filtering,
    Objective,
    Unlikelihood,
    UnlikelihoodBlend,
    complete,
)

GOLDEN = json.loads((Path(__file__).parent / "golden" / "objective_losses.json").read_text())

ALL = [
    MLE(),
    Filtering(threshold=0.0),
    Conditional(threshold=0.0),
    Unlikelihood(threshold=-0.5),
    RWR(beta=0.5),
    AWR(alpha=0.3, beta=0.5),
    UnlikelihoodBlend(alpha=0.7),
]


def tokens(count=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logprob = torch.randn(count, generator=generator, dtype=torch.float64).abs().neg()
    reward = -torch.rand(count, generator=generator, dtype=torch.float64)
    value = -torch.rand(count, generator=generator, dtype=torch.float64)
    return logprob, reward, value


# equivalences


@pytest.mark.parametrize(
    "objective",
    [
        Filtering(threshold=-10.0),
        Conditional(threshold=0.0),
        Unlikelihood(threshold=-10.0),
        RWR(beta=1e12),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_is_mle_when_nothing_is_bad(objective):
    logprob, reward, value = tokens()
    torch.testing.assert_close(objective.token_loss(logprob, reward, value), MLE().token_loss(logprob, reward, value))


def test_awr_without_value_is_rwr():
    logprob, reward, _ = tokens()
    torch.testing.assert_close(
        AWR(alpha=1.0, beta=0.3).token_loss(logprob, reward, torch.zeros_like(reward)),
        RWR(beta=0.3).token_loss(logprob, reward),
    )


def test_conditional_that_drops_all_controls_is_mle():
    rewards = np.linspace(-1, 1, 50, dtype=np.float32)
    assert (Conditional(threshold=0.0, drop=1.0).controls(rewards, np.random.default_rng(0)) == -1).all()


@pytest.mark.parametrize("objective", ALL, ids=lambda objective: type(objective).__name__)
def test_unscored_tokens_train_as_mle_under_awr_with_its_alpha(objective):
    """Every scored token of AWR has the factor alpha; without it an unscored one would weigh 1 / alpha of these."""
    logprob, reward, value = tokens()
    logprob.requires_grad_()
    value.requires_grad_()
    unscored = torch.full_like(reward, math.nan)
    loss = objective.token_loss(logprob, unscored, value)
    factor = objective.alpha if isinstance(objective, AWR) else 1.0
    torch.testing.assert_close(loss, -factor * logprob)
    loss.sum().backward()
    torch.testing.assert_close(logprob.grad, torch.full_like(logprob, -factor))
    assert value.grad is None or not value.grad.any()


@pytest.mark.parametrize("objective", ALL, ids=lambda objective: type(objective).__name__)
def test_is_elementwise(objective):
    logprob, reward, value = tokens(60)
    whole = objective.token_loss(logprob, reward, value)
    shaped = objective.token_loss(logprob.view(3, 4, 5), reward.view(3, 4, 5), value.view(3, 4, 5))
    one_by_one = torch.stack([objective.token_loss(*row) for row in zip(logprob, reward, value, strict=True)])
    torch.testing.assert_close(shaped.view(-1), whole)
    torch.testing.assert_close(one_by_one, whole)


# golden numbers

CASES = [
    ("mle", MLE()),
    ("ul_t0.1_a1", Unlikelihood(threshold=-0.1, alpha=1.0)),
    ("ul_t0.01_a0.01", Unlikelihood(threshold=-0.01, alpha=0.01)),
    ("awr_a0.5_b10", AWR(alpha=0.5, beta=10.0)),
    ("awr_a0.05_b1", AWR(alpha=0.05, beta=1.0)),
    ("awr_a0.5_b0.1", AWR(alpha=0.5, beta=0.1)),
    ("rwr_b1_novalue", RWR(beta=1.0)),
    ("rwr_b0.1_novalue", RWR(beta=0.1)),
]


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=["case0", "case1"])
@pytest.mark.parametrize(("name", "objective"), CASES, ids=[name for name, _ in CASES])
def test_golden_losses_and_gradients(case, name, objective):
    logits = torch.tensor(case["logits"], dtype=torch.float64, requires_grad=True)
    targets = torch.tensor(case["tokens"])[:, 1:]
    reward = -torch.tensor(case["misalignment_scores"], dtype=torch.float64)[:, 1:]
    value = torch.tensor(case["values"], dtype=torch.float64)[:, :-1]
    logprob = logits[:, :-1].log_softmax(-1).gather(-1, targets[..., None]).squeeze(-1)
    loss = objective.token_loss(logprob, reward, value).mean()
    loss.backward()
    golden = case["losses"][name]
    assert loss.item() == pytest.approx(golden["loss"], rel=1e-6)
    assert logits.grad.norm().item() == pytest.approx(golden["grad_norm"], rel=1e-6)
    assert logits.grad[0, 0].tolist() == pytest.approx(golden["grad_first_row"], rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=["case0", "case1"])
@pytest.mark.parametrize("alpha", [1.0, 0.01])
def test_the_blend_is_the_formula_in_float64(case, alpha):
    """-(1 - s) log p - alpha s log(1 - p), token by token in plain numbers; the released code trains it at a threshold of 0."""
    wanted, count = 0.0, 0
    for logits, ids, scores in zip(case["logits"], case["tokens"], case["misalignment_scores"], strict=True):
        for row, target, score in zip(logits[:-1], ids[1:], scores[1:], strict=True):
            probability = math.exp(row[target]) / math.fsum(map(math.exp, row))
            score = min(1.0, max(0.0, score))
            wanted += -(1 - score) * math.log(probability) - alpha * score * math.log1p(-probability)
            count += 1
    logprob = torch.tensor(case["logits"], dtype=torch.float64)[:, :-1].log_softmax(-1)
    logprob = logprob.gather(-1, torch.tensor(case["tokens"])[:, 1:, None]).squeeze(-1)
    reward = -torch.tensor(case["misalignment_scores"], dtype=torch.float64)[:, 1:]
    loss = UnlikelihoodBlend(alpha).token_loss(logprob, reward).mean()
    assert loss.item() == pytest.approx(wanted / count, rel=1e-12)


def test_the_blend_of_known_numbers():
    """By hand: s = 0.25, p = 0.5, alpha = 2: 0.75 ln 2 + 0.5 ln 2; scores beyond [0, 1] are clipped, and counted."""
    half = torch.tensor([math.log(0.5)] * 3, dtype=torch.float64)
    reward = torch.tensor([-0.25, 0.5, -3.0], dtype=torch.float64)
    loss = UnlikelihoodBlend(2.0).token_loss(half, reward)
    assert loss.tolist() == pytest.approx([1.25 * math.log(2), math.log(2), 2 * math.log(2)], rel=1e-15)
    reward[0] = math.nan
    assert UnlikelihoodBlend(2.0).facts(reward)["clipped_share"].item() == 1.0
    starts = np.array([0])
    remark = UnlikelihoodBlend().check([(np.array([-0.5, -1.5, 0.1, np.nan], np.float32), starts)])
    assert remark == "unlikelihood-blend: 2 of 4 rewards lie outside [-1, 0] and are clipped"
    assert "this is maximum likelihood" in UnlikelihoodBlend().check([(np.zeros(3, np.float32), starts)])


# what they do to the data


def test_threshold_zero_is_a_threshold():
    rewards = np.array([0.0, -0.01, 0.01], np.float32)
    assert Conditional(threshold=0.0, drop=0.0).controls(rewards, np.random.default_rng(0)).tolist() == [0, 1, 0]
    loss = Unlikelihood(threshold=0.0).token_loss(torch.full((3,), -0.1), torch.tensor(rewards))
    assert loss.tolist() == pytest.approx([0.1, -math.log(1 - math.exp(-0.1)), 0.1], rel=1e-5)


def test_filtering_uses_the_mean_of_scored_segments():
    filtering = Filtering(threshold=-0.5)
    assert filtering.keep(np.array([-0.25, -0.75], np.float32))
    assert not filtering.keep(np.array([-0.4, -0.7], np.float32))
    assert filtering.keep(np.array([-0.4, np.nan], np.float32))
    assert filtering.keep(np.array([np.nan], np.float32)), "nothing known against it"


def test_filtering_keeps_or_drops_documents_that_could_not_be_scored():
    rewards, starts = np.array([np.nan, -0.4, -0.7, np.nan, np.nan], np.float32), np.array([0, 1, 2, 3])
    keep, drop = Filtering(threshold=-0.5), Filtering(threshold=-0.5, unscored="drop")
    assert keep.keep_each(rewards, starts).tolist() == [True, True, False, True]
    assert drop.keep_each(rewards, starts).tolist() == [False, True, False, False]
    assert not drop.keep(np.array([np.nan], np.float32))
    assert keep.check([(rewards, starts)]) == "filtering: 2 of 4 documents could not be scored and are kept; it keeps 3"
    assert drop.check([(rewards, starts)]) == "filtering: 2 of 4 documents could not be scored and are dropped; it keeps 1"


documents = st.lists(
    hnp.arrays(np.float32, st.integers(0, 5), elements=st.floats(-1, 1, width=32) | st.just(math.nan)), max_size=8
)


@given(documents)
def test_keep_each_is_keep_of_each(parts):
    flat = np.concatenate([np.empty(0, np.float32), *parts])
    starts = np.cumsum([0, *(len(part) for part in parts)])[:-1]
    for objective in (Filtering(threshold=0.0), Filtering(threshold=-0.3), MLE(), Sparse()):
        assert objective.keep_each(flat, starts).tolist() == [objective.keep(part) for part in parts]


class Sparse(Objective):
    """A plugin that defines `keep` alone."""

    def keep(self, rewards):
        return len(rewards) % 2 == 0


@dataclasses.dataclass(frozen=True)
class Documented:
    """A plugin of the documented contract alone: it inherits nothing, and defines a part of it."""

    strength: float = 1.0
    control_tokens: tuple[str, ...] = ("<|good|>",)

    def controls(self, rewards, rng):
        return np.where(rewards > 0, 0, -1).astype(np.int8)

    def token_loss(self, logprob, reward, value=None):
        return -self.strength * logprob


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    """Another one, without a `__dict__`, and with a field that `Objective` has a property for."""

    control_tokens: tuple[str, ...]

    def keep(self, rewards):
        return len(rewards) > 1


def test_a_plugin_is_completed():
    objective = complete(Documented(strength=2.0))
    assert isinstance(objective, Objective)
    assert isinstance(objective, Documented)
    assert (objective.control_tokens, objective.strength, objective.needs_value) == (("<|good|>",), 2.0, False)
    corpus = [(np.array([-1.0, 1.0], np.float32), np.array([0]))]
    assert objective.resolve(corpus) is objective
    assert objective.check(corpus) is None
    assert objective.keep_each(*corpus[0]).tolist() == [True]
    assert objective.controls(corpus[0][0], np.random.default_rng(0)).tolist() == [-1, 0]
    assert objective.token_loss(torch.tensor([-1.0]), torch.zeros(1)).tolist() == [2.0]
    assert objective.weight(torch.zeros(1)) is None
    assert complete(objective) is objective
    assert dataclasses.replace(objective, strength=3.0).strength == 3.0
    slotted = complete(Slotted(("<|x|>",)))
    assert slotted.control_tokens == ("<|x|>",)
    assert slotted.keep_each(np.zeros(3), np.array([0, 1])).tolist() == [False, True]
    assert complete(MLE()) == MLE()


def test_controls_drop_their_share_and_repeat_under_a_seed():
    rewards = np.zeros(20_000, np.float32)
    controls = Conditional(threshold=0.0, drop=0.1).controls(rewards, np.random.default_rng(3))
    again = Conditional(threshold=0.0, drop=0.1).controls(rewards, np.random.default_rng(3))
    assert (controls == again).all()
    assert controls.dtype == np.int8
    assert (controls == -1).mean() == pytest.approx(0.1, abs=0.01)


def test_quantiles_resolve_once_to_rewards():
    rewards = np.array([-4, -3, -2, -1, 0, np.nan], np.float32)
    starts = np.array([0, 2])
    assert Conditional(threshold="p50").resolve([(rewards, starts)]).threshold == -2
    assert Unlikelihood(threshold="p25").resolve([(rewards, starts)]).threshold == -3
    assert Filtering(threshold="p100").resolve([(rewards, starts)]).threshold == -1  # means are -3.5 and -1
    assert Filtering(threshold=0.5).resolve([(rewards, starts)]) == Filtering(threshold=0.5)
    with pytest.raises(InputError, match="resolve"):
        Conditional(threshold="p50").controls(rewards, np.random.default_rng(0))
    with pytest.raises(InputError, match="nothing in the corpus has a reward"):
        Conditional(threshold="p50").resolve([(np.array([np.nan]), np.array([0]))])


# edges


def test_unlikelihood_stays_finite_where_the_model_is_sure():
    logprob = torch.tensor([0.0, -1e-9, -100.0], requires_grad=True)
    loss = Unlikelihood(threshold=0.0).token_loss(logprob, torch.full((3,), -1.0))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logprob.grad.isfinite().all()
    assert loss[2].item() == pytest.approx(0.0, abs=1e-6)


def test_weights_are_clipped():
    logprob = torch.tensor([-1.0])
    assert RWR(beta=0.01).token_loss(logprob, torch.tensor([100.0])).item() == MAX_WEIGHT
    assert AWR(alpha=1.0, beta=0.01).token_loss(logprob, torch.tensor([100.0]), torch.zeros(1)).item() == MAX_WEIGHT


def test_no_gradient_through_the_weight_of_awr():
    logprob, reward, value = tokens()
    value.requires_grad_()
    AWR(alpha=0.5, beta=1.0).token_loss(logprob, reward, value).sum().backward()
    torch.testing.assert_close(value.grad, (1 - 0.5) * 2 * (value.detach() - reward))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Filtering(threshold="median"), "median.*p0"),
        (lambda: Filtering(threshold="p101"), "p100"),
        (lambda: Filtering(threshold=math.nan), "NaN"),
        (lambda: Conditional(threshold=0.0, drop=1.5), "drop is 1.5"),
        (lambda: Conditional(threshold=0.0, aligned="<x>", misaligned="<x>"), "two different"),
        (lambda: RWR(beta=0.0), "beta is 0.0"),
        (lambda: AWR(alpha=2.0), "alpha is 2.0"),
        (lambda: Unlikelihood(threshold=0.0, alpha=-1.0), "alpha is -1.0"),
        (lambda: UnlikelihoodBlend(alpha=-1.0), "alpha is -1.0"),
    ],
)
def test_wrong_settings_say_what_is_expected(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_awr_asks_for_a_value():
    with pytest.raises(InputError, match="value"):
        AWR().token_loss(torch.zeros(1), torch.zeros(1))


@pytest.mark.parametrize("objective", ALL, ids=lambda objective: type(objective).__name__)
def test_are_frozen_and_travel_to_workers(objective):
    assert pickle.loads(pickle.dumps(objective)) == objective
    for field in dataclasses.fields(objective):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(objective, field.name, 1)


@pytest.mark.parametrize("objective", [Conditional("p40"), Filtering("p70"), Unlikelihood("p10")])
def test_a_corpus_in_chunks_is_the_same_corpus(objective):
    rng = np.random.default_rng(0)
    scored = -rng.random(300).astype(np.float32)
    partly = np.where(rng.random(300) < 0.1, np.nan, scored).astype(np.float32)
    starts = np.unique(np.append(0, rng.integers(1, 300, 40)))
    ends = np.append(starts, 300)

    def chunks(rewards):
        return [(rewards[ends[a] : ends[b]], starts[a:b] - ends[a]) for a, b in itertools.pairwise([0, 7, 20, len(starts)])]

    resolved = objective.resolve([(partly, starts)])
    assert objective.resolve(chunks(partly)) == resolved
    assert resolved.check(chunks(partly)) == resolved.check([(partly, starts)])
    refused = dataclasses.replace(resolved, threshold=1.0)
    with pytest.raises(InputError) as whole:
        refused.check([(scored, starts)])
    with pytest.raises(InputError) as in_chunks:
        refused.check(chunks(scored))
    assert str(in_chunks.value) == str(whole.value)


@pytest.mark.parametrize(
    "objective", [Filtering(0.0), Conditional(0.0), Unlikelihood(0.0, 1.0), UnlikelihoodBlend(), RWR(1.0), AWR(0.5, 1.0)]
)
def test_an_objective_that_uses_rewards_refuses_a_corpus_without_any(objective):
    unscored = [(np.full(6, np.nan, np.float32), np.array([0, 2]))] * 2
    with pytest.raises(InputError, match="needs rewards, but none of 12 segments has one"):
        objective.check(unscored)
    scored = [(np.array([-1.0, 0.0, np.nan], np.float32), np.array([0, 1]))]
    objective.check(scored)
    assert MLE().check(unscored) is None
