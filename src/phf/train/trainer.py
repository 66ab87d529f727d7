"""The training loop of one process: batches in; steps, metrics, states and checkpoints out."""

import contextlib
import dataclasses
import logging
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from phf import __version__
from phf.errors import InputError, Stopped
from phf.layout import RunFolder
from phf.learner import Learner
from phf.objectives import MLE, Objective
from phf.progress import Listener, Progress, silent
from phf.tokens.store import TokenStore, View
from phf.tokens.tokenizer import load_tokenizer, matching_tokenizer
from phf.train import distributed
from phf.train.checkpoint import load_state, save_checkpoint, save_state
from phf.train.data_loader import Batch, DataLoader, Phase, Position
from phf.train.init_from import InitCheckpoint
from phf.train.metrics import Logbook, Spikes, flops_per_token, mean_of, peak
from phf.train.model import add_control_tokens, build_model
from phf.train.schedule import TrainSchedule

log = logging.getLogger("phf")


class Trainer:
    """One process of a training run: batches in; steps, metrics, states and checkpoints out."""

    def __init__(
        self,
        out: Path,
        name: str,
        component: dict[str, Any],
        objective: Objective,
        phases: list[Phase],
        budget: TrainSchedule,
        store: TokenStore,
        accelerator: Accelerator,
        progress: Listener,
        ancestor: InitCheckpoint | None,
    ) -> None:
        self.out, self.name, self.component, self.objective = out, name, component, objective
        self.budget, self.options, self.store, self.accelerator = budget, budget.options, store, accelerator
        self.main = accelerator.is_main_process
        self.progress = progress if self.main else silent
        self.checkpoints, self.saves, self.looks = budget.checkpoints(), budget.saves(), budget.looks()
        self.learner = self._learner(ancestor)
        self.batches = DataLoader(store, phases, self.options.batch, self.options.context, self.options.seed, self.control_ids)
        self.held_out = self._held_out()
        self.operations = flops_per_token(self.learner.model, self.options.context)
        torch.manual_seed(self.options.seed + accelerator.process_index)  # dropout, where a model has any
        self.wrapped, self.optimizer = distributed.wrap_model(self.learner, self._optimizer, accelerator, self.options.shard)
        found = load_state(out, self.learner, self.optimizer.optimizer, accelerator.process_index)
        self.position = found or (ancestor.position(self.batches) if ancestor else Position())
        if self.position.step in self.checkpoints:  # a process killed between the two
            self._checkpoint()

    def run(self) -> None:
        """Train to the end of the budget.

        Raises:
            Stopped: after a signal.
        """
        logbook = Logbook(RunFolder(self.out).metrics, self.position.step) if self.main else None
        if self.options.trackers:
            self.accelerator.init_trackers(self.name)
        self.wrapped.train()
        spikes, since = Spikes(), []
        clock = time.perf_counter()
        with distributed.Signals(self.accelerator) as signals:
            for batch in self.batches.after(self.position):
                facts = self._step(batch)
                step = self.position.step
                if spike := self.main and spikes.see(facts["loss"]):
                    log.warning("%s: the loss of step %d is %s; it read %s", self.name, step, spike, batch.documents())
                since.append(facts)
                last = step == self.budget.steps
                if step % self.options.log_every == 0 or last or step == 1 or step in self.looks:
                    seconds = time.perf_counter() - clock
                    line = self._line(since, seconds) | (self._validate() if step in self.looks else {})
                    if logbook:
                        logbook.write(line, seconds)
                    self.accelerator.log({key: value for key, value in line.items() if key != "step"}, step=step)
                    shown = {"loss": line["loss"], "tokens/s": line["tokens_per_second"]}
                    shown |= {"MFU": f"{line['mfu']:.0%}"} if "mfu" in line else {}
                    whole = self.budget.tokens(self.budget.steps)
                    self.progress(Progress(f"train {self.name}", self.budget.tokens(step), whole, "tokens", shown))
                    since, clock = [], time.perf_counter()
                stop = signals.asked()
                if stop or step in self.saves:
                    self._save()
                if last:
                    break
                if stop:
                    raise Stopped(stop, f"train {self.name}: stopped at step {step} of {self.budget.steps}, and saved")
        self.accelerator.end_training()

    def _step(self, batch: Batch) -> dict[str, float]:
        """Take one optimiser step; give what it measured, means over the whole batch."""
        accelerator, step = self.accelerator, self.position.step
        self.learner.objective = batch.objective
        for group in self.optimizer.param_groups:
            group["lr"] = self.budget.learning_rate(step)
        tokens, rewards = self._mine(batch.tokens), self._mine(batch.rewards)
        totals: dict[str, torch.Tensor] = {}
        size = self.options.micro_batch or len(tokens)
        pieces = range(0, len(tokens), size)
        for piece in pieces:
            rows = slice(piece, piece + size)
            share = len(tokens[rows]) / len(tokens)
            waiting = accelerator.no_sync(self.wrapped) if piece != pieces[-1] else contextlib.nullcontext()
            with waiting:
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
                f"{self.out}: at step {step + 1} the loss is {numbers['loss']} and its gradient's norm {numbers['grad_norm']}, "
                f"on documents {batch.documents()}. The last saved state is kept. Lower train.lr or train.clip, or look at them"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.position = batch.after
        return numbers

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Give the mean negative log-probability of held-out tokens, with control tokens where the run's objective has them."""
        assert self.held_out is not None
        accelerator, view = self.accelerator, self.held_out
        blocks = min(len(view), max(1, self.options.held_out_tokens // self.options.context))
        world = accelerator.num_processes
        blocks = max(world, blocks - blocks % world)
        size = world * (self.options.micro_batch or self.options.batch // world)
        total = torch.zeros((), device=accelerator.device)
        self.wrapped.eval()
        for start in range(0, blocks, size):
            tokens, rewards = map(self._mine, view.read(start, min(blocks, start + size)))
            with accelerator.autocast():
                total += self.wrapped(tokens, rewards).facts["nll"].float() * len(tokens)
        self.wrapped.train()
        return {"held_out_nll": float(accelerator.reduce(total, reduction="sum")) / blocks}

    def _mine(self, rows: np.ndarray) -> torch.Tensor:
        """Put this process's rows of a batch on its device."""
        accelerator = self.accelerator
        return torch.from_numpy(rows[accelerator.process_index :: accelerator.num_processes]).to(accelerator.device)

    def _line(self, since: list[dict[str, float]], seconds: float) -> dict[str, Any]:
        """Give one line of metrics: means over the steps since the last one."""
        step = self.position.step
        speed = len(since) * self.budget.step_tokens / seconds
        line = {"step": step, "tokens": self.budget.tokens(step), "lr": self.budget.learning_rate(step - 1), **mean_of(since)}
        line["tokens_per_second"] = speed
        if self.accelerator.device.type == "cuda" and self.accelerator.mixed_precision == "bf16":
            one = peak(torch.cuda.get_device_name(self.accelerator.device))
            line |= {"mfu": speed * self.operations / (one * self.accelerator.num_processes)} if one else {}
        return line

    def _save(self) -> None:
        """Save the state first, then the checkpoint: whatever of the two a killed process left, it can go on."""
        save_state(self.out, self.learner, self.optimizer.optimizer, self.position, self.main)
        if self.position.step in self.checkpoints:
            self._checkpoint()
        self.accelerator.wait_for_everyone()

    def _checkpoint(self) -> None:
        step = self.position.step
        path = RunFolder(self.out).checkpoint(step)
        if path.exists():
            return
        last = self.batches.phase(step - 1).objective
        about = {
            "run": self.name,
            "step": step,
            "tokens": self.budget.tokens(step),
            "objective": self.component,
            "control_tokens": list(self.objective.control_tokens),
            "segmenter": self.store.meta["segmenter"],
            # What was to be read next, for a run that goes on from here.
            "data": {
                "objective": self.component if last is self.objective else {"name": "mle"},
                "epoch": self.position.epoch,
                "block": self.position.block,
            },
            "phf": __version__,
        }
        save_checkpoint(path, self.learner, self.tokenizer, about, self.main)

    def _learner(self, ancestor: InitCheckpoint | None) -> Learner:
        """Make the model, with its control tokens, under the objective."""
        options, meta = self.options, self.store.meta
        spec = f"from:{ancestor.checkpoint}" if ancestor else options.model
        model = build_model(spec, meta["vocab_size"], options.context, meta["document_start"], options.seed, options.attention)
        self.tokenizer = load_tokenizer(self.store.path / "tokenizer")
        if isinstance(spec, str) and spec.startswith("from:"):
            self.tokenizer = matching_tokenizer(spec.removeprefix("from:"), self.tokenizer)
        self.control_ids = add_control_tokens(model, self.tokenizer, self.objective.control_tokens, options.seed)
        if options.activation_checkpointing:
            # Its name until transformers 5.22, and since.
            enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
            try:
                enable({"use_reentrant": False})
            except ValueError as error:
                raise InputError(f"train.activation_checkpointing: {error}; set it to false") from None
        learner = Learner(model, self.objective, options.kernel)
        if options.compile:
            learner.backbone.compile()
        return learner

    def _held_out(self) -> View | None:
        """Look at the held-out documents, all of them whatever the objective, if the recipe wants a look at them."""
        if not self.looks:
            return None
        objective = self.objective if self.objective.control_tokens else MLE()
        store = TokenStore.open(self.store.path, held_out=True)
        view = dataclasses.replace(self.batches, store=store).view(objective, 0)
        blocks, processes = len(view), self.accelerator.num_processes
        if blocks < processes:
            raise InputError(
                f"{store.path}: {blocks} blocks of held-out tokens for {processes} processes; raise tokenize.held_out"
            )
        return view

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
