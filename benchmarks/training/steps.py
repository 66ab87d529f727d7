"""Training steps: each objective against MLE, and GPT-2 small against Hugging Face's Trainer."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from training import OBJECTIVES
from training.data import random_store

CONTEXT, BATCH, STEPS = 512, 4, 5


def objectives() -> list[dict]:
    """A training step of a small model under each objective, interleaved, the median of the ratios to MLE's in the same round."""
    import torch

    import phf.objectives
    from phf.learner import Learner
    from phf.train.model import build_model

    tokens, rewards = torch.randint(1024, (8, 257)), -torch.rand(8, 257)
    learners = {
        name: Learner(build_model("gpt2-2m", 1024, 256, 0, 0), getattr(phf.objectives, name)(**fields))
        for name, fields in OBJECTIVES.items()
    }
    times: dict[str, list[float]] = {name: [] for name in learners}
    for _ in range(25):
        for name, learner in learners.items():
            started = time.process_time()
            learner(tokens, rewards).loss.backward()
            learner.zero_grad()
            times[name].append(time.process_time() - started)
    mle = np.array(times["MLE"][3:])
    return [
        {
            "measure": f"objective: {name}",
            "value": float(np.median(np.array(times[name][3:]) / mle)) - 1,
            "unit": "of MLE's time more",
            "against": "MLE, same model and batch, processor time",
            "reach": "<= 0.03",
        }
        for name in learners
        if name != "MLE"
    ]


def trainer() -> list[dict]:
    """Tokens a second of GPT-2 small on this CPU, each way in a process of its own, one after the other, twice."""
    with tempfile.TemporaryDirectory() as name:
        store = random_store(Path(name) / "tokens", 200_000)
        ways = {way: [] for way in ("trainer", "phf fp32", "phf auto")}
        for repeat in range(2):
            for way, speeds in ways.items():
                command = [sys.executable, "-m", "training.steps", way, str(store), str(Path(name) / f"{way}-{repeat}")]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parents[1])
                speeds.append(json.loads(done.stdout.splitlines()[-1]))
    best = {way: max(speeds) for way, speeds in ways.items()}
    against = f"transformers.Trainer, eager attention, full logits, float32 ({best['trainer']:.0f} tokens/s)"
    return [
        {
            "measure": "trainer: GPT-2 small, float32",
            "value": best["phf fp32"] / best["trainer"],
            "unit": "x",
            "against": against,
            "reach": ">= 1.3",
        },
        {
            "measure": "trainer: GPT-2 small, precision auto",
            "value": best["phf auto"] / best["trainer"],
            "unit": "x",
            "against": against,
        },
        {"measure": "trainer: phf, float32", "value": best["phf fp32"], "unit": "tokens/s", "against": "itself"},
    ]


def _with_phf(precision: str, store: Path, out: Path) -> float:
    """Train for some steps with `phf train`; give the median speed of all but the first."""
    from phf import config
    from phf.train import train

    budget = {"tokens": STEPS * BATCH * CONTEXT, "context": CONTEXT, "batch": BATCH, "log_every": 1}
    train(store, out, "run", config.Component(name="mle"), config.Train(model="gpt2-small", precision=precision, **budget))
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return statistics.median(line["tokens_per_second"] for line in lines[1:])


def _with_trainer(store: Path, out: Path) -> float:
    """The same model, batch and optimiser with Trainer: GPT-2's own configuration, without dropout as in phf."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

    from phf.objectives import MLE
    from phf.tokens.store import TokenStore

    blocks, _ = TokenStore.open(store).view(MLE(), CONTEXT, 0).read(0, STEPS * BATCH)
    rows = [{"input_ids": torch.from_numpy(row[:-1]), "labels": torch.from_numpy(row[:-1])} for row in blocks]
    settings = GPT2Config(attn_implementation="eager", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False)
    moments = []

    class Clock(TrainerCallback):
        def on_step_end(self, *arguments, **others):
            moments.append(time.perf_counter())

    options = TrainingArguments(
        output_dir=str(out), per_device_train_batch_size=BATCH, max_steps=STEPS, use_cpu=True, report_to="none",
        save_strategy="no", learning_rate=5e-4, weight_decay=0.1, disable_tqdm=True,
    )  # fmt: skip
    Trainer(GPT2LMHeadModel(settings), options, train_dataset=rows, callbacks=[Clock()]).train()
    return BATCH * CONTEXT / statistics.median(np.diff(moments))


if __name__ == "__main__":
    way, tokens, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    print(json.dumps(_with_trainer(tokens, folder) if way == "trainer" else _with_phf(way.split()[1], tokens, folder)))
