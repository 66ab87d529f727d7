"""One task finetuned once, stored with what it was made from, so that nothing is finetuned twice."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from phf import artifacts, lm
from phf.errors import InputError
from phf.evaluate.finetune import glue
from phf.evaluate.finetune.options import TrainingOptions
from phf.lm import LocalWeights

_MAX_STOP_ROWS = 2000
"""Rows of train held out for early stopping, at most."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A task and how it is finetuned.

    Args:
        name: of the task.
        rows: its rows.
        options: hyperparameters.
        seed: of the new head's weights and the order of the rows.
        stop_on: rows for early stopping: a part of "train" that is not trained on, or "dev".
        train_rows: rows of train to use, sampled with the seed; all if None.
    """

    name: str
    rows: glue.Rows
    options: TrainingOptions
    seed: int
    stop_on: Literal["train", "dev"]
    train_rows: int | None

    def result(self, model: LocalWeights, path: Path, on_progress: Callable[[int, int], None]) -> dict[str, Any]:
        """Return what finetuning came to, from `path` if it was made from the same: see `training.finetune`.

        Raises:
            InputError: if the model cannot be finetuned, or too few rows are there.
        """
        from phf.evaluate.finetune.training import finetune

        made_from = {"control": model.control, **self.made_from(lm.fingerprint(model.checkpoint.folder))}
        if path.exists():
            stored: dict[str, Any] = artifacts.read_object(path, "made_from", "metrics")
            if stored["made_from"] == made_from and "predictions" in stored:
                return stored
        train, stop = self.split()
        found = finetune(model, glue.TASKS[self.name], train, stop, self.rows.dev, self.options, self.seed, on_progress)
        artifacts.write_json(path, {"made_from": made_from, **found}, recorded=True)
        return found

    def made_from(self, weights: str) -> dict[str, Any]:
        """Return what the result depends on, besides the control token.

        Args:
            weights: fingerprint of the model.
        """
        own = {"stop_on": self.stop_on, "train_rows": self.train_rows, "seed": self.seed}
        return {"model": weights, "rows": self.rows.fingerprint(), **dataclasses.asdict(self.options), **own}

    def split(self) -> tuple[Sequence[glue.Row], Sequence[glue.Row]]:
        """Return the rows to train on and the rows for early stopping.

        Raises:
            InputError: if there are too few rows.
        """
        order = np.random.default_rng(self.seed).permutation(len(self.rows.train))
        sampled = [self.rows.train[index] for index in order[: self.train_rows]]
        if self.stop_on == "dev":
            return sampled, next(iter(self.rows.dev.values()))
        held_out = min(max(1, len(sampled) // 10), _MAX_STOP_ROWS)
        if len(sampled) <= held_out:
            raise InputError(f"finetuning needs at least 2 rows of train, found {len(sampled)}; use more rows, or stop_on: dev")
        return sampled[held_out:], sampled[:held_out]
