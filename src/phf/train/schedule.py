"""When what happens in a training run: steps from tokens, the learning rate, phases, and what is saved when."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from phf.config import Init, Train
from phf.errors import InputError


@dataclass(frozen=True)
class TrainSchedule:
    """A run's tokens as optimiser steps.

    Args:
        options: how it is trained.
        before: tokens that the run it goes on from was trained on.
    """

    options: Train
    before: int = 0

    def __post_init__(self) -> None:
        if self.steps >= 1:
            return
        batch, context = self.options.batch, self.options.context
        one = f"one batch of {batch} x {context} = {self.step_tokens}"
        if self.before:
            raise InputError(
                f"train.tokens is {self.options.tokens}, of which train.init has had {self.before}: what is left is less than "
                f"{one}; raise train.tokens, which counts them too"
            )
        raise InputError(
            f"train.tokens is {self.options.tokens}, less than {one}; raise train.tokens, or lower train.batch or train.context"
        )

    @property
    def step_tokens(self) -> int:
        """Predicted tokens in an optimiser step."""
        return self.options.batch * self.options.context

    @property
    def steps(self) -> int:
        """Optimiser steps of this run."""
        return (self.options.tokens - self.before) // self.step_tokens

    def tokens(self, step: int) -> int:
        """Count the tokens that the model was trained on after a step."""
        return self.before + step * self.step_tokens

    @property
    def main(self) -> tuple[int, int]:
        """The steps, from and to, that are under the run's own objective: what is before is MLE, after without control tokens."""
        return round(self.options.start * self.steps), self.steps - round(self.options.cooldown * self.steps)

    def checkpoints(self) -> set[int]:
        """Give the steps after which there is a checkpoint."""
        count = self.options.checkpoints
        return {round(self.steps * (i + 1) / count) for i in range(count)} | set(self._crossing(self.options.checkpoint_every))

    def saves(self) -> set[int]:
        """Give the steps after which the state is saved."""
        return self.checkpoints() | set(self._crossing(self.options.save_every))

    def looks(self) -> set[int]:
        """Give the steps after which the held-out loss is looked at."""
        every = self.options.held_out_every
        return {*self._crossing(every), self.steps} if every else set()

    def learning_rate(self, step: int) -> float:
        """Give the learning rate of a step, counted from 0: a linear rise over the warm-up, then the schedule.

        linear and cosine fall to 0 at the end; wsd stays and falls linearly over the last fifth; constant stays.
        """
        warmup = round(self.options.warmup * self.steps)
        if step < warmup:
            return self.options.lr * (step + 1) / warmup
        gone = (step - warmup) / max(1, self.steps - warmup)
        shape = {
            "linear": 1 - gone,
            "cosine": 0.5 * (1 + math.cos(math.pi * gone)),
            "wsd": min(1.0, (1 - gone) / 0.2),
            "constant": 1.0,
        }
        return self.options.lr * shape[self.options.schedule]

    def _crossing(self, every: int | None) -> Iterator[int]:
        """List the steps in which a multiple of so many tokens is reached."""
        if every is not None:
            yield from (s for s in range(1, self.steps + 1) if self.tokens(s) // every > self.tokens(s - 1) // every)


def find_step(init: Init, budget: TrainSchedule, steps: set[int]) -> int:
    """Choose the checkpoint that `init.at` means.

    Args:
        init: what is asked for.
        budget: of the run that it names.
        steps: of the checkpoints there are, or will be.

    Raises:
        InputError: if none is within a hundredth of that run's budget of it; the message lists those there are.
    """
    whole = budget.tokens(budget.steps)
    wanted = float(init.at[:-1]) / 100 * whole if isinstance(init.at, str) else init.at
    nearest = min(steps, key=lambda step: abs(budget.tokens(step) - wanted), default=None)
    if nearest is None or abs(budget.tokens(nearest) - wanted) > whole / 100:
        there = ", ".join(f"{budget.tokens(step):,} tokens ({100 * budget.tokens(step) / whole:.3g}%)" for step in sorted(steps))
        raise InputError(
            f"train.init: {init.run} has no checkpoint at {init.at} of its {whole:,} tokens; it has {there or 'none'}. "
            "Its `train.checkpoints` and `train.checkpoint_every` say when there is one"
        )
    return nearest
