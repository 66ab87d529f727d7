"""Resolve what a user calls a model to a checkpoint."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phf import artifacts
from phf.errors import InputError
from phf.layout import CHECKPOINT_NOTES, RunFolder


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a model's weights, and what phf noted of it.

    Args:
        folder: a Hugging Face model folder; or a name on the hub.
        run: the name of its run.
        step: its optimiser step; 0 if it is not known.
        control_tokens: (): not a conditional model; otherwise the first is what it is conditioned on by default.
        segmenter: what cut its training documents, by name; None if it is not known.
    """

    folder: str
    run: str
    step: int
    control_tokens: tuple[str, ...]
    segmenter: str | None

    def __str__(self) -> str:
        return f"{self.folder} (step {self.step})" if self.step else self.folder


def find_checkpoint(spec: str) -> Checkpoint:
    """Find the model that `spec` names on this machine or on the hub, without opening it.

    Raises:
        InputError: if there is none.
    """
    name = spec.removeprefix("hf:")
    folder = Path(name)
    run, at, step = name.rpartition("@")
    if at and not folder.exists() and RunFolder(Path(run)).checkpoint_folder.is_dir():
        known = _checkpoints(RunFolder(Path(run)))
        if step not in map(str, known):
            raise InputError(f"{spec}: {run} has no checkpoint of step {step}; it has those of {', '.join(map(str, known))}")
        folder = known[int(step)]
    if not folder.exists():
        if spec.startswith("hf:"):
            return Checkpoint(name, name, 0, (), None)
        scheme, colon, _ = spec.partition(":")
        if colon and "/" not in scheme:
            raise InputError(f"{spec}: unknown kind of model {scheme!r}; expected a run's folder, hf:NAME or openai:URL#MODEL")
        raise InputError(f"{spec}: no such run or model folder; a model of the Hugging Face hub is named hf:{spec}")
    if RunFolder(folder).checkpoint_folder.is_dir():
        known = _checkpoints(RunFolder(folder))
        folder = known[max(known)]
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: no model in it (config.json is missing); expected a run's or a checkpoint's folder")
    notes: dict[str, Any] = {}
    if (folder / CHECKPOINT_NOTES).is_file():
        notes = artifacts.read_json(folder / CHECKPOINT_NOTES)
    try:
        segmenter = notes.get("segmenter")
        return Checkpoint(
            str(folder),
            str(notes.get("run", folder.name)),
            int(notes.get("step", 0)),
            tuple(notes.get("control_tokens", ())),
            None if segmenter is None else str(segmenter),
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"{folder / CHECKPOINT_NOTES}: not what `phf train` writes ({error})") from None


def checkpoints_of(spec: str) -> list[str]:
    """Name every checkpoint of a run by its folder, in the order of steps; of anything else just what was given."""
    folder = RunFolder(Path(spec))
    return [str(path) for path in _checkpoints(folder).values()] if folder.checkpoint_folder.is_dir() else [spec]


def run_folder(spec: str) -> Path | None:
    """Find the folder of the run that a model belongs to: its own where it is no run's; None if it is not on this machine.

    Raises:
        InputError: if there is no such model.
    """
    if spec.startswith(("hf:", "openai:")):
        return None
    return RunFolder.of_checkpoint(Path(find_checkpoint(spec).folder)).path


def fingerprint(spec: str) -> str:
    """Name the model that `spec` stands for now, so that another one under the same name is told apart."""
    if spec.startswith("openai:"):
        return spec
    checkpoint = find_checkpoint(spec)
    folder = Path(checkpoint.folder)
    if not folder.is_dir():
        return checkpoint.folder
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted([folder / "config.json", *folder.glob("*.safetensors")]):
        digest.update(json.dumps([path.name, path.stat().st_size]).encode())
        with path.open("rb") as file:
            while piece := file.read(1 << 22):
                digest.update(piece)
    return digest.hexdigest()


def _checkpoints(run: RunFolder) -> dict[int, Path]:
    """Return the checkpoints of a run by step, in order, at least one."""
    if not (steps := run.checkpoints()):
        raise InputError(f"{run.checkpoint_folder}: no checkpoint in it yet (step-N); run `phf train` to its end")
    return steps
