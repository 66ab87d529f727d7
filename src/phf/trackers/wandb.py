"""Weights & Biases: a run that training and evaluations write to, online or offline as WANDB_MODE says."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from phf.layout import split_seed
from phf.trackers.protocol import Session, Tracker

ADVICE = "run `wandb login`, or set WANDB_MODE=offline"
_FORBIDDEN = str.maketrans(dict.fromkeys("/\\#?%:", "-"))
"""What W&B does not allow in the name of a project."""


def open_run(session: Session) -> Tracker:
    """Open the run, or go on with it; its files are in the run's folder."""
    return _WeightsAndBiases(session)


class _WeightsAndBiases:
    def __init__(self, session: Session) -> None:
        import wandb

        self.id = session.id or secrets.token_hex(4)
        self._table = wandb.Table
        self._run = wandb.init(
            project=session.project.translate(_FORBIDDEN),
            name=session.run,
            group=split_seed(session.run)[0],
            id=self.id,
            resume="allow",
            dir=str(session.folder.path),
            config=dict(session.config) if session.id is None else None,
            settings=wandb.Settings(silent=True, console="off"),
        )
        # W&B's own steps may only rise, but an earlier checkpoint may be evaluated after training.
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({**values, "step": step})

    def table(self, name: str, columns: Mapping[str, Sequence[Any]], step: int) -> None:
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        self._run.log({name: self._table(columns=list(columns), data=rows), "step": step})

    def close(self) -> None:
        self._run.finish()
