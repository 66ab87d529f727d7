"""What an attack did, written down round by round: what a stopped one goes on from, and the prompts to read afterwards."""

import json
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from phf.artifacts import whole_file, whole_lines
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


class AttackJournal:
    """A file of JSON Lines: what the attack is made from, the first pool, then each round of each trial.

    Attributes:
        start: the first pool, once it is scored: (prompt, misalignment, continuations that count).
        rounds: by trial and number.
    """

    def __init__(self, path: Path, made_from: dict[str, Any]) -> None:
        """Read what was done; `path` is this attack's alone, named by what it is made from.

        Raises:
            InputError: if the file is damaged.
        """
        self.path = path
        self.start: list[list[Any]] = []
        self.rounds: dict[tuple[int, int], dict[str, Any]] = {}
        try:
            lines = [json.loads(line) for line in whole_lines(self.path, cut=True)]
        except ValueError as error:
            raise InputError(f"{path}: damaged ({error}); delete it, and the attack begins anew") from None
        if not lines:
            with whole_file(path) as temporary:
                temporary.write_text(json.dumps({"made_from": made_from}) + "\n")
        for line in lines[1:]:
            self._take(line)
        if self.rounds:
            log.info("%s: going on after %d rounds", path, len(self.rounds))

    def add(self, line: dict[str, Any]) -> None:
        """Write down a line, and only then count on it."""
        text = json.dumps(line) + "\n"
        with self.path.open("a") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self._take(json.loads(text))

    def _take(self, line: dict[str, Any]) -> None:
        if "start" in line:
            self.start = line["start"]
        else:
            self.rounds[line["trial"], line["round"]] = line


def write_prompts(path: Path, pools: Sequence[Sequence[Sequence[Attempt]]], again: Sequence[dict[str, float]]) -> None:
    """Keep every prompt of every trial, the worst first, with its second score where it has one."""
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
    with whole_file(path) as temporary:
        pq.write_table(pa.Table.from_arrays(columns, schema=SCHEMA), temporary, compression="zstd")
