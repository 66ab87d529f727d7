"""When what happens in a run: steps, learning rates, phases, checkpoints, and the one that another run goes on from."""

import pytest

from phf.config import Init, Train
from phf.errors import InputError
from phf.train.schedule import TrainSchedule, find_step
from support import tiny_corpora as tiny


def budget(before=0, rate_from=None, **changes):
    return TrainSchedule(tiny.train_options(**({"tokens": 6400} | changes)), before, rate_from)  # 64 tokens a step


def test_schedules():
    made = {name: budget(schedule=name, warmup=0.1, lr=1.0) for name in ("linear", "cosine", "wsd", "constant")}
    for name, one in made.items():
        rates = [one.learning_rate(step) for step in range(100)]
        assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
        assert max(rates) == pytest.approx(1.0)
        assert rates[10:] == sorted(rates[10:], reverse=True), name
    assert made["linear"].learning_rate(99) == pytest.approx(1 / 90)
    assert made["cosine"].learning_rate(55) == pytest.approx(0.5)
    assert made["wsd"].learning_rate(81) == 1.0
    assert made["constant"].learning_rate(99) == 1.0
    assert budget(warmup=0.0, lr=1.0).learning_rate(0) == 1.0


def test_what_is_saved_when():
    made = budget(checkpoints=4, checkpoint_every=1000, save_every=640, held_out_every=3200)
    assert made.steps == 100
    assert made.checkpoints() == {25, 50, 75, 100} | {16, 32, 47, 63, 79, 94}
    assert made.saves() == made.checkpoints() | set(range(10, 101, 10))
    assert made.validations() == {50, 100}
    assert budget(held_out_every=5000).validations() == {79, 100}, "there is always one at the end"
    assert budget().validations() == set()


def test_the_learning_rate_restarts_or_continues():
    whole = budget(warmup=0.1, lr=1.0)
    continued = budget(before=3200, rate_from=0, warmup=0.1, lr=1.0)
    assert [continued.learning_rate(step) for step in range(50)] == [whole.learning_rate(step) for step in range(50, 100)]
    restarted = budget(before=3200, warmup=0.1, lr=1.0)
    assert restarted.learning_rate(0) == pytest.approx(0.2)
    assert restarted.learning_rate(4) == 1.0
    larger = budget(before=3200, rate_from=0, warmup=0.1, lr=1.0, batch=8)
    assert larger.learning_rate(0) == pytest.approx(whole.learning_rate(50)), "by tokens, whatever the batch"
    again = budget(before=4800, rate_from=3200, lr=1.0, warmup=0.0)
    assert again.learning_rate(0) == pytest.approx(0.5), "a schedule that was restarted is continued from there"


def test_a_run_that_goes_on_counts_what_was_before():
    made = budget(before=3200, checkpoints=2, save_every=1000)
    assert made.steps == 50
    assert made.tokens(0) == 3200
    assert made.tokens(50) == 6400
    assert made.checkpoints() == {25, 50}
    assert min(made.saves()) == 13, "4,000 tokens are passed in its 13th step"
    with pytest.raises(InputError, match=r"train\.tokens is 6400, which includes the 6400 that the checkpoint of train\.init"):
        budget(before=6400)


def test_phases():
    assert budget().main == (0, 100)
    assert budget(start=0.1, cooldown=0.25).main == (10, 75)
    with pytest.raises(InputError, match=r"less than one batch of 4 x 16 = 64"):
        budget(tokens=63)


@pytest.mark.parametrize(("at", "step"), [("50%", 50), ("100%", 100), ("49.5%", 50), (3200, 50), (1600, 25)])
def test_at_means_a_checkpoint(at, step):
    assert find_step(Init(run="x", at=at), budget(), {25, 50, 100}) == step


def test_no_checkpoint_there_lists_those_there_are():
    with pytest.raises(InputError, match=r"x has no checkpoint at 90% of its 6,400 tokens; it has 3,200 tokens \(50%\), 6,400"):
        find_step(Init(run="x", at="90%"), budget(), {50, 100})
    with pytest.raises(InputError, match="it has none"):
        find_step(Init(run="x", at=100), budget(), set())


def test_without_a_budget_nothing_is_trained_and_the_error_says_what_to_write():
    with pytest.raises(InputError, match=r"train\.tokens: missing; say how many tokens to train on, such as train\.tokens=10M"):
        TrainSchedule(Train())
