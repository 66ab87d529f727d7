"""Mutated recipes and corpora: read, or refused in words."""

import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from attacks.forked import Outcome, call

Attempt = tuple[str, Outcome, str]
"""What was tried, how it ended, and why that is a failure ("" if it held)."""

_VALUES = [
    "null",
    "[]",
    "{}",
    "-1",
    "0",
    "1e400",
    ".nan",
    "''",
    "yes",
    "'\\ud800'",
    "!!int abc",
    "!!bool maybe",
    "[" * 900,
    "&a [*a]",
    "2026-11-26",
]


def recipes(seed: int, folder: Path, count: int = 300) -> Iterator[Attempt]:
    """Read recipes mutated from those of the repository."""
    from phf.config import read_recipe

    rng = random.Random(seed)
    originals = sorted(Path("recipes").rglob("*.yaml"))
    read_recipe(Path("recipes/pii-demo.yaml"))  # imports what the forked processes need, once
    for number in range(count):
        source = rng.choice(originals)
        text = source.read_text()
        for _ in range(rng.randint(1, 3)):
            text = _mutated_yaml(text, rng)
        path = folder / "recipe.yaml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        for shared in originals:
            if not (folder / shared.name).exists() and shared.name != "recipe.yaml":
                shutil.copy(shared, folder / shared.name)
        outcome = call(lambda path=path: _refused_in_words(lambda: read_recipe(path)), 60)
        yield f"recipe {number} from {source.name}", outcome, "" if outcome.is_clean else _why(outcome)


def corpora(seed: int, folder: Path, count: int = 300) -> Iterator[Attempt]:
    """Read corpora mutated from small ones of each format."""
    from phf import config
    from phf.corpora import rows

    rng = random.Random(seed)
    originals = _formats(folder / "originals")
    for number in range(count):
        source = rng.choice(originals)
        content = bytearray(source.read_bytes())
        for _ in range(rng.randint(1, 4)):
            _mutate_bytes(content, rng)
        path = folder / f"corpus{''.join(source.suffixes)}"
        path.write_bytes(content)
        corpus = config.Corpus(inputs=[str(path)])
        outcome = call(lambda corpus=corpus: _refused_in_words(lambda: list(rows(corpus, lambda share: None))), 60)
        path.unlink()
        yield f"corpus {number} from {source.name}", outcome, "" if outcome.is_clean else _why(outcome)


def _refused_in_words(function) -> None:
    """Exit 2 for an InputError, as the command does."""
    from phf.errors import InputError

    try:
        function()
    except InputError as error:
        print(f"error: {error}")
        raise SystemExit(2) from None


def _why(outcome: Outcome) -> str:
    return f"status {outcome.status}: {outcome.output.strip().splitlines()[-1] if outcome.output.strip() else 'no output'}"


def _mutated_yaml(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    place = rng.randrange(len(lines))
    match rng.randrange(7):
        case 0:
            del lines[place]
        case 1:
            lines.insert(place, lines[rng.randrange(len(lines))])
        case 2:
            lines[place] = re.sub(r":\s.*", lambda _: f": {rng.choice(_VALUES)}", lines[place])
        case 3:
            lines[place] = " " * rng.randint(1, 3) + lines[place]
        case 4:
            lines[place] = re.sub(r"[\w.-]+", lambda match: match[0][::-1], lines[place], count=1)
        case 5:
            cut = rng.randrange(len(text))
            return text[:cut] + rng.choice("{}[]:,&*!|>'\"%@`\t\x00") + text[cut:]
        case 6:
            lines[place] = f"? {{a: {place}}}\n: 1\n"
    return "".join(lines) or "\n"


def _mutate_bytes(content: bytearray, rng: random.Random) -> None:
    if not content:
        return
    place = rng.randrange(len(content))
    match rng.randrange(5):
        case 0:
            content[place] ^= 1 << rng.randrange(8)
        case 1:
            del content[place:]
        case 2:
            content[place : place + 16] = bytes(16)
        case 3:
            content[place:place] = rng.choice(
                [b"\xff\xfe", b"\xef\xbb\xbf", b"\x00", b"\r", b'{"text": 1}\n', b"[", b"\xed\xa0\x80"]
            )
        case 4:
            stop = min(len(content), place + rng.randint(1, 40))
            content[place:place] = content[place:stop]


def _formats(folder: Path) -> list[Path]:
    """Write the same few documents in each format that a corpus may have."""
    import bz2
    import gzip
    import json
    import lzma

    import pyarrow as pa
    import pyarrow.parquet as pq
    import zstandard

    folder.mkdir(parents=True, exist_ok=True)
    documents = [
        {"id": f"d{number}", "text": f"Document {number} has an é, an emoji \U0001f600 and a line.\nAnd more.\n" * 3}
        for number in range(30)
    ]
    lines = "".join(json.dumps(document) + "\n" for document in documents).encode()
    contents = {
        "a.jsonl": lines,
        "a.jsonl.gz": gzip.compress(lines),
        "a.jsonl.bz2": bz2.compress(lines),
        "a.jsonl.xz": lzma.compress(lines),
        "a.jsonl.zst": zstandard.compress(lines),
        "a.txt": documents[0]["text"].encode(),
        "a.py": b"def f():\n    return 1\n" * 20,
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    pq.write_table(pa.Table.from_pylist(documents), folder / "a.parquet")
    published = [{"texts": [document["text"], "Another."], "scores": [0.5, 0.0]} for document in documents]
    pq.write_table(pa.Table.from_pylist(published), folder / "published.parquet")
    return sorted(folder.iterdir())
