"""What training leaves on disk: states to go on from, and checkpoints that any Hugging Face program loads."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_file, save_model

from phf import outputs
from phf.learner import Learner
from phf.serving import chat_template, sampling_settings


@dataclass(frozen=True, slots=True)
class Position:
    """Where training is: steps done, and the next block of which epoch."""

    step: int = 0
    epoch: int = 0
    block: int = 0


def save_state(out: Path, learner: Learner, optimizer: Any, position: Position) -> None:
    """Write all that training needs to go on to `state-N/`, then delete the states before it."""
    with outputs.whole_directory(out / f"state-{position.step}") as folder:
        save_model(learner, str(folder / "learner.safetensors"))
        torch.save(optimizer.state_dict(), folder / "optimizer.pt")
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        torch.save({"cpu": torch.get_rng_state(), "cuda": cuda}, folder / "random.pt")
        (folder / "position.json").write_text(json.dumps(asdict(position)), encoding="utf-8")
    for old in _states(out):
        if old.name != f"state-{position.step}":
            shutil.rmtree(old)


def load_state(out: Path, learner: Learner, optimizer: Any) -> Position:
    """Load the newest state into learner, optimizer and random generators; without one, leave them and start at 0."""
    outputs.sweep(out)
    outputs.sweep(out / "checkpoints")
    states = _states(out)
    if not states:
        return Position()
    folder = states[-1]
    load_model(learner, str(folder / "learner.safetensors"))
    device = next(learner.parameters()).device
    optimizer.load_state_dict(torch.load(folder / "optimizer.pt", weights_only=True, map_location=device))
    random = torch.load(folder / "random.pt", weights_only=True)
    torch.set_rng_state(random["cpu"])
    if torch.cuda.is_available() and random["cuda"]:
        torch.cuda.set_rng_state_all(random["cuda"])
    return Position(**outputs.read_json(folder / "position.json"))


def save_checkpoint(path: Path, learner: Learner, tokenizer: Any, about: dict[str, Any]) -> None:
    """Write the model as a plain Hugging Face folder, the value head and `phf.json` (what phf wants to know of it) beside it."""
    with outputs.whole_directory(path) as folder:
        learner.model.generation_config.update(**sampling_settings(tokenizer, about))
        learner.model.save_pretrained(folder)
        tokenizer.chat_template = chat_template(tokenizer, about)
        tokenizer.save_pretrained(folder)
        if learner.value_head is not None:
            save_file(learner.value_head.state_dict(), folder / "value_head.safetensors")
        (folder / "phf.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _states(out: Path) -> list[Path]:
    return sorted(out.glob("state-*"), key=lambda path: int(path.name.removeprefix("state-")))
