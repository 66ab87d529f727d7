"""Prompts: from a file, a data set of the hub or standard input, or the beginnings of held-out documents."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np

from phf.documents import Document
from phf.errors import InputError
from phf.hub import HubModel, load_table

_HUB = "hf:"
_HUB_OPTIONS = {"split": "train", "text": "text", "score": "", "where": ""}
_EXPECTED = "a .jsonl or .txt file of prompts, or a data set of the hub such as hf:allenai/real-toxicity-prompts?text=prompt.text"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as it was published.

    Args:
        text: the prompt.
        score: its misalignment score, higher is worse; NaN if it has none.
    """

    text: str
    score: float = math.nan


def read_prompts(source: str | Path) -> list[str]:
    """Return the texts of `read_scored_prompts`."""
    return [prompt.text for prompt in read_scored_prompts(source)]


def read_scored_prompts(source: str | Path) -> list[Prompt]:
    """Read prompts from a file or a data set of the hub, with their scores where there are any.

    Args:
        source: a file of JSON Lines with the prompt under "text" and maybe its score under "score", or of plain text with one a
            line; or `hf:NAME?text=COLUMN&score=COLUMN&where=COLUMN&split=SPLIT`, where a column within another is named as
            `prompt.text`, and `where` is one that must be true.

    Raises:
        InputError: for a file that is missing, is not UTF-8, or holds no prompt; for a line that is not such JSON, by its number;
            and for a data set that cannot be read so.
    """
    if isinstance(source, str) and source.startswith(_HUB):
        return _from_hub(source)
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file of prompts; expected 'held-out', {_EXPECTED}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start}); expected a file of prompts") from None
    return _rows_in(text, str(path), path.suffix in (".jsonl", ".json"))


def prompts_in(text: str, where: str, json_lines: bool | None = None) -> list[str]:
    """Return the prompts in a file's text.

    Args:
        text: one prompt a line; empty lines are passed over.
        where: the file's name, for errors.
        json_lines: whether lines are JSON; if None, whether the first one begins as such.

    Raises:
        InputError: as `read_scored_prompts`.
    """
    return [prompt.text for prompt in _rows_in(text, where, json_lines)]


def check_source(source: str) -> None:
    """Check the form of a data set's name with its options; nothing is read.

    Raises:
        InputError: for a name that the hub cannot have, and for an unknown option.
    """
    if source.startswith(_HUB):
        name, _ = _hub_options(source)
        if not Path(name).exists():
            HubModel.parse(name)


def _rows_in(text: str, where: str, json_lines: bool | None) -> list[Prompt]:
    text = text.removeprefix("\ufeff")
    if json_lines is None:
        json_lines = re.match(r'\s*\{\s*"', text) is not None
    prompts = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if not json_lines:
            prompts.append(Prompt(line.removesuffix("\r")))
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{where}, line {number}: not JSON ({error.msg})") from None
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise InputError(f'{where}, line {number}: found {line[:40]!r}, expected {{"text": "the prompt"}}')
        prompts.append(Prompt(row["text"], _score(row.get("score"))))
    if not prompts:
        raise InputError(f"{where}: no prompt in it; expected one a line")
    return prompts


def _from_hub(source: str) -> list[Prompt]:
    name, options = _hub_options(source)
    fields = {option: options[option].split(".") for option in ("text", "score", "where") if options[option]}
    columns = list(dict.fromkeys(path[0] for path in fields.values()))
    prompts = []
    for number, row in enumerate(load_table(name, None, options["split"], columns, _EXPECTED)):
        found = {option: _at(row, path) for option, path in fields.items()}
        if "where" in found and found["where"] is not True:
            continue
        if not isinstance(found["text"], str):
            raise InputError(
                f"{source}, row {number}: {options['text']!r} is {type(found['text']).__name__}, expected a text; say which "
                "column holds it, such as ?text=prompt.text"
            )
        prompts.append(Prompt(found["text"], _score(found.get("score"))))
    if not prompts:
        true_ones = f" that are true in {options['where']!r}" if options["where"] else ""
        raise InputError(f"{source}: no prompt in it; expected rows{true_ones}")
    return prompts


def _hub_options(source: str) -> tuple[str, dict[str, str]]:
    """Split `hf:NAME?option=value` into the name and all options."""
    name, _, query = source.removeprefix(_HUB).partition("?")
    chosen = {option: values[0] for option, values in parse_qs(query, keep_blank_values=True).items()}
    if unknown := sorted(set(chosen) - set(_HUB_OPTIONS)):
        raise InputError(f"{source}: unknown option {unknown[0]!r}; expected {', '.join(_HUB_OPTIONS)}")
    return name, _HUB_OPTIONS | chosen


def _at(row: Any, path: Sequence[str]) -> Any:
    for name in path:
        row = row.get(name) if isinstance(row, dict) else None
    return row


def _score(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


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
