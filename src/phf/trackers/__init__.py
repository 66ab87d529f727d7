"""Experiment trackers: the metrics, configuration, records and samples of runs in TensorBoard, Weights & Biases or MLflow.

A recipe is one project, so that its runs can be overlaid, and a run is one run there, training and evaluations alike: its folder
notes the identifiers in trackers.json. What a run's own files hold is the truth; a tracker that fails is warned of and left out.
"""

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from phf.artifacts import fingerprint, read_json, write_json
from phf.config import read_yaml
from phf.errors import InputError, require
from phf.layout import RunFolder, WorkFolder
from phf.records import Record, read_records
from phf.trackers.protocol import Session, Tracker, read_samples

log = logging.getLogger("phf")

_LIBRARIES = {"tensorboard": "trackers", "wandb": "trackers", "mlflow": "mlflow"}
"""The extra that installs each library, which has the tracker's name."""


def check(names: Sequence[str]) -> None:
    """Raise MissingExtra for a tracker whose library is not installed."""
    for name in names:
        require(name, _LIBRARIES[name], f"train.trackers: {name}")


class Trackers:
    """The trackers of a run, used together; one that fails is warned of once and left out.

    Args:
        opened: by name.
        run: the name of the run, for warnings.
    """

    def __init__(self, opened: Mapping[str, Tracker], run: str) -> None:
        self._opened, self._run = dict(opened), run

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers by name, measured at a step."""
        self._each(lambda tracker: tracker.log(values, step))

    def close(self) -> None:
        """Finish; what was logged is written or sent."""
        self._each(lambda tracker: tracker.close())
        self._opened = {}

    def _each(self, action: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._opened.items()):
            try:
                action(tracker)
            except Exception as error:  # a server that is away must not end a training run
                log.warning("%s: %s failed (%s); the run goes on without it", self._run, name, _first_line(error))
                del self._opened[name]


def open_trackers(
    folder: RunFolder, run: str, names: Sequence[str], project: str | None = None, step: int | None = None
) -> Trackers:
    """Open the trackers of a run, the same runs there as the last time.

    Args:
        folder: of the run; its config.yaml becomes the configuration there.
        run: its name.
        names: of the trackers.
        project: its project there; by default the one noted in the folder, else the recipe's name.
        step: that training resumes from: what was logged after it is discarded, where a tracker can; None to discard nothing.

    Raises:
        MissingExtra: if a library is not installed.
        InputError: if a tracker cannot be opened.
    """
    if not names:
        return Trackers({}, run)
    notes = _Notes.read(folder)
    notes.project = notes.project or project or _project(folder)
    notes.run = notes.run or run
    opened = {name: _open(name, folder, notes, step) for name in names}
    notes.write(folder)
    return Trackers(opened, run)


def track_evaluations(folder: RunFolder, run: str, names: Sequence[str] = ()) -> None:
    """Send the records and samples that are in a run's folder and not yet in its trackers; a failure is only warned of.

    Args:
        folder: of the run.
        run: its name, where it was not trained with trackers.
        names: of trackers, besides those that it was trained with.
    """
    notes = _Notes.read(folder)
    wanted = list(dict.fromkeys([*notes.ids, *names]))
    if not wanted or not folder.records.exists():
        return
    notes.project, notes.run = notes.project or _project(folder), notes.run or run
    evaluations: dict[tuple[int, str], list[Record]] = {}
    for record in read_records(folder.records):
        evaluations.setdefault((record.step, record.evaluation), []).append(record)
    for name in wanted:
        try:
            _send(name, folder, notes, evaluations)
        except Exception as error:  # records are on disk already
            log.warning(
                "%s: %s did not get the records (%s); they are in %s, and the next `phf evaluate` sends them",
                run, name, _first_line(error), folder.records,
            )  # fmt: skip


@dataclass
class _Notes:
    """What trackers.json holds: project, run, the identifier of the run in each tracker, and what each was sent."""

    project: str = ""
    run: str = ""
    ids: dict[str, str] = field(default_factory=dict)
    sent: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: RunFolder) -> "_Notes":
        if not folder.trackers.exists():
            return cls()
        try:
            return cls(**read_json(folder.trackers))
        except TypeError as error:
            raise InputError(f"{folder.trackers}: not what phf writes ({error}); delete it, and trackers get a new run") from None

    def write(self, folder: RunFolder) -> None:
        write_json(folder.trackers, vars(self))


def _open(name: str, folder: RunFolder, notes: _Notes, step: int | None) -> Tracker:
    """Open one tracker, and note the run's identifier there."""
    check([name])
    config: dict[str, Any] = read_yaml(folder.config) if folder.config.exists() else {}
    session = Session(notes.project, notes.run, folder, config, notes.ids.get(name), step)
    module = importlib.import_module(f"phf.trackers.{name}")
    try:
        tracker: Tracker = module.open_run(session)
    except Exception as error:
        raise InputError(f"train.trackers: {name} could not be opened: {_first_line(error)}; {module.ADVICE}") from error
    notes.ids[name] = tracker.id
    return tracker


def _send(name: str, folder: RunFolder, notes: _Notes, evaluations: Mapping[tuple[int, str], Sequence[Record]]) -> None:
    """Send what one tracker lacks, and note it."""
    sent = notes.sent.setdefault(name, {})
    prints = {key: fingerprint([record.to_json() for record in records]) for key, records in evaluations.items()}
    unsent = {key: records for key, records in evaluations.items() if sent.get(f"{key[0]} {key[1]}") != prints[key]}
    if not unsent:
        return
    tracker = _open(name, folder, notes, None)
    try:
        for (step, evaluation), records in unsent.items():
            known = {f"{evaluation}/{record.metric}": record.value for record in records if record.value == record.value}
            tracker.log(known, step)
            if (samples := folder.samples_of(evaluation, step)).exists():
                tracker.table(f"samples/{evaluation}", read_samples(samples), step)
            sent[f"{step} {evaluation}"] = prints[step, evaluation]
    finally:
        tracker.close()
        notes.write(folder)


def _project(folder: RunFolder) -> str:
    """Return the recipe's name; without a recipe that of the folder around `runs`."""
    work = WorkFolder.of_run(folder.path.resolve())
    if folder.path.resolve().parent != work.runs:
        return folder.path.resolve().parent.name or "phf"
    name = read_yaml(work.recipe).get("name") if work.recipe.is_file() else None
    return str(name or work.path.name or "phf")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
