"""TensorBoard: event files in the run's folder, so that `tensorboard --logdir work/NAME/runs` overlays all runs."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from phf.config import to_yaml
from phf.trackers.protocol import Session, Tracker

ADVICE = "is the run's folder writable?"
_ROWS = 50
"""Samples in a table, which TensorBoard shows as one long text."""


def open_run(session: Session) -> Tracker:
    """Open the event files of a run; of a run that resumes, later steps are marked as discarded."""
    return _TensorBoard(session)


class _TensorBoard:
    def __init__(self, session: Session) -> None:
        library: Any = importlib.import_module("torch.utils.tensorboard")
        self.id = session.folder.tensorboard.name
        resumes = session.id is not None and session.step is not None
        discarded = session.step + 1 if resumes and session.step is not None else None
        self._writer = library.SummaryWriter(str(session.folder.tensorboard), purge_step=discarded)
        if session.id is None and session.config:
            self._configure(session)

    def _configure(self, session: Session) -> None:
        """Write the configuration, as a text and as hyperparameters; `add_hparams` would make another run of these."""
        library: Any = importlib.import_module("torch.utils.tensorboard.summary")
        for summary in library.hparams(session.flat_config(), {}):
            self._writer.file_writer.add_summary(summary)
        self._writer.add_text("config", f"```yaml\n{to_yaml(dict(session.config))}```", 0)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def table(self, name: str, columns: Mapping[str, Sequence[Any]], step: int) -> None:
        rows = list(zip(*columns.values(), strict=True))[:_ROWS]
        lines = [list(columns), ["---"] * len(columns), *rows]
        self._writer.add_text(name, "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines), step)

    def close(self) -> None:
        self._writer.close()


def _cell(value: Any) -> str:
    return " ".join(str(value).replace("|", "\\|").split())
