"""Tokenising a corpus with every core, against one process and against datatrove's tokenizer, on the same text in one run."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

_DOCUMENTS, _PARTS = 48_000, 48
_DATATROVE = """
import sys
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer
if __name__ == "__main__":
    source, out, tokenizer, tasks, workers = sys.argv[1:]
    steps = [JsonlReader(source), DocumentTokenizer(out, tokenizer_name_or_path=tokenizer, eos_token="<|endoftext|>")]
    LocalPipelineExecutor(steps, tasks=int(tasks), workers=int(workers), logging_dir=out + "/logs").run()
"""


def tokenize() -> list[dict]:
    """Tokens a second of `phf tokenize`, process start and checks among them."""
    from phf import config
    from phf.machine import usable_cores
    from phf.tokenize import tokenize as run

    cores = usable_cores()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_corpus(folder)
        speeds = {}
        for workers in (1, cores):
            options = config.Tokenize(tokenizer=str(folder / "tokenizer"), held_out=0.0, workers=workers)
            started = time.perf_counter()
            summary = run(folder / "annotated", folder / f"tokens-{workers}", options)
            speeds[workers] = summary.tokens / (time.perf_counter() - started)
        rows = [
            {"measure": f"tokenize: {cores} processes", "value": speeds[cores], "unit": "tokens/s", "against": "itself"},
            {
                "measure": "tokenize: all cores against one process",
                "value": speeds[cores] / speeds[1],
                "unit": "x",
                "against": f"one process, whose tokenizer uses threads too ({speeds[1]:,.0f} tokens/s, {cores} cores)",
            },
        ]
        if other := _datatrove(folder, cores, summary.tokens):
            against = f"datatrove's DocumentTokenizer with {cores} workers on whole documents ({other:,.0f} tokens/s)"
            rows.append(
                {"measure": "tokenize: against datatrove", "value": speeds[cores] / other, "unit": "x", "against": against}
            )
    return rows


def _write_corpus(folder: Path) -> None:
    """Write the same made-up documents as annotated parts and as JSON Lines, and a tokenizer."""
    import json

    from phf.artifacts import write_json
    from phf.documents import Document, write_part
    from phf.tokens import train_tokenizer

    random = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlu"))
    words = np.array(["".join(random.choice(letters, random.integers(2, 9))) for _ in range(3000)])
    (folder / "json").mkdir()
    size = _DOCUMENTS // _PARTS
    for part in range(_PARTS):
        documents = [
            Document(f"{part}-{i}", [" ".join(random.choice(words, 14)) + ". " for _ in range(24)], np.zeros(24, np.float32))
            for i in range(size)
        ]
        write_part(folder / f"annotated/part-{part:05d}.parquet", documents)
        lines = "".join(json.dumps({"id": document.id, "text": document.text}) + "\n" for document in documents)
        (folder / f"json/{part:05d}.jsonl").write_text(lines)
    write_json(folder / "annotated/manifest.json", {"finished": True, "segments": 24 * _DOCUMENTS, "made_from": {}})
    train_tokenizer((document.text for document in documents), 4096).save_pretrained(folder / "tokenizer")


def _datatrove(folder: Path, cores: int, tokens: int) -> float | None:
    """Return the tokens a second of datatrove on the same text; None where it is not installed."""
    (folder / "run.py").write_text(_DATATROVE)
    arguments = [folder / "json", folder / "datatrove", folder / "tokenizer/tokenizer.json", _PARTS, cores]
    command = [sys.executable, str(folder / "run.py"), *map(str, arguments)]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"datatrove did not run: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return tokens / (time.perf_counter() - started)
