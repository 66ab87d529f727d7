"""The training loop of one process: batches in; steps, metrics, states and checkpoints out."""

import contextlib
import dataclasses
import logging
import math
import time
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from phf.errors import InputError, Stopped
from phf.formatting import percent
from phf.learner import Learner
from phf.objectives import MLE
from phf.progress import Listener, Progress, silent
from phf.tokens import TokenStore, View, load_tokenizer, matching_tokenizer
from phf.trackers import Trackers, open_trackers
from phf.train import distributed
from phf.train.checkpoint import LoopState, load_state, save_checkpoint, save_state
from phf.train.data_loader import Batch, DataLoader, Position
from phf.train.metrics import MetricsWriter, RunningMeans, flops_per_token, peak_flops
from phf.train.model import add_control_tokens, build_model
from phf.train.optimizer import make_optimizer
from phf.train.run import TrainRun
from phf.train.store_check import StoreCheck

log = logging.getLogger("phf")


class Trainer:
    """One process of a training run: `setup`, then `train`.

    Args:
        run: what is trained.
        accelerator: of the processes that train it.
        on_progress: called after every line of metrics.
    """

    def __init__(self, run: TrainRun, accelerator: Accelerator, on_progress: Listener = silent) -> None:
        self.run, self.accelerator = run, accelerator
        self.options, self.schedule = run.options, run.schedule
        self.main = accelerator.is_main_process
        self.on_progress = on_progress if self.main else silent
        self.checkpoints, self.saves = run.schedule.checkpoints(), run.schedule.saves()
        self.validations = run.schedule.validations()
        self.loop = LoopState()

    @property
    def position(self) -> Position:
        """Where training is."""
        return self.loop.position

    def setup(self) -> int:
        """Build model, optimizer and data loader, and load the newest state if there is one. Nothing is written.

        Returns:
            The step that training resumes from, 0 for a new run.

        Raises:
            InputError: for a model, corpus or state that cannot be used.
        """
        options, run = self.options, self.run
        self.learner = self._build_learner()
        self.batches = DataLoader(run.store, run.phases, options.batch, options.context, options.seed, self.control_ids)
        self.held_out = self._held_out() if self.validations else None
        self.flops_per_token = flops_per_token(self.learner.model, options.context)
        torch.manual_seed(options.seed + self.accelerator.process_index)  # dropout, where a model has any
        self.wrapped, self.optimizer = distributed.wrap_model(
            self.learner, lambda: make_optimizer(self.learner, options), self.accelerator, options.shard
        )
        if run.init:
            self.loop.position = run.init.position(self.batches)
        state = load_state(run.folder, self.learner, self.optimizer.optimizer, self.accelerator.process_index)
        self.loop = state or self.loop
        return self.position.step

    def train(self) -> None:
        """Train to the last step of the schedule.

        Raises:
            InputError: for a loss that is not finite, a state or checkpoint that cannot be written, or a token store that was
                found damaged; nothing is saved then.
            Stopped: after a signal.
        """
        if self.position.step in self.checkpoints:  # a process killed between saving the state and the checkpoint
            self._save_checkpoint()
        if self.position.step >= self.schedule.steps:
            return
        writer = MetricsWriter(self.run.folder.metrics, self.position.step) if self.main else None
        store_check = StoreCheck(self.run.store)
        self.wrapped.train()
        if self.main:
            store_check.start()
        loop, self.started = self.loop, time.perf_counter()
        with (
            contextlib.closing(store_check),
            contextlib.closing(self._open_trackers()) as self.trackers,
            distributed.Signals(self.accelerator) as signals,
        ):
            for batch in self.batches.after(self.position):
                facts = self._step(batch)
                step = self.position.step
                if spike := self.main and loop.spikes.update(facts["loss"]):
                    log.warning("%s: the loss of step %d is %s; it read %s", self.run.name, step, spike, batch.documents())
                loop.means.add(facts)
                last = step == self.schedule.steps
                if step % self.options.log_every == 0 or last or step == 1 or step in self.validations:
                    self._log(writer)
                signal = signals.received()
                if signal or step in self.saves:
                    self._stop_if_damaged(store_check, wait=last)
                    self._save(writer)
                if last:
                    break
                if signal:
                    raise Stopped(signal, f"train {self.run.name}: stopped at step {step} of {self.schedule.steps}, and saved")

    def _open_trackers(self) -> Trackers:
        """Open the run's trackers, in one process alone."""
        names = self.options.trackers if self.main else []
        return open_trackers(self.run.folder, self.run.name, names, self.run.project, self.position.step)

    def _step(self, batch: Batch) -> dict[str, float]:
        """Take one optimiser step; return what it measured, means over the whole batch."""
        accelerator, step = self.accelerator, self.position.step
        self.learner.objective = batch.objective
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate(step)
        tokens, rewards = self._own_rows(batch.tokens), self._own_rows(batch.rewards)
        totals: dict[str, torch.Tensor] = {}
        size = self.options.micro_batch or len(tokens)
        starts = range(0, len(tokens), size)
        for start in starts:
            rows = slice(start, start + size)
            share = len(tokens[rows]) / len(tokens)
            with accelerator.no_sync(self.wrapped) if start != starts[-1] else contextlib.nullcontext():
                with accelerator.autocast():
                    loss, facts = self.wrapped(tokens[rows], rewards[rows])
                accelerator.backward(loss * share)
            for key, value in {"loss": loss.detach(), **facts}.items():
                totals[key] = totals.get(key, 0.0) + value.float() * share
        norm = accelerator.clip_grad_norm_(self.wrapped.parameters(), self.options.clip)
        totals["grad_norm"] = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        numbers = {key: float(value) for key, value in accelerator.reduce(totals, reduction="mean").items()}
        if not (math.isfinite(numbers["loss"]) and math.isfinite(numbers["grad_norm"])):
            raise InputError(
                f"{self.run.folder.path}: at step {step + 1} the loss is {numbers['loss']} and its gradient's norm "
                f"{numbers['grad_norm']}, on documents {batch.documents()}. The last saved state is kept. Lower train.lr or "
                "train.clip, or look at these documents"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.loop.position = batch.after
        return numbers

    @torch.no_grad()
    def _validate(self, view: View) -> dict[str, float]:
        """Return the mean negative log-probability of held-out tokens, with control tokens where the run's objective has them."""
        accelerator = self.accelerator
        blocks = min(len(view), max(1, self.options.held_out_tokens // self.options.context))
        world = accelerator.num_processes
        blocks = max(world, blocks - blocks % world)
        size = world * (self.options.micro_batch or self.options.batch // world)
        total = torch.zeros((), device=accelerator.device)
        self.wrapped.eval()
        for start in range(0, blocks, size):
            tokens, rewards = map(self._own_rows, view.read(start, min(blocks, start + size)))
            with accelerator.autocast():
                total += self.wrapped(tokens, rewards).facts["nll"].float() * len(tokens)
        self.wrapped.train()
        return {"held_out_nll": float(accelerator.reduce(total, reduction="sum")) / blocks}

    def _own_rows(self, rows: np.ndarray) -> torch.Tensor:
        """Return this process's rows of a batch on its device."""
        accelerator = self.accelerator
        return torch.from_numpy(rows[accelerator.process_index :: accelerator.num_processes]).to(accelerator.device)

    def _log(self, writer: MetricsWriter | None) -> None:
        """Write a line of metrics: means over the steps since the last one."""
        step, means = self.position.step, self.loop.means
        seconds = means.seconds + time.perf_counter() - self.started
        speed = means.steps * self.schedule.step_tokens / seconds
        line: dict[str, Any] = {"step": step, "tokens": self.schedule.tokens(step), "lr": self.schedule.learning_rate(step - 1)}
        line |= means.means() | {"tokens_per_second": speed} | self._utilisation(speed)
        if self.held_out is not None and step in self.validations:
            line |= self._validate(self.held_out)
        if writer:
            writer.write(line, seconds)
        self.trackers.log({f"train/{key}": value for key, value in line.items() if key != "step"}, step)
        shown = {"loss": line["loss"], "tokens/s": speed} | ({"MFU": percent(line["mfu"])} if "mfu" in line else {})
        whole = self.schedule.tokens(self.schedule.steps)
        self.on_progress(Progress(f"train {self.run.name}", self.schedule.tokens(step), whole, "tokens", shown))
        self.loop.means, self.started = RunningMeans(), time.perf_counter()

    def _utilisation(self, speed: float) -> dict[str, float]:
        """Return the model FLOPs utilisation at so many tokens per second, where the device's peak is known."""
        if self.accelerator.device.type != "cuda" or self.accelerator.mixed_precision != "bf16":
            return {}
        peak = peak_flops(torch.cuda.get_device_name(self.accelerator.device))
        return {"mfu": speed * self.flops_per_token / (peak * self.accelerator.num_processes)} if peak else {}

    def _stop_if_damaged(self, store_check: StoreCheck, wait: bool) -> None:
        """Raise InputError in every process if the one that checks the token store found it damaged; see `StoreCheck.problem`."""
        problems: list[str] = gather_object([store_check.problem(wait) if self.main else ""])
        if any(problems):
            raise InputError(f"{''.join(problems)}. Nothing was saved since; once it is mended, training resumes where it stood")

    def _save(self, writer: MetricsWriter | None) -> None:
        """Save the state first, then the checkpoint: whichever of the two a killed process left, training can resume."""
        means = self.loop.means
        seconds = means.seconds + time.perf_counter() - self.started if means.steps else 0.0
        state = dataclasses.replace(self.loop, means=dataclasses.replace(means, seconds=seconds))
        save_state(self.run.folder, self.learner, self.optimizer.optimizer, state, self.main)
        if writer:
            writer.record()
        if self.position.step in self.checkpoints:
            self._save_checkpoint()
        self.accelerator.wait_for_everyone()

    def _save_checkpoint(self) -> None:
        path = self.run.folder.checkpoint(self.position.step)
        if not path.exists():
            notes = self.run.notes(self.position, self.batches.phase(self.position.step - 1).objective)
            save_checkpoint(path, self.learner, self.tokenizer, notes, self.main)

    def _build_learner(self) -> Learner:
        """Build the model, with its control tokens, under the objective."""
        options, meta, init = self.options, self.run.store.meta, self.run.init
        spec = f"from:{init.checkpoint}" if init else options.model
        model = build_model(
            spec, meta["vocab_size"], options.context, meta["document_start"], options.seed, options.attention,
            options.trust_remote_code,
        )  # fmt: skip
        self.tokenizer = load_tokenizer(self.run.store.path / "tokenizer")
        if isinstance(spec, str) and spec.startswith("from:"):
            self.tokenizer = matching_tokenizer(spec.removeprefix("from:"), self.tokenizer)
        self.control_ids = add_control_tokens(model, self.tokenizer, self.run.objective.control_tokens, options.seed)
        if options.activation_checkpointing:
            # Its name until transformers 5.22, and since.
            enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
            try:
                enable({"use_reentrant": False})
            except ValueError as error:
                raise InputError(f"train.activation_checkpointing: {error}; set it to false") from None
        learner = Learner(model, self.run.objective, options.kernel)
        if options.compile:
            learner.backbone.compile()
        return learner

    def _held_out(self) -> View:
        """Return the view of the held-out documents, all of them whatever the objective."""
        objective = self.run.objective if self.run.objective.control_tokens else MLE()
        store = TokenStore.open(self.run.store.path, held_out=True)
        view = dataclasses.replace(self.batches, store=store).view(objective, 0)
        blocks, processes = len(view), self.accelerator.num_processes
        if blocks < processes:
            raise InputError(
                f"{store.path}: {blocks} blocks of held-out tokens for {processes} processes; raise tokenize.held_out"
            )
        return view
