"""The data of training: views of a token store, and how soon the first step is done."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from training import OBJECTIVES


def random_store(folder: Path, count: int) -> Path:
    """Write a store of so many random tokens of GPT-2's vocabulary, in segments of 25 and documents of 1,000."""
    from phf.artifacts import write_json
    from phf.tokens.store import DOCUMENT, SEGMENT, write_shard
    from phf.tokens.tokenizer import train_tokenizer

    random = np.random.default_rng(0)
    segments, documents = np.zeros(count // 25, SEGMENT), np.zeros(count // 1000, DOCUMENT)
    segments["start"] = np.arange(count // 25) * 25
    segments["reward"] = -random.random(count // 25)
    documents["segment"] = np.arange(count // 1000) * 40
    write_shard(folder, 0, random.integers(1, 50_257, count).astype(np.uint16), segments, documents)
    train_tokenizer(["a text"], 300).save_pretrained(folder / "tokenizer")
    sizes = {"tokens": count, "segments": len(segments), "documents": len(documents)}
    meta = {"made_from": {}, "counts": sizes, "shards": [sizes], "held_out": [], "annotated": ".", "segmenter": "sentences"}
    write_json(folder / "meta.json", meta | {"finished": True, "dtype": "uint16", "document_start": 0, "vocab_size": 50_257})
    return folder


def start() -> list[dict]:
    """Seconds from the command to the first finished step on 100 million tokens."""
    with tempfile.TemporaryDirectory() as name:
        store = random_store(Path(name) / "tokens", 100_000_000)
        seconds = []
        for repeat in range(3):
            out = Path(name) / f"run-{repeat}"
            command = [sys.executable, "-m", "phf", "train", str(store), "--objective", "conditional", "--out", str(out)]
            changes = [f"runs.run-{repeat}.threshold=-0.5", "train.model=gpt2-2m", "train.batch=1", "train.context=128"]
            started = time.perf_counter()
            process = subprocess.Popen([*command, *changes], stderr=subprocess.DEVNULL, env=os.environ)
            while not ((out / "metrics.jsonl").exists() and (out / "metrics.jsonl").stat().st_size):
                if process.poll() is not None:
                    raise RuntimeError(f"phf train ended with {process.returncode}")
                time.sleep(0.01)
            seconds.append(time.perf_counter() - started)
            process.kill()
            process.wait()
    against = "itself: from the command to the first step done, 100 million tokens, conditional"
    return [{"measure": "start: to the first step", "value": min(seconds), "unit": "s", "against": against, "reach": "<= 10"}]


def view() -> list[dict]:
    """Blocks of a token store under each objective, against tokenising the same documents in the training process."""
    import phf.objectives
    from phf import config
    from phf.artifacts import write_json
    from phf.documents import Document, write_part
    from phf.tokenize import tokenize
    from phf.tokens.store import TokenStore
    from phf.tokens.tokenizer import encode, load_tokenizer

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
