"""What training costs: the head against full logits, objectives against MLE, the view against tokenising while training.

python benchmarks/train.py [--json] [head] [objectives] [view]
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

V, D, ROWS = 50_257, 768, 8 * 1023
OBJECTIVES = {
    "MLE": {},
    "Filtering": {"threshold": -0.5},
    "Conditional": {"threshold": -0.5},
    "Unlikelihood": {"threshold": -0.5},
    "RWR": {"beta": 1.0},
    "AWR": {"alpha": 0.5, "beta": 1.0},
}


def head() -> list[dict]:
    """Loss and head, forward and backward, each way in a process of its own: time, and peak memory above the inputs'."""
    ways = {way: [_measure_head(way) for _ in range(3)] for way in ("full", "fused")}
    seconds = {way: min(run["seconds"] for run in runs) for way, runs in ways.items()}
    memory = {way: min(run["bytes"] for run in runs) for way, runs in ways.items()}
    against = f"logits and log-softmax materialised ({seconds['full']:.2f} s, {memory['full'] / 1e9:.2f} GB)"
    return [
        {
            "measure": "head: time",
            "value": seconds["fused"] / seconds["full"],
            "unit": "x",
            "against": against,
            "reach": "<= 0.6",
        },
        {
            "measure": "head: peak memory",
            "value": memory["fused"] / memory["full"],
            "unit": "x",
            "against": against,
            "reach": "<= 1/12",
        },
        {"measure": "head: fused time", "value": seconds["fused"], "unit": "s", "against": "itself"},
        {"measure": "head: fused memory", "value": memory["fused"] / 1e9, "unit": "GB", "against": "itself"},
    ]


def _measure_head(way: str) -> dict:
    done = subprocess.run([sys.executable, __file__, "--head", way], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _head_once(way: str) -> dict:
    from phf.head import linear_token_loss
    from phf.objectives import MLE

    torch.manual_seed(0)
    hidden = torch.randn(ROWS, D, requires_grad=True)
    weight = (0.02 * torch.randn(V, D)).requires_grad_()
    targets = torch.randint(V, (ROWS,))
    first = torch.randn(256, 256, requires_grad=True)  # what a first product allocates is not the head's
    (first @ first).sum().backward()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    if way == "fused":
        loss = linear_token_loss(hidden, weight, targets, MLE().token_loss, torch.zeros(ROWS))
    else:
        logprob = (hidden @ weight.T).log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)
        loss = MLE().token_loss(logprob, torch.zeros(ROWS)).mean()
    loss.backward()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "bytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024}


def objectives() -> list[dict]:
    """A training step of a small model under each objective, interleaved, the median of the ratios to MLE's in the same round."""
    import phf.objectives
    from phf.learner import Learner
    from phf.models import build_model

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


def view() -> list[dict]:
    """Blocks of a token store under each objective, against tokenising the same documents in the training process."""
    import phf.objectives
    from phf import config
    from phf.documents import Document, write_part
    from phf.outputs import write_json
    from phf.shards import TokenStore
    from phf.tokenize import tokenize
    from phf.tokenizer import encode, load_tokenizer

    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("etaoinshrdlu"), random.integers(2, 9))) for _ in range(3000)]
    documents = [
        Document(str(i), [" ".join(random.choice(words, 14)) + ". " for _ in range(24)], -random.random(24).astype(np.float32))
        for i in range(8000)
    ]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_part(folder / "annotated/part-00000.parquet", documents)
        write_json(
            folder / "annotated/manifest.json",
            {"finished": True, "segments": 8000 * 24, "made_from": {"annotate": {"segmenter": {"name": "sentences"}}}},
        )
        tokenize(folder / "annotated", folder / "tokens", config.Tokenize(vocab_size=2000, held_out=0.0))
        store = TokenStore.open(folder / "tokens")
        tokenizer = load_tokenizer(folder / "tokens/tokenizer")
        started, count = time.perf_counter(), 0
        for document in documents[:400]:
            count += 1 + sum(map(len, encode(tokenizer, list(document.segments))))
        plain = count / (time.perf_counter() - started)
        for name, fields in OBJECTIVES.items():
            objective = getattr(phf.objectives, name)(**fields)
            best = 0.0
            for epoch in range(5):
                started = time.perf_counter()
                seen = store.view(objective, 1024, 0, epoch, [2000, 2001][: len(objective.control_tokens)])
                for start in range(0, len(seen), 64):
                    seen.read(start, min(len(seen), start + 64))
                best = max(best, seen.tokens / (time.perf_counter() - started))
            against = f"tokenising while training, one document at a time ({plain:,.0f} tokens/s)"
            rows.append({"measure": f"view: {name}", "value": best, "unit": "tokens/s", "against": against, "reach": ">= 20M"})
            rows.append(
                {"measure": f"view: {name}, ratio", "value": best / plain, "unit": "x", "against": against, "reach": ">= 50"}
            )
    return rows


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--head"]:
        print(json.dumps(_head_once(arguments[1])))
        return
    chosen = [name for name in ("head", "objectives", "view") if name in arguments] or ["head", "objectives", "view"]
    for name in chosen:
        for row in globals()[name]():
            row = {"benchmark": "train"} | row
            print(
                json.dumps(row)
                if "--json" in arguments
                else f"{row['measure']:28} {row['value']:14.4g} {row['unit']:20} {row['against']}"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
