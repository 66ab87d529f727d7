"""A run as it is to be trained: its folder, objective, schedule and data, and the checkpoint that it is initialised from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from phf import __version__
from phf.config import Train
from phf.layout import RunFolder
from phf.objectives import MLE, Objective
from phf.tokens import TokenStore
from phf.train.data_loader import Phase, Position
from phf.train.init_from import InitCheckpoint
from phf.train.schedule import TrainSchedule


@dataclass(frozen=True)
class TrainRun:
    """What a trainer trains.

    Args:
        folder: where it writes.
        name: of the run, for its records.
        objective: with its threshold resolved.
        component: the same objective by name and fields, as outputs record it.
        schedule: steps, phases, learning rate, and when something is saved.
        store: the corpus.
        init: the checkpoint that the run is initialised from; None for a new model.
        project: its project in trackers; None for the recipe's name.
    """

    folder: RunFolder
    name: str
    objective: Objective
    component: Mapping[str, Any]
    schedule: TrainSchedule
    store: TokenStore
    init: InitCheckpoint | None = None
    project: str | None = None

    @property
    def options(self) -> Train:
        """How the run is trained."""
        return self.schedule.options

    @property
    def phases(self) -> list[Phase]:
        """Maximum likelihood at the start, the objective, and at the end maximum likelihood without control tokens."""
        start, stop = self.schedule.main
        return [Phase(start, MLE()), Phase(stop, self.objective), Phase(self.schedule.steps, MLE())]

    def notes(self, position: Position, last: Objective) -> dict[str, Any]:
        """Return what `phf.json` of a checkpoint says.

        Args:
            position: of training at the checkpoint.
            last: objective of the last step.
        """
        return {
            "run": self.name,
            "step": position.step,
            "tokens": self.schedule.tokens(position.step),
            "objective": dict(self.component),
            "control_tokens": list(self.objective.control_tokens),
            "rate_from": self.schedule.rate_begin,
            "segmenter": self.store.meta["segmenter"],
            "document_start": self.store.meta["document_start"],
            # What comes next in the data, for a run that is initialised from here.
            "data": {
                "objective": dict(self.component) if last is self.objective else {"name": "mle"},
                "epoch": position.epoch,
                "block": position.block,
                "origin": position.origin,
            },
            "phf": __version__,
        }
