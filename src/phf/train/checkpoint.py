"""Resumable training state, and checkpoints that any Hugging Face program loads."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from phf import artifacts, checksums
from phf.errors import InputError
from phf.layout import CHECKPOINT_NOTES, RunFolder
from phf.learner import Learner
from phf.train.data_loader import Position
from phf.train.hf_export import chat_template, sampling_settings
from phf.train.metrics import RunningMeans, SpikeDetector


@dataclass
class LoopState:
    """Where the training loop is.

    Args:
        position: in steps and in the data.
        means: of the steps since the last line of metrics.
        spikes: the losses that the next ones are compared with.
    """

    position: Position = field(default_factory=Position)
    means: RunningMeans = field(default_factory=RunningMeans)
    spikes: SpikeDetector = field(default_factory=SpikeDetector)


def save_state(run: RunFolder, learner: Learner, optimizer: torch.optim.Optimizer, loop: LoopState, main: bool = True) -> None:
    """Write all that training resumes from to `state-N/`, then delete the states before it.

    Except for random generators, a state does not depend on the number of processes.

    Args:
        run: the run's folder.
        learner, optimizer: may be sharded; every process calls, and `main` writes.
        loop: where training is.
        main: whether this process writes.

    Raises:
        InputError: if it cannot be written; the states and checkpoints before it are whole.
    """
    weights = _weights(learner)
    moments = get_optimizer_state_dict(learner, optimizer, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    random = gather_object([_random_state()])
    if not main:
        return
    step = loop.position.step
    with _writing(run, step), artifacts.whole_directory(run.state(step)) as folder:
        save_file(weights, folder / "learner.safetensors")
        torch.save(moments, folder / "optimizer.pt")
        torch.save(random, folder / "random.pt")
        (folder / "position.json").write_text(json.dumps(asdict(loop.position)), encoding="utf-8")
        rest = {"means": asdict(loop.means), "spikes": loop.spikes.state(), "fused": learner.fused}
        (folder / "loop.json").write_text(json.dumps(rest), encoding="utf-8")
    for other, old in run.states().items():
        if other != step:
            artifacts.remove_directory(old)


def load_state(run: RunFolder, learner: Learner, optimizer: torch.optim.Optimizer, process: int = 0) -> LoopState | None:
    """Load the newest state into learner, optimizer and this process's random generators.

    Returns:
        Where training is; None, with nothing changed, if no state was saved.
    """
    folder = run.latest_state()
    if folder is None:
        return None
    checksums.verify_folder(folder)
    options = StateDictOptions(full_state_dict=True)
    read = _reading(folder / "learner.safetensors", load_file)
    names = _names(learner)
    if lacking := sorted(set(names.values()) - set(read)):
        raise InputError(_not_written(folder / "learner.safetensors", f"it has no {lacking[0]}"))
    weights: dict[str, Any] = {name: read[first] for name, first in names.items()}
    set_model_state_dict(learner, weights, options=options)
    moments = _reading(folder / "optimizer.pt", _load)
    set_optimizer_state_dict(learner, optimizer, moments, options=options)
    random = _reading(folder / "random.pt", _load)
    if process < len(random):  # saved by fewer processes: the others keep what they were seeded with
        torch.set_rng_state(random[process]["cpu"])
        if torch.cuda.is_available() and random[process]["cuda"] is not None:
            torch.cuda.set_rng_state(random[process]["cuda"])
    position = Position.from_json(artifacts.read_json(folder / "position.json"), folder / "position.json")
    if not (folder / "loop.json").exists():  # of phf 0.1
        return LoopState(position)
    rest = artifacts.read_object(folder / "loop.json", "fused", "means", "spikes")
    if rest["fused"] != learner.fused:
        paths = {True: "head and loss in one", False: "full logits"}
        raise InputError(
            f"{folder}: the run was trained with {paths[rest['fused']]}, but with these versions of phf and transformers its "
            f"model takes {paths[learner.fused]}; resume it with the versions that it was started with"
        )
    try:
        return LoopState(position, RunningMeans(**rest["means"]), SpikeDetector(**rest["spikes"]))
    except TypeError as error:
        raise InputError(_not_written(folder / "loop.json", str(error))) from None


def _load(path: Path) -> Any:
    return torch.load(path, weights_only=True, map_location="cpu")


def _reading(path: Path, read: Callable[[Path], Any]) -> Any:
    """Read a file of a state; one that is missing or cannot be read is an InputError that names it."""
    try:
        return read(path)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, SafetensorError, UnpicklingError) as error:
        reason = "it is missing" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())[:200]
        raise InputError(_not_written(path, reason or type(error).__name__)) from None


def _not_written(path: Path, reason: str) -> str:
    return f"{path}: not what `phf train` wrote ({reason}); restore its folder, or delete it, and training begins anew"


def save_checkpoint(path: Path, learner: Learner, tokenizer: Any, notes: dict[str, Any], main: bool = True) -> None:
    """Write the model as a plain Hugging Face folder, with the value head and `phf.json` beside it.

    Args:
        path: the folder.
        learner: may be sharded; every process calls, and `main` writes.
        tokenizer: with the control tokens.
        notes: become phf.json.
        main: whether this process writes.

    Raises:
        InputError: if it cannot be written; the states and checkpoints before it are whole.
    """
    weights = _weights(learner)
    if not main:
        return
    model = learner.model
    with _writing(RunFolder.of_checkpoint(path), notes["step"]), artifacts.whole_directory(path) as folder:
        model.generation_config.update(**sampling_settings(tokenizer, notes))
        of_model = {name.removeprefix("model."): weights[name] for name in weights if name.startswith("model.")}
        model.save_pretrained(folder, state_dict=of_model)
        tokenizer.chat_template = chat_template(tokenizer, notes)
        tokenizer.save_pretrained(folder)
        if learner.value_head is not None:
            head = {name.removeprefix("value_head."): weights[name] for name in weights if name.startswith("value_head.")}
            save_file(head, folder / "value_head.safetensors")
        (folder / CHECKPOINT_NOTES).write_text(json.dumps(notes, indent=2) + "\n", encoding="utf-8")


def _weights(learner: Learner) -> dict[str, torch.Tensor]:
    """Return all weights unsharded on the CPU, tied ones once; every process calls."""
    whole: dict[str, Any] = get_model_state_dict(learner, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    return {name: whole[name].contiguous() for name in _names(learner).values() if name in whole}


def _names(learner: Learner) -> dict[str, str]:
    """Return, for each tensor's name, the first name of the same tensor: tied weights are stored once."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in learner.state_dict(keep_vars=True).items()}


def _random_state() -> dict[str, torch.Tensor | None]:
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None}


@contextlib.contextmanager
def _writing(run: RunFolder, step: int) -> Iterator[None]:
    """Turn the errors of writing to a full disk into one that says what to do."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        steps = run.states()
        kept = f"training resumes from step {max(steps)}" if steps else "there is no earlier state, so training begins anew"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if not isinstance(error, OSError):  # torch and safetensors do not say it plainly
            reason = f"{reason}; is the disk full?"
        raise InputError(
            f"{run.path}: step {step} could not be saved ({reason}); what was saved before is whole. Free space on the disk and "
            f"run the same command again: {kept}"
        ) from error
