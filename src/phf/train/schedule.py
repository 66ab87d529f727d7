"""The schedule of a training run: steps from tokens, the learning rate, phases, and when something is saved."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from phf.config import Init, Train
from phf.errors import InputError
from phf.formatting import percent


@dataclass(frozen=True)
class TrainSchedule:
    """A run's token budget as optimiser steps.

    Args:
        options: of the run.
        before: tokens that the checkpoint it is initialised from was trained on.
        rate_from: tokens at which the learning rate's schedule begins, `before` at most; `before` if not given.
    """

    options: Train
    before: int = 0
    rate_from: int | None = None

    def __post_init__(self) -> None:
        if self.options.tokens is None:
            raise InputError(
                "train.tokens: missing; say how many tokens to train on, such as train.tokens=10M (the paper's models: 3.3B)"
            )
        if self.steps >= 1:
            return
        batch, context = self.options.batch, self.options.context
        one = f"one batch of {batch} x {context} = {self.step_tokens}"
        if self.before:
            raise InputError(
                f"train.tokens is {self.budget}, which includes the {self.before} that the checkpoint of train.init was "
                f"trained on: less than {one} is left; raise train.tokens"
            )
        raise InputError(
            f"train.tokens is {self.budget}, less than {one}; raise train.tokens, or lower train.batch or train.context"
        )

    @property
    def budget(self) -> int:
        """Tokens to train on, `before` among them."""
        assert self.options.tokens is not None  # checked when the schedule is made
        return self.options.tokens

    @property
    def step_tokens(self) -> int:
        """Predicted tokens in an optimiser step."""
        return self.options.batch * self.options.context

    @property
    def rate_begin(self) -> int:
        """Tokens at which the schedule of the learning rate begins."""
        return self.before if self.rate_from is None else self.rate_from

    @property
    def steps(self) -> int:
        """Optimiser steps of this run."""
        return (self.budget - self.before) // self.step_tokens

    def tokens(self, step: int) -> int:
        """Return how many tokens the model was trained on after a step."""
        return self.before + step * self.step_tokens

    @property
    def main(self) -> tuple[int, int]:
        """First and last step (excluded) under the run's own objective; MLE comes before, MLE without control tokens after."""
        return round(self.options.start * self.steps), self.steps - round(self.options.cooldown * self.steps)

    def checkpoints(self) -> set[int]:
        """Return the steps after which a checkpoint is written."""
        count = self.options.checkpoints
        return {round(self.steps * (i + 1) / count) for i in range(count)} | set(self._crossing(self.options.checkpoint_every))

    def saves(self) -> set[int]:
        """Return the steps after which the state is saved."""
        return self.checkpoints() | set(self._crossing(self.options.save_every))

    def validations(self) -> set[int]:
        """Return the steps after which the held-out loss is measured."""
        every = self.options.held_out_every
        return {*self._crossing(every), self.steps} if every else set()

    def learning_rate(self, step: float) -> float:
        """Return the learning rate of a step, counted from 0: a linear warm-up, then the schedule.

        `linear` and `cosine` fall to 0 at the end, `wsd` (warm-up, stable, decay) falls linearly over the last fifth, `constant`
        stays.
        """
        steps = (self.budget - self.rate_begin) // self.step_tokens
        step += (self.before - self.rate_begin) / self.step_tokens
        warmup = round(self.options.warmup * steps)
        if step < warmup:
            return self.options.lr * (step + 1) / warmup
        gone = min(1.0, (step - warmup) / max(1, steps - warmup))
        shape = {
            "linear": 1 - gone,
            "cosine": 0.5 * (1 + math.cos(math.pi * gone)),
            "wsd": min(1.0, (1 - gone) / 0.2),
            "constant": 1.0,
        }
        return self.options.lr * shape[self.options.schedule]

    def _crossing(self, every: int | None) -> Iterator[int]:
        """Yield the steps in which a multiple of so many tokens is reached."""
        if every is not None:
            yield from (s for s in range(1, self.steps + 1) if self.tokens(s) // every > self.tokens(s - 1) // every)


def find_step(init: Init, schedule: TrainSchedule, steps: set[int]) -> int:
    """Return the step of the checkpoint that `init.at` names.

    Args:
        init: which run and when.
        schedule: of that run.
        steps: of the checkpoints that it has, or will have.

    Raises:
        InputError: if no checkpoint is within 1% of that run's budget of it; the message lists those there are.
    """
    whole = schedule.tokens(schedule.steps)
    wanted = float(init.at[:-1]) / 100 * whole if isinstance(init.at, str) else init.at
    nearest = min(steps, key=lambda step: abs(schedule.tokens(step) - wanted), default=None)
    if nearest is None or abs(schedule.tokens(nearest) - wanted) > whole / 100:
        existing = [f"{schedule.tokens(step):,} tokens ({percent(schedule.tokens(step) / whole)})" for step in sorted(steps)]
        raise InputError(
            f"train.init: {init.run} has no checkpoint at {init.at} of its {whole:,} tokens; it has "
            f"{', '.join(existing) or 'none'}. Its `train.checkpoints` and `train.checkpoint_every` say when there is one"
        )
    return nearest
