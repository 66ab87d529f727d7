"""A small sweep over learning rates and batches, made on one run and fixed for all: no run is tuned better than another."""

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from phf import artifacts, config, lm
from phf.errors import InputError
from phf.evaluate.finetune.trials import Trial
from phf.lm import LocalWeights


@dataclass(frozen=True)
class Sweep:
    """Hyperparameters to try.

    Args:
        on: name of the run that they are tried on, whose folder is beside those of the other runs.
        lr: peak learning rates.
        batch: rows a step.
    """

    on: str
    lr: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    batch: Annotated[list[config.Count], Field(min_length=1)]

    def __post_init__(self) -> None:
        for name in ("lr", "batch"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise InputError(f"finetune.sweep.{name}: found {values}, expected different values")

    def folder(self, out: Path) -> Path:
        """Return the folder of the run that is tried on.

        Args:
            out: folder of a run beside it, or its own.

        Raises:
            InputError: if there is none.
        """
        folder = out if out.name == self.on else out.parent / self.on
        try:
            lm.find_checkpoint(str(folder))
        except InputError as error:
            raise InputError(
                f"finetune.sweep.on: the run {self.on!r} has no weights to try on ({error}); train it first, or name one that has"
            ) from None
        return folder


@dataclass(frozen=True)
class Tried:
    """What a sweep came to.

    Args:
        scores: by (learning rate, batch): the best epoch's score on the rows for early stopping.
    """

    scores: dict[tuple[float, int], float]

    @property
    def chosen(self) -> tuple[float, int]:
        """The learning rate and batch with the best score; of equals the first."""
        return max(self.scores, key=lambda pair: self.scores[pair])


def run_sweep(
    sweep: Sweep,
    trial: Trial,
    load: Callable[[], LocalWeights],
    weights: str,
    shared: Path,
    on_progress: Callable[[int, int], None],
) -> Tried:
    """Finetune one task under each combination, once for all runs.

    Args:
        sweep: the combinations.
        trial: the task, with any learning rate and batch.
        load: loads the model to try them on, if it is needed.
        weights: its fingerprint.
        shared: folder of what all runs of a recipe share.
        on_progress: called with the steps done, of each combination.
    """
    identity = {**trial.made_from(weights), "lr": sweep.lr, "batch": sweep.batch}
    folder = shared / "finetune" / f"{trial.name}-{artifacts.fingerprint(identity)}"
    scores = {}
    with artifacts.alone(folder.with_suffix(".lock")):  # of runs measured side by side, one makes it
        path = folder / "tried.json"
        if path.exists():
            stored = artifacts.read_object(path, "tried")["tried"]
            return Tried({(float(one["lr"]), int(one["batch"])): float(one["score"]) for one in stored})
        model = load()
        for lr, batch in itertools.product(sweep.lr, sweep.batch):
            options = dataclasses.replace(trial.options, lr=lr, batch=batch)
            one = dataclasses.replace(trial, options=options)
            found = one.result(model, folder / f"lr-{lr:g}-batch-{batch}.json", on_progress)
            scores[lr, batch] = max(epoch["score"] for epoch in found["epochs"])
        tried = [{"lr": lr, "batch": batch, "score": score} for (lr, batch), score in scores.items()]
        artifacts.write_json(path, {"on": sweep.on, "made_from": identity, "tried": tried}, recorded=True)
    return Tried(scores)
