"""The train stage: a token store and an objective to a run folder, resumable at every saved state."""

import dataclasses
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phf import artifacts, config, trackers
from phf.config import read_yaml, to_yaml
from phf.errors import InputError
from phf.layout import RunFolder
from phf.locks import locks_output
from phf.objectives import load
from phf.progress import Listener, silent
from phf.tokens import TokenStore
from phf.train.init_from import find_init_checkpoint
from phf.train.init_from import read_schedule as read_schedule
from phf.train.run import TrainRun
from phf.train.schedule import TrainSchedule as TrainSchedule
from phf.train.schedule import find_step as find_step

if TYPE_CHECKING:
    from phf.train.speed import TrainSpeed

log = logging.getLogger("phf")

_HOW = ("micro_batch", "shard", "trackers")
"""Options that may change when a run is resumed: they change how it is computed, and the result by rounding at most."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The outcome of a training run; its tokens include those of the checkpoint it was initialised from."""

    checkpoint: Path
    step: int
    tokens: int
    resumed_at: int = 0
    already_done: bool = False


@locks_output("train")
def train(
    tokens: Path,
    out: Path,
    name: str,
    objective: config.Component,
    options: config.Train,
    on_progress: Listener = silent,
    project: str | None = None,
) -> Summary:
    """Train a model under an objective.

    A stopped run, started again, resumes from its last saved state, with the same result, bit for bit on a CPU, as if it had
    not been stopped. A finished run is left alone. Started by `torchrun` or `accelerate launch`, all processes train one model.

    Args:
        tokens: folder of the token store.
        out: the run's folder.
        name: the run's name, for its records.
        objective: by name and fields; a quantile threshold is resolved on this corpus and recorded.
        options: model, budget, optimiser.
        on_progress: called after every line of metrics.
        project: the run's project in trackers; by default the recipe's name, where the run lies in a recipe's work folder.

    Raises:
        InputError: for a budget below one batch, a corpus the objective cannot learn from, a folder that holds another run, a
            state that cannot be written, or a loss that is not finite (named with its step and documents; the last saved state
            is kept). MissingExtra without a tracker's library.
        Stopped: after SIGINT or SIGTERM, with the state saved.
    """
    from phf.train import distributed
    from phf.train.trainer import Trainer

    trackers.check(options.trackers)
    run, remark = _prepare(tokens, out, name, objective, options)
    run = dataclasses.replace(run, project=project)
    schedule = run.schedule
    accelerator = distributed.setup(options, run.objective.needs_value)
    made_from = _made_from(run)
    with accelerator.main_process_first():
        _check_same(run.folder, made_from)
        if accelerator.is_main_process:
            artifacts.sweep(out)
            artifacts.sweep(run.folder.checkpoint_folder)
    final, tokens_trained = run.folder.checkpoint(schedule.steps), schedule.tokens(schedule.steps)
    if final.exists():
        return Summary(final, schedule.steps, tokens_trained, already_done=True)
    if remark and accelerator.is_main_process:
        log.warning("%s: %s", name, remark)
    trainer = Trainer(run, accelerator, on_progress)
    resumed_at = trainer.setup()
    # The folder is claimed only now: a run that cannot start leaves nothing behind.
    if accelerator.is_main_process and not run.folder.config.exists():
        with artifacts.whole_file(run.folder.config, recorded=True) as temporary:
            temporary.write_text(to_yaml(made_from), encoding="utf-8")
    trainer.train()
    return Summary(final, schedule.steps, tokens_trained, resumed_at)


def measure_speed(options: config.Train, vocab_size: int, seconds: float) -> "TrainSpeed":
    """Train a new model of a run's shape for some seconds, writing nothing; see `phf.train.speed.measure_speed`.

    Raises:
        InputError: for a model that cannot be built.
    """
    from phf.train import speed

    return speed.measure_speed(options, vocab_size, seconds)


def _prepare(
    tokens: Path, out: Path, name: str, component: config.Component, options: config.Train
) -> tuple[TrainRun, str | None]:
    """Return the run to train, its threshold resolved, and what its objective remarks on the corpus."""
    store = TokenStore.open(tokens)
    init = find_init_checkpoint(options, _identity(store)) if options.init else None
    continued = init.rate_from if init and options.init and options.init.rate == "continue" else None
    schedule = TrainSchedule(options, init.tokens if init else 0, continued)
    objective, remark = store.resolve(load(component))
    if options.cooldown and not objective.control_tokens:
        raise InputError(
            f"train.cooldown is {options.cooldown}, but {component.name} has no control tokens to leave out; set it to 0"
        )
    recorded = {"name": component.name, **vars(objective)}
    return TrainRun(RunFolder(out), name, objective, recorded, schedule, store, init), remark


def _identity(store: TokenStore) -> dict[str, Any]:
    """Return what a run records of its corpus and tokens."""
    return {**store.meta["made_from"], **store.meta["counts"]}


def _made_from(run: TrainRun) -> dict[str, Any]:
    """Return what a run is made from, as config.yaml records it."""
    options = config.plain(run.options)
    if run.options.init:  # relative to the run's folder, so that both may be moved together
        options["init"]["run"] = os.path.relpath(run.options.init.run, run.folder.path)
    described = {"name": run.name, "objective": run.component, "train": options, "tokens": _identity(run.store)}
    plain: dict[str, Any] = json.loads(json.dumps(described))
    return plain


def _check_same(folder: RunFolder, made_from: dict[str, Any]) -> None:
    """Raise InputError if the folder holds a run that was made from something else."""
    if not folder.config.exists():
        return
    recorded = read_yaml(folder.config)
    recorded = _with_defaults(recorded, str(folder.config))
    same = {key: recorded["train"][key] for key in _HOW}
    artifacts.check_unchanged(folder.path, recorded, made_from | {"train": made_from["train"] | same})


def _with_defaults(recorded: dict[str, Any], where: str) -> dict[str, Any]:
    """Return what config.yaml records, with the defaults of fields that its version of phf did not have."""
    try:
        options = config.plain(config.check(config.Train, recorded["train"], f"{where}: train"))
        component = config.Component.model_validate(recorded["objective"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where}: not what `phf train` writes ({error}); restore it from a copy") from None
    return recorded | {"train": options, "objective": {"name": component.name, **vars(load(component))}}
