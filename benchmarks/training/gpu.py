"""One GPU: GPT-2 small in bf16, against Hugging Face's Trainer in fp16 and a compiled loop in the manner of nanoGPT.

Without a GPU there is nothing to time; `python -m training.gpu WAY STORE OUT tiny` only shows that each way runs.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from training.data import random_store

FULL = {"model": {"n_layer": 12, "n_embd": 768, "n_head": 12}, "context": 1024, "batch": 64, "micro_batch": 16, "steps": 24}
TINY = {"model": {"n_layer": 1, "n_embd": 32, "n_head": 2}, "context": 16, "batch": 4, "micro_batch": 2, "steps": 6}
WARM = 4  # first steps, not counted: compiling


def gpu() -> list[dict]:
    """Tokens a second of each way, in a process of its own, one after the other, twice."""
    import torch

    if not torch.cuda.is_available():
        print("gpu: left out, PyTorch finds no GPU", file=sys.stderr)
        return []
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        store = random_store(Path(name) / "tokens", 4_000_000)
        for repeat in range(2):
            for way in WAYS:
                command = [sys.executable, "-m", "training.gpu", way, str(store), str(Path(name) / f"{way}-{repeat}")]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parents[1])
                best[way] = max(best.get(way, 0.0), json.loads(done.stdout.splitlines()[-1]))
    device, fastest = torch.cuda.get_device_name(), max(best["phf"], best["phf-triton"])
    rows = [
        {"measure": f"gpu: {way}", "value": best[way], "unit": "tokens/s", "against": f"itself, GPT-2 small, {device}"}
        for way in WAYS
    ]
    against = {"trainer": ("transformers.Trainer, fp16", ">= 2.5"), "compiled": ("a compiled loop with full logits", ">= 1.0")}
    rows += [
        {
            "measure": f"gpu: against {way}",
            "value": fastest / best[way],
            "unit": "x",
            "against": f"{what}, {device}",
            "reach": reach,
        }
        for way, (what, reach) in against.items()
    ]
    return rows


def _phf(kernel: str, store: Path, out: Path, size: dict) -> float:
    import torch

    from phf import config
    from phf.train import train

    on_gpu = torch.cuda.is_available()
    budget = {"tokens": size["steps"] * size["batch"] * size["context"], "log_every": 1, "precision": "bf16", "compile": on_gpu}
    shape = {key: size[key] for key in ("context", "batch", "micro_batch")}
    options = config.Train(model={"preset": "gpt2-small", **size["model"]}, kernel=kernel, **shape, **budget)
    train(store, out, "run", config.Component(name="mle"), options)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return statistics.median(line["tokens_per_second"] for line in lines[WARM:])


def _trainer(store: Path, out: Path, size: dict) -> float:
    """As the research code trained: Trainer, fp16 (float32 without a GPU), eager attention, GPT-2's own dropout."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

    on_gpu = torch.cuda.is_available()
    rows = [{"input_ids": torch.from_numpy(row[:-1]), "labels": torch.from_numpy(row[:-1])} for row in _blocks(store, size)]
    moments = []

    class Clock(TrainerCallback):
        def on_step_end(self, *arguments, **others):
            if on_gpu:
                torch.cuda.synchronize()
            moments.append(time.perf_counter())

    pieces = size["batch"] // size["micro_batch"]
    options = TrainingArguments(
        output_dir=str(out), per_device_train_batch_size=size["micro_batch"], gradient_accumulation_steps=pieces,
        max_steps=size["steps"], fp16=on_gpu, use_cpu=not on_gpu, report_to="none", save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    settings = GPT2Config(attn_implementation="eager", use_cache=False, **size["model"])
    Trainer(GPT2LMHeadModel(settings), options, train_dataset=rows, callbacks=[Clock()]).train()
    return size["batch"] * size["context"] / statistics.median(np.diff(moments)[WARM:])


def _compiled(store: Path, out: Path, size: dict) -> float:
    """A plain loop: the whole model with its logits and cross-entropy compiled, bf16, SDPA, fused AdamW."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False, **size["model"])
    model = GPT2LMHeadModel(settings).to(device)

    def loss_of(tokens: torch.Tensor) -> torch.Tensor:
        logits = model(tokens[:, :-1]).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())

    step_loss = torch.compile(loss_of) if device == "cuda" else loss_of
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.1, fused=True)
    blocks = torch.from_numpy(_blocks(store, size)).split(size["micro_batch"])
    pieces, moments = size["batch"] // size["micro_batch"], []
    for number, rows in enumerate(blocks, 1):
        with torch.autocast(device, torch.bfloat16):
            loss = step_loss(rows.to(device)) / pieces
        loss.backward()
        if number % pieces == 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            loss.item()
            moments.append(time.perf_counter())
    return size["batch"] * size["context"] / statistics.median(np.diff(moments)[WARM:])


def _blocks(store: Path, size: dict) -> np.ndarray:
    from phf.objectives import MLE
    from phf.tokens.store import TokenStore

    blocks, _ = TokenStore.open(store).view(MLE(), size["context"], 0).read(0, size["steps"] * size["batch"])
    return blocks


WAYS = {
    "phf": lambda *given: _phf("torch", *given),
    "phf-triton": lambda *given: _phf("triton", *given),
    "trainer": _trainer,
    "compiled": _compiled,
}

if __name__ == "__main__":
    way, tokens, folder, *rest = sys.argv[1:]
    print(json.dumps(WAYS[way](Path(tokens), Path(folder), TINY if rest == ["tiny"] else FULL)))
