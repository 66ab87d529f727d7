"""A small job from corpus to page, stage by stage, and a digest of what each stage leaves."""

import hashlib
import json
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from phf.layout import RunFolder, WorkFolder

WORDS = "the reader opens a file and writes to people who like mail or films with good plots in it again".split()  # noqa: SIM905
RECIPE = """
annotate: {scorer: {name: pii, detectors: default}, segmenter: sentences, part: 40, workers: 1}
tokenize: {vocab_size: 400, held_out: 0.1}
train: {model: gpt2-tiny, tokens: 16384, context: 64, batch: 8, lr: 1e-3, checkpoints: 2, save_every: 4096, precision: fp32}
runs:
  conditional: {name: conditional, threshold: 0}
evaluate:
  evaluations:
    no-prompt: {name: samples, n: 16, min_tokens: 4, max_tokens: 24}
    heldout: {name: heldout, threshold: 0}
    diversity: {name: diversity, of: no-prompt}
"""
STAGES = ("annotate", "tokenize", "train", "evaluate", "report")


class Job:
    """The commands of a small job in a folder.

    Args:
        folder: to work in; the corpus and the recipe are written there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = WorkFolder(folder)
        self.run = RunFolder(self.work.run("conditional"))

    def write_inputs(self) -> None:
        """Write a corpus of 200 documents, a fifth of their sentences with an address, and the recipe."""
        rng = random.Random(0)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.work.recipe.write_text(RECIPE)
        with (self.folder / "corpus.jsonl").open("w") as file:
            for number in range(200):
                sentences = []
                for _ in range(rng.randint(1, 6)):
                    words = " ".join(rng.choices(WORDS, k=rng.randint(4, 12)))
                    sentences.append(words + (f" at {rng.choice(WORDS)}{number}@example.com." if rng.random() < 0.2 else "."))
                file.write(json.dumps({"id": f"d{number}", "text": " ".join(sentences)}) + "\n")

    def command(self, stage: str) -> list[str | Path]:
        """Return the arguments of a stage's command."""
        recipe: list[str | Path] = ["--recipe", self.work.recipe, "--quiet"]
        annotated, tokens, run = self.work.annotated, self.work.tokens, self.run.path
        return {
            "annotate": ["annotate", self.folder / "corpus.jsonl", "--out", annotated, *recipe],
            "tokenize": ["tokenize", annotated, "--out", tokens, *recipe],
            "train": ["train", tokens, "--only", "conditional", "--out", run, *recipe],
            "evaluate": ["evaluate", run, "--annotated", annotated, *recipe],
            "report": ["report", run, "--out", self.work.report, *recipe],
        }[stage]

    def outputs(self) -> Iterator[Path]:
        """Yield every file that the stages wrote."""
        for folder in (self.work.annotated, self.work.tokens, self.work.runs, self.work.report):
            yield from sorted(path for path in folder.rglob("*") if path.is_file())

    def remove(self, stages: Sequence[str]) -> None:
        """Delete what some stages wrote."""
        folders = {
            "annotate": [self.work.annotated],
            "tokenize": [self.work.tokens],
            "train": [self.work.runs],
            "evaluate": [self.run.samples, self.run.per_example_of("heldout", 0).parent, self.run.records, self.run.evaluations],
            "report": [self.work.report],
        }
        for path in (path for stage in stages for path in folders[stage]):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def digest(self) -> dict[str, str]:
        """Return a digest of each result: rewards, tokens, weights, samples, and records without their stamps."""
        digests = {}
        for path in self.outputs():
            name = str(path.relative_to(self.folder))
            if path.name == "records.jsonl":
                rows = [json.loads(line) for line in path.read_text().splitlines()]
                content = json.dumps([{key: row[key] for key in row if key != "stamp"} for row in rows]).encode()
            elif path.suffix in (".parquet", ".bin", ".npy", ".safetensors") and "state-" not in name and "indexes" not in name:
                content = path.read_bytes()
            else:
                continue
            digests[name] = hashlib.blake2b(content, digest_size=8).hexdigest()
        return digests
