"""The train stage: a token store and an objective to a run folder, in steps it can be stopped at and go on from."""

# B sequences of a batch, T predicted tokens in each.

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phf import artifacts, config
from phf.config import yaml
from phf.errors import InputError
from phf.layout import RunFolder
from phf.objectives import MLE
from phf.progress import Listener, silent
from phf.tokens.store import TokenStore
from phf.train import distributed
from phf.train.data_loader import Phase
from phf.train.init_from import find_init_checkpoint
from phf.train.schedule import TrainSchedule
from phf.train.trainer import Trainer

log = logging.getLogger("phf")

_HOW = ("micro_batch", "shard", "trackers")
"""Options that a run may go on with other values of: they change how it is done, and the result by rounding at most."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a training run came to; its tokens count those of the run it went on from."""

    checkpoint: Path
    step: int
    tokens: int
    resumed_at: int = 0
    already_done: bool = False


def train(
    tokens: Path, out: Path, name: str, objective: config.Component, options: config.Train, progress: Listener = silent
) -> Summary:
    """Train a model under an objective.

    Called again it goes on from the last saved state, with the same result, bit for bit on a CPU, as if it had not been stopped.
    A finished run is left alone. Started by `torchrun` or `accelerate launch`, all processes train one model.

    Args:
        tokens: folder of the token store.
        out: the run's folder.
        name: the run's name, for its records.
        objective: by name and fields; a quantile threshold is resolved on this corpus and recorded.
        options: model, budget, optimiser.

    Raises:
        InputError: for a budget below one batch, a corpus the objective cannot learn from, a folder that holds another run, a
            state that cannot be written, or a loss that is not finite (named with its step and documents; the last saved state
            is kept).
        Stopped: after SIGINT or SIGTERM, with the state saved.
    """
    files = RunFolder(out)
    store = TokenStore.open(tokens)
    identity = _identity(store)
    ancestor = find_init_checkpoint(options, identity) if options.init else None
    budget = TrainSchedule(options, ancestor.tokens if ancestor else 0)
    rewards = [(store.rewards, store.first[:-1])]
    resolved = config.build("objectives", objective).resolve(rewards)
    if options.cooldown and not resolved.control_tokens:
        raise InputError(
            f"train.cooldown is {options.cooldown}, but {objective.name} has no control tokens to leave out; set it to 0"
        )
    component = {"name": objective.name, **vars(resolved)}
    remark = resolved.check(rewards)
    accelerator = distributed.setup(options, resolved.needs_value, out)
    made_from = _made_from(
        out, options, {"name": name, "objective": component, "train": config.plain(options), "tokens": identity}
    )
    with accelerator.main_process_first():
        _check_same(out, made_from)
        if accelerator.is_main_process:
            artifacts.sweep(out)
            artifacts.sweep(files.checkpoint_folder)
    final = files.checkpoint(budget.steps)
    if final.exists():
        return Summary(final, budget.steps, budget.tokens(budget.steps), already_done=True)
    if remark and accelerator.is_main_process:
        log.warning("%s: %s", name, remark)
    main_from, main_to = budget.main
    phases = [Phase(main_from, MLE()), Phase(main_to, resolved), Phase(budget.steps, MLE())]
    trainer = Trainer(out, name, component, resolved, phases, budget, store, accelerator, progress, ancestor)
    # The folder is claimed only now: a run that cannot start leaves nothing behind.
    if accelerator.is_main_process and not files.config.exists():
        with artifacts.whole_file(files.config) as temporary:
            temporary.write_text(yaml.to_yaml(made_from), encoding="utf-8")
    resumed_at = trainer.position.step
    if resumed_at < budget.steps:  # else its last checkpoint was all that was missing
        trainer.run()
    return Summary(final, budget.steps, budget.tokens(budget.steps), resumed_at)


def _identity(store: TokenStore) -> dict[str, Any]:
    """Say which corpus and tokens a run is of."""
    return {**store.meta["made_from"], **store.meta["counts"]}


def _made_from(out: Path, options: config.Train, described: dict[str, Any]) -> dict[str, Any]:
    """Say what a run is made from, as config.yaml keeps it."""
    if options.init:  # named from here, so that both may move together
        described["train"]["init"]["run"] = os.path.relpath(options.init.run, out)
    plain: dict[str, Any] = json.loads(json.dumps(described))
    return plain


def _check_same(out: Path, made_from: dict[str, Any]) -> None:
    """Check that a folder is this very run's, if it is one's already."""
    path = RunFolder(out).config
    if not path.exists():
        return
    made = yaml.read_yaml(path)
    same = {key: made["train"][key] for key in _HOW if key in made.get("train", {})}
    artifacts.check_unchanged(out, made, made_from | {"train": made_from["train"] | same})
