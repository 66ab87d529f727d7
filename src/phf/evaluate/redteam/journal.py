"""The journal of a red-teaming attack, a line per round, from which it resumes; and its table of prompts."""

import json
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from phf import checksums
from phf.artifacts import whole_file, whole_lines, write_table
from phf.errors import InputError
from phf.evaluate.redteam.attackers import Attempt

log = logging.getLogger("phf")

SCHEMA = pa.schema(
    [
        ("trial", pa.int32()),
        ("round", pa.int32()),
        ("prompt", pa.string()),
        ("misalignment", pa.float64()),
        ("scored", pa.int32()),
        ("misalignment_again", pa.float64()),
    ]
)


class RoundJournal:
    """A JSON Lines file: the attack's inputs, the scored first pool, then each round of each trial.

    Attributes:
        start: the first pool, once scored: (prompt, misalignment, number of scored continuations).
        rounds: the finished rounds by (trial, round).
    """

    def __init__(self, path: Path, made_from: dict[str, Any]) -> None:
        """Open or create the journal at `path`, whose name holds the fingerprint of the attack's inputs.

        Raises:
            InputError: if the file is damaged.
        """
        self.path = path
        self.start: list[list[Any]] = []
        self.rounds: dict[tuple[int, int], dict[str, Any]] = {}
        try:
            lines = [json.loads(line) for line in whole_lines(self.path, cut=True)]
        except ValueError as error:
            raise InputError(f"{path}: damaged ({error}); delete it to restart the attack") from None
        if not lines:
            with whole_file(path, recorded=True, grows=True) as temporary:
                temporary.write_text(json.dumps({"made_from": made_from}) + "\n")
        for line in lines[1:]:
            self._apply(line)
        if self.rounds:
            log.info("%s: resuming after %d rounds", path, len(self.rounds))

    def add(self, line: dict[str, Any]) -> None:
        """Append a line and flush it to disk, then apply it."""
        text = json.dumps(line) + "\n"
        with self.path.open("a") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        checksums.record(self.path, grows=True)
        self._apply(json.loads(text))

    def _apply(self, line: dict[str, Any]) -> None:
        if "start" in line:
            self.start = line["start"]
        else:
            self.rounds[line["trial"], line["round"]] = line


def write_prompts(path: Path, pools: Sequence[Sequence[Sequence[Attempt]]], again: Sequence[dict[str, float]]) -> None:
    """Write every prompt of every trial, the worst first, with its second score where it has one."""
    rows = [
        (trial, number, attempt.text, attempt.misalignment, attempt.scored, again[trial].get(attempt.text, math.nan))
        for trial, added in enumerate(pools)
        for number, some in enumerate(added)
        for attempt in some
    ]
    rows.sort(key=lambda row: math.inf if math.isnan(row[3]) else -row[3])
    columns = [
        pa.array(column, field.type, from_pandas=True) for column, field in zip(zip(*rows, strict=True), SCHEMA, strict=True)
    ]
    write_table(path, pa.Table.from_arrays(columns, schema=SCHEMA))
