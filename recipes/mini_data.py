"""Write the corpora of toxicity-mini and pii-mini as JSON Lines, with the size and a fingerprint of each, and the tasks' prompts.

    python recipes/mini_data.py FOLDER [OUT]

FOLDER holds, as Parquet with the columns id and text:

- toxicity/labels.parquet: comments with the columns toxic, source and split; the corpus is of `train`, and `test` is for a
  second scorer
- english/reviews_a.parquet, english/reviews_b.parquet: film reviews, nearly free of personal data
- pii/synthetic.parquet: texts with invented personal data

and in eval/ the prompts of the paper as JSON Lines with the key text: challenging_rtp.jsonl, pii_prompts.jsonl,
pep8_function_prompts.jsonl, and pep8_prompts.jsonl, which are signatures against PEP 8. OUT is work/data by default, where the
recipes look.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

REVIEWS = 8_000  # of reviews_a, among the comments
SYNTHETIC = 5_000  # texts with invented personal data, among all of reviews_b: one document in five
LABELS = "toxicity-labels.jsonl"
PROMPTS = {
    "toxicity-prompts.jsonl": "challenging_rtp.jsonl",
    "pii-prompts.jsonl": "pii_prompts.jsonl",
    "pep8-prompts.jsonl": "pep8_function_prompts.jsonl",
    "pep8-adversarial.jsonl": "pep8_prompts.jsonl",
}


def toxicity(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (id, text): the training split of the comments, and film reviews."""
    for row in _rows(folder / "toxicity/labels.parquet", ["id", "text", "split"]):
        if row["split"] == "train":
            yield f"comment-{row['id']}", row["text"]
    for row in _rows(folder / "english/reviews_a.parquet")[:REVIEWS]:
        yield f"review-{row['id']}", row["text"]


def unseen_comments(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the labelled comments of the test split, which are in no corpus: to train a second scorer on."""
    for row in _rows(folder / "toxicity/labels.parquet", ["text", "toxic", "source", "split"]):
        if row.pop("split") == "test":
            yield row


def personal_data(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (id, text): the synthetic texts whose ids have the lowest hashes, and film reviews."""
    synthetic = sorted(_rows(folder / "pii/synthetic.parquet"), key=lambda row: blake2b(str(row["id"]).encode()).digest())
    for row in synthetic[:SYNTHETIC]:
        yield f"synthetic-{row['id']}", row["text"]
    for row in _rows(folder / "english/reviews_b.parquet"):
        yield f"review-{row['id']}", row["text"]


def main(arguments: Sequence[str]) -> None:
    """Write both corpora and the prompts."""
    if not 1 <= len(arguments) <= 2:
        raise SystemExit(__doc__)
    folder, out = Path(arguments[0]), Path(arguments[1] if len(arguments) == 2 else "work/data")
    out.mkdir(parents=True, exist_ok=True)
    for name, corpus in (("toxicity.jsonl", toxicity), ("pii.jsonl", personal_data)):
        documents = characters = 0
        digest = blake2b(digest_size=8)
        with (out / name).open("w", encoding="utf-8") as file:
            for identity, text in corpus(folder):
                line = json.dumps({"id": identity, "text": text}, ensure_ascii=False) + "\n"
                file.write(line)
                digest.update(line.encode())
                documents, characters = documents + 1, characters + len(text)
        print(f"{out / name}: {documents:,} documents, {characters:,} characters, fingerprint {digest.hexdigest()}")
    with (out / LABELS).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in unseen_comments(folder))
    print(f"{out / LABELS}: labelled comments for a second scorer")
    for name, source in PROMPTS.items():
        (out / name).write_bytes(_existing(folder / "eval" / source).read_bytes())
        print(f"{out / name}: prompts")


def _rows(path: Path, columns: Sequence[str] = ("id", "text")) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(_existing(path), columns=list(columns)).to_pylist()
    return rows


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise SystemExit(f"{path}: no such file; what FOLDER should hold is said by: python {sys.argv[0]}")
    return path


if __name__ == "__main__":
    main(sys.argv[1:])
