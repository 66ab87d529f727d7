"""Prompts of samples: from a file, from standard input, or the beginnings of held-out documents."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from phf.documents import Document
from phf.errors import InputError


def read_prompts(path: Path) -> list[str]:
    """Read prompts from a file: JSON Lines with the prompt under "text", or plain text with one a line.

    Raises:
        InputError: for a file that is missing, is not UTF-8, or holds no prompt; or a line that is not such JSON, by its number.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file of prompts; expected 'held-out', a .jsonl or a .txt file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start}); expected a file of prompts") from None
    return prompts_in(text, str(path), path.suffix in (".jsonl", ".json"))


def prompts_in(text: str, where: str, json_lines: bool | None = None) -> list[str]:
    """Return the prompts in a file's text.

    Args:
        text: one prompt a line; empty lines are passed over.
        where: the file's name, for errors.
        json_lines: whether lines are JSON; if None, whether the first one begins as such.

    Raises:
        InputError: as `read_prompts`.
    """
    text = text.removeprefix("\ufeff")
    if json_lines is None:
        json_lines = re.match(r'\s*\{\s*"', text) is not None
    prompts = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if not json_lines:
            prompts.append(line.removesuffix("\r"))
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{where}, line {number}: not JSON ({error.msg})") from None
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise InputError(f'{where}, line {number}: found {line[:40]!r}, expected {{"text": "the prompt"}}')
        prompts.append(row["text"])
    if not prompts:
        raise InputError(f"{where}: no prompt in it; expected one a line")
    return prompts


def first_words(documents: Sequence[Document], words: int, threshold: float, name: str) -> list[str]:
    """Return the first words of each document that goes on after them and is aligned as far as they reach.

    Raises:
        InputError: if there is no such document.
    """
    pattern = re.compile(rf"\s*(?:\S+\s+){{{words - 1}}}\S+(?=\s+\S)")
    prompts = []
    for document in documents:
        match = pattern.match(document.text)
        if match is None or document.rewards is None:
            continue
        ends = np.cumsum([len(segment) for segment in document.segments])
        reached = int(np.searchsorted(ends, match.end())) + 1
        if (np.asarray(document.rewards)[:reached] >= threshold).all():
            prompts.append(match[0])
    if not prompts:
        raise InputError(
            f"{name}.prompts: none of {len(documents)} held-out documents has more than {words} words and is aligned at its "
            "beginning; lower `words`, or raise tokenize.held_out"
        )
    return prompts
