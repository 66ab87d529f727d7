"""The checkpoint of another run that a run is initialised from, and where in the data that run was."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phf import artifacts, config
from phf.config import read_yaml
from phf.errors import InputError
from phf.layout import CHECKPOINT_NOTES, RunFolder
from phf.objectives import Objective, load
from phf.train.data_loader import DataLoader, Position
from phf.train.schedule import TrainSchedule, find_step


@dataclass(frozen=True)
class InitCheckpoint:
    """A checkpoint to initialise from.

    Args:
        checkpoint: its folder.
        tokens: that it was trained on.
        rate_from: tokens at which the schedule of that run's learning rate began.
        objective, context: of the view that it was trained on last.
        at: what of that view comes next.
    """

    checkpoint: Path
    tokens: int
    rate_from: int
    objective: Objective
    context: int
    at: Position

    def position(self, batches: DataLoader) -> Position:
        """Return the position of the first of `batches`: the same order of documents, continued."""
        objective = self.objective
        control_ids = range(len(objective.control_tokens))  # their places count here, not their names
        view = batches.store.view(objective, self.context, batches.seed, self.at.epoch, control_ids)
        _, position = batches.carry_over(view, self.at, batches.phase(0).objective)
        return position


def find_init_checkpoint(options: config.Train, identity: Mapping[str, Any]) -> InitCheckpoint:
    """Return the checkpoint that `train.init` names.

    Args:
        options: of the new run.
        identity: of its token store, as config.yaml of a run records it.

    Raises:
        InputError: if there is no such run or checkpoint, or it was trained on other data or in another order.
    """
    assert options.init is not None
    folder = Path(options.init.run)
    files = RunFolder(folder)
    if not files.config.is_file():
        raise InputError(f"train.init.run: {folder} is no run's folder (config.yaml is missing); give one that `phf train` wrote")
    made = _read_made_from(files.config)
    where = f"train.init: {folder}"
    if changes := "; ".join(artifacts.differences(made["tokens"], identity)):
        raise InputError(
            f"{where} was trained on another token store: {changes}. The same data order needs the same store; to train its "
            "checkpoint on other data set train.model to from:CHECKPOINT instead"
        )
    schedule = read_schedule(files)
    trained = schedule.options
    if trained.seed != options.seed:
        raise InputError(
            f"{where} has train.seed {trained.seed}, and this run {options.seed}; the same data order needs the same seed"
        )
    notes = _read_notes(files)
    step = find_step(options.init, schedule, set(notes))
    data = notes[step]["data"]
    objective = load(config.check(config.Component, data.get("objective"), f"{files.checkpoint(step) / CHECKPOINT_NOTES}: data"))
    if options.init.rate == "continue":
        _check_same_rate(options, trained, where)
    rate_from = notes[step].get("rate_from", schedule.before)
    checkpoint = files.checkpoint(step)
    at = Position.from_json({name: data[name] for name in data if name != "objective"}, checkpoint / CHECKPOINT_NOTES)
    return InitCheckpoint(checkpoint, notes[step]["tokens"], rate_from, objective, trained.context, at)


def read_schedule(folder: RunFolder) -> TrainSchedule:
    """Return the schedule by which a run is trained, as its folder records it.

    The tokens that it began with are those that its checkpoints say, and none as long as it has no checkpoint.

    Raises:
        InputError: for a config.yaml or notes of a checkpoint that `phf train` did not write.
    """
    trained = config.check(config.Train, _read_made_from(folder.config)["train"], f"{folder.config}: train")
    schedule = TrainSchedule(trained)
    before = next((note["tokens"] - schedule.tokens(step) for step, note in _read_notes(folder).items()), 0)
    return TrainSchedule(trained, before)


def _read_notes(folder: RunFolder) -> dict[int, dict[str, Any]]:
    return {step: artifacts.read_object(path / CHECKPOINT_NOTES, "tokens", "data") for step, path in folder.checkpoints().items()}


def _read_made_from(path: Path) -> dict[str, Any]:
    """Return what a run was made from."""
    made = read_yaml(path)
    if wrong := [key for key in ("tokens", "train") if not isinstance(made.get(key), dict)]:
        raise InputError(f"{path}: not what `phf train` wrote ({wrong[0]} is {made.get(wrong[0])!r:.60}); restore it from a copy")
    return made


def _check_same_rate(options: config.Train, trained: config.Train, where: str) -> None:
    """Raise InputError if the learning rate of the new run would not continue that of the run it is initialised from."""
    keys = ("lr", "schedule", "warmup", "tokens")
    old, new = ({f"train.{key}": getattr(one, key) for key in keys} for one in (trained, options))
    if changes := "; ".join(artifacts.differences(old, new)):
        raise InputError(
            f"{where}: train.init.rate is continue, but the schedule of the learning rate differs: {changes}. Set these to the "
            "same values, or train.init.rate to restart"
        )
