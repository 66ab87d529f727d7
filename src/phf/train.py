"""The train stage: a token store and an objective to a run folder, in steps it can be stopped at and go on from."""

# B sequences of a batch, T predicted tokens in each.

import contextlib
import json
import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from phf import __version__, config, outputs
from phf.checkpoints import Position, load_state, save_checkpoint, save_state
from phf.errors import InputError, Stopped
from phf.learner import Learner
from phf.models import add_control_tokens, build_model
from phf.objectives import Objective
from phf.progress import Listener, Progress, silent
from phf.shards import TokenStore, View
from phf.tokenizer import load_tokenizer

log = logging.getLogger("phf")


@dataclass(frozen=True, slots=True)
class Summary:
    """What a training run came to."""

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
    A finished run is left alone.

    Args:
        tokens: folder of the token store.
        out: the run's folder.
        name: the run's name, for its records.
        objective: by name and fields; a quantile threshold is resolved on this corpus and recorded.
        options: model, budget, optimiser.

    Raises:
        InputError: for a budget below one batch, a corpus the objective cannot learn from, a folder that holds another run, or a
            loss that is not finite (named with its step and documents; the last saved state is kept).
        Stopped: after SIGINT or SIGTERM, with the state saved.
    """
    store = TokenStore.open(tokens)
    step_tokens = options.batch * options.context
    steps = options.tokens // step_tokens
    if steps < 1:
        raise InputError(
            f"train.tokens is {options.tokens}, less than one batch of {options.batch} x {options.context} = {step_tokens}; "
            "raise train.tokens, or lower train.batch or train.context"
        )
    starts = store.first[:-1]
    resolved = config.build("objectives", objective).resolve(store.rewards, starts)
    component = {"name": objective.name, **vars(resolved)}
    final = out / "checkpoints" / f"step-{steps}"
    # Asked before the folder is claimed: a run that cannot start leaves nothing behind.
    remark = resolved.check(store.rewards, starts)
    _claim(out, {"name": name, "objective": component, "train": config.plain(options), "tokens": _identity(store)})
    if final.exists():
        return Summary(final, steps, steps * step_tokens, already_done=True)
    if remark:
        log.warning("%s: %s", name, remark)
    trainer = _Trainer(out, name, resolved, component, options, store, progress)
    resumed_at = trainer.position.step
    trainer.run()
    return Summary(final, steps, steps * step_tokens, resumed_at)


def learning_rate(step: int, steps: int, options: config.Train) -> float:
    """Give the learning rate of a step, counted from 0: a linear rise over the warm-up, then the schedule.

    linear and cosine fall to 0 at the end; wsd stays and falls linearly over the last fifth; constant stays.
    """
    warmup = round(options.warmup * steps)
    if step < warmup:
        return options.lr * (step + 1) / warmup
    gone = (step - warmup) / max(1, steps - warmup)
    shape = {
        "linear": 1 - gone,
        "cosine": 0.5 * (1 + math.cos(math.pi * gone)),
        "wsd": min(1.0, (1 - gone) / 0.2),
        "constant": 1.0,
    }
    return options.lr * shape[options.schedule]


class _Trainer:
    """One process of a training run: batches in; steps, metrics, states and checkpoints out."""

    def __init__(
        self,
        out: Path,
        name: str,
        objective: Objective,
        component: dict[str, Any],
        options: config.Train,
        store: TokenStore,
        progress: Listener,
    ) -> None:
        self.out, self.name, self.objective, self.options, self.store = out, name, objective, options, store
        self.progress = progress
        self.step_tokens = options.batch * options.context
        self.steps = options.tokens // self.step_tokens
        self.checkpoints = {round(self.steps * (i + 1) / options.checkpoints) for i in range(options.checkpoints)}
        self.saves = {step for step in range(1, self.steps + 1) if self._crosses(options.save_every, step)} | self.checkpoints
        self.about = {
            "run": name,
            "objective": component,
            "control_tokens": list(objective.control_tokens),
            "segmenter": store.meta["segmenter"],
            "phf": __version__,
        }
        AcceleratorState._reset_state()  # accelerate holds one precision a process; each run chooses its own
        self.accelerator = Accelerator(
            mixed_precision="bf16" if _bf16(options.precision) else "no",
            cpu=not torch.cuda.is_available(),
            log_with=list(options.trackers) or None,
            project_dir=str(out),
        )
        if options.batch % self.accelerator.num_processes:
            raise InputError(f"train.batch is {options.batch}; expected a multiple of {self.accelerator.num_processes} processes")
        self.tokenizer = load_tokenizer(store.path / "tokenizer")
        start, vocab_size = store.meta["document_start"], store.meta["vocab_size"]
        model = build_model(options.model, vocab_size, options.context, start, options.seed)
        self.control_ids = add_control_tokens(model, self.tokenizer, objective.control_tokens, options.seed)
        self.learner = Learner(model, objective)
        if options.compile:
            self.learner.backbone = torch.compile(self.learner.backbone)
        torch.manual_seed(options.seed)  # dropout, where a model has any
        self.wrapped, self.optimizer = self.accelerator.prepare(self.learner, self._optimizer())
        self.position = load_state(out, self.learner, self.optimizer)
        if self.position.step in self.checkpoints:  # a process killed between state and checkpoint
            self._checkpoint()
        self.signal: int | None = None

    def run(self) -> None:
        """Train to the end of the budget.

        Raises:
            Stopped: after a signal.
        """
        main = self.accelerator.is_main_process
        metrics = _Metrics(self.out / "metrics.jsonl", self.position.step) if main else None
        if self.options.trackers:
            self.accelerator.init_trackers(self.name)
        self.wrapped.train()
        since: list[dict[str, float]] = []
        clock = time.perf_counter()
        with self._signals():
            for tokens, rewards, documents in self._batches():
                since.append(self._step(tokens, rewards, documents))
                step = self.position.step
                last = step == self.steps
                if step % self.options.log_every == 0 or last or step == 1:
                    seconds = time.perf_counter() - clock
                    line = self._line(since, seconds)
                    if metrics:
                        metrics.write(line, seconds)
                    self.accelerator.log({key: value for key, value in line.items() if key != "step"}, step=step)
                    facts = {"loss": line["loss"], "tokens/s": line["tokens_per_second"]}
                    total = self.steps * self.step_tokens
                    self.progress(Progress(f"train {self.name}", step * self.step_tokens, total, "tokens", facts))
                    since, clock = [], time.perf_counter()
                stop = self._stop_asked()
                if stop or step in self.saves:
                    self._save()
                if last:
                    break
                if stop:
                    raise Stopped(stop, f"train {self.name}: stopped at step {step} of {self.steps}, and saved")
        self.accelerator.end_training()

    def _step(self, tokens: np.ndarray, rewards: np.ndarray, documents: "_Documents") -> dict[str, float]:
        """Take one optimiser step on (B, T + 1) tokens and rewards; give what it measured."""
        device = self.accelerator.device
        step = self.position.step
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.steps, self.options)
        totals: dict[str, torch.Tensor] = {}
        size = self.options.micro_batch or len(tokens)
        pieces = range(0, len(tokens), size)
        for piece in pieces:
            rows = slice(piece, piece + size)
            share = len(tokens[rows]) / len(tokens)
            waiting = self.accelerator.no_sync(self.wrapped) if piece != pieces[-1] else contextlib.nullcontext()
            with waiting:
                loss, facts = self.wrapped(torch.from_numpy(tokens[rows]).to(device), torch.from_numpy(rewards[rows]).to(device))
                self.accelerator.backward(loss * share)
            for key, value in {"loss": loss.detach(), **facts}.items():
                totals[key] = totals.get(key, 0.0) + value.float() * share
        norm = self.accelerator.clip_grad_norm_(self.wrapped.parameters(), self.options.clip)
        means = self.accelerator.reduce(totals, reduction="mean") | {"grad_norm": norm}
        numbers = {key: float(value) for key, value in means.items()}
        if not (math.isfinite(numbers["loss"]) and math.isfinite(numbers["grad_norm"])):
            raise InputError(
                f"{self.out}: at step {step + 1} the loss is {numbers['loss']} and its gradient's norm {numbers['grad_norm']}, "
                f"on {documents}. The last saved state is kept. Lower train.lr or train.clip, or look at these documents"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.position = Position(step + 1, *documents.next)
        return numbers

    def _batches(self) -> Iterator[tuple[np.ndarray, np.ndarray, "_Documents"]]:
        """Give this process's rows of each batch, from where training is, epoch after epoch."""
        epoch, block = self.position.epoch, self.position.block
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        view = self._view(epoch)
        while True:
            read, spans, missing = [], [], self.options.batch
            while missing:
                if block == len(view):
                    epoch, block = epoch + 1, 0
                    view = self._view(epoch)
                stop = min(len(view), block + missing)
                read.append(view.read(block, stop))
                spans.append((view, block, stop))
                missing -= stop - block
                block = stop
            tokens, rewards = (np.concatenate(arrays)[rank::world] for arrays in zip(*read, strict=True))
            yield tokens, rewards, _Documents(self.store, spans, (epoch, block))

    def _view(self, epoch: int) -> View:
        view = self.store.view(self.objective, self.options.context, self.options.seed, epoch, self.control_ids)
        if not len(view):
            raise InputError(
                f"{self.store.path}: under {self.name} an epoch has {view.tokens} tokens, less than one block of "
                f"{self.options.context} + 1; lower train.context or annotate more documents"
            )
        return view

    def _line(self, since: list[dict[str, float]], seconds: float) -> dict[str, Any]:
        """Give one line of metrics: means over the steps since the last one."""
        step = self.position.step
        return {
            "step": step,
            "tokens": step * self.step_tokens,
            "lr": learning_rate(step - 1, self.steps, self.options),
            **{key: sum(numbers.get(key, math.nan) for numbers in since) / len(since) for key in since[-1]},
            "tokens_per_second": len(since) * self.step_tokens / seconds,
        }

    def _save(self) -> None:
        """Save the state first, then the checkpoint: whatever of the two a killed process left, it can go on."""
        if self.accelerator.is_main_process:
            save_state(self.out, self.learner, self.optimizer, self.position)
            if self.position.step in self.checkpoints:
                self._checkpoint()
        self.accelerator.wait_for_everyone()

    def _checkpoint(self) -> None:
        step = self.position.step
        path = self.out / "checkpoints" / f"step-{step}"
        if not path.exists() and self.accelerator.is_main_process:
            about = {**self.about, "step": step, "tokens": step * self.step_tokens}
            save_checkpoint(path, self.learner, self.tokenizer, about)

    def _optimizer(self) -> torch.optim.Optimizer:
        """Make AdamW; only matrices decay, as usual."""
        decays: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
        for parameter in self.learner.parameters():
            decays[parameter.dim() >= 2].append(parameter)
        groups = [
            {"params": decays[True], "weight_decay": self.options.weight_decay},
            {"params": decays[False], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.options.lr, betas=self.options.betas, fused=True)

    def _crosses(self, every: int | None, step: int) -> bool:
        """Tell whether a multiple of so many tokens is reached in a step."""
        return every is not None and step * self.step_tokens // every > (step - 1) * self.step_tokens // every

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM ask for a stop after the step; a second one works as usual."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        usual: dict[int, Any] = {}

        def ask(number: int, _: Any) -> None:
            self.signal = number
            signal.signal(number, usual[number])

        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            if signal.getsignal(number) is not signal.SIG_IGN:
                usual[number] = signal.signal(number, ask)
        try:
            yield
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)

    def _stop_asked(self) -> int:
        """Give the signal that any process got, 0 for none: all stop at the same step."""
        asked = self.signal or 0
        if self.accelerator.num_processes > 1:
            asked = int(self.accelerator.gather(torch.tensor([asked], device=self.accelerator.device)).max())
        return asked


@dataclass(frozen=True)
class _Documents:
    """The documents of a batch, named when somebody asks; and where the next batch begins."""

    store: TokenStore
    spans: list[tuple[View, int, int]]
    next: tuple[int, int]

    def __str__(self) -> str:
        numbers = np.concatenate([view.documents(start, stop) for view, start, stop in self.spans])
        shown = ", ".join(f"part {part} row {row}" for part, row in self.store.documents(numbers[:5]))
        more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
        return f"the documents at {shown}{more} of the annotated corpus"


class _Metrics:
    """metrics.jsonl, cut back to the step that training goes on from."""

    def __init__(self, path: Path, step: int) -> None:
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                if json.loads(line)["step"] > step:
                    break
            except json.JSONDecodeError:  # the torn end of a killed process
                break
            kept.append(line)
        self._seconds: float = json.loads(kept[-1])["seconds"] if kept else 0.0
        with outputs.whole_file(path) as temporary:
            temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self._path = path

    def write(self, line: dict[str, Any], seconds: float) -> None:
        """Append a line, with the seconds spent in training so far."""
        self._seconds += seconds
        finite = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in line.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite | {"seconds": round(self._seconds, 3)}) + "\n")


def _bf16(precision: str) -> bool:
    """Tell whether to multiply in bf16: when asked to, or left the choice on a device that does it natively."""
    if precision == "auto":
        return torch.cuda.is_bf16_supported() if torch.cuda.is_available() else torch.cpu._is_avx512_bf16_supported()
    return precision == "bf16"


def _identity(store: TokenStore) -> dict[str, Any]:
    """Say which corpus and tokens a run is of."""
    return {**store.meta["made_from"], **store.meta["counts"]}


def _claim(out: Path, wanted: dict[str, Any]) -> None:
    """Write the run's config.yaml, or check that the folder is this very run's."""
    path = out / "config.yaml"
    wanted = json.loads(json.dumps(wanted))
    if path.exists():
        outputs.check_unchanged(out, config.read_yaml(path), wanted)
        return
    with outputs.whole_file(path) as temporary:
        temporary.write_text(config.to_yaml(wanted), encoding="utf-8")
