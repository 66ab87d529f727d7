"""The Ray executor: the parts of a corpus over a Ray cluster."""

import json
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Collection, Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from phf import config, corpora
from phf.annotate.parts import Part, part_from_json, part_name, waiting_parts
from phf.annotate.resources import memory_per_worker, scorer_devices
from phf.annotate.supervisor import WorkerSupervisor
from phf.artifacts import whole_file
from phf.errors import InputError, require
from phf.machine import usable_cores

_ROWS = pa.schema(
    [
        ("part", pa.int64()),
        ("ids", pa.list_(pa.string())),
        ("texts", pa.list_(pa.large_string())),
        ("faults", pa.list_(pa.string())),
        ("lengths", pa.list_(pa.list_(pa.int32()))),
        ("rewards", pa.list_(pa.list_(pa.float64()))),
        ("error", pa.string()),
    ]
)


_COLUMNS = {"id": "ids", "text": "texts", "fault": "faults", "lengths": "lengths", "rewards": "rewards"}
_DONE = pa.schema([("part", pa.int64()), ("file", pa.large_binary()), ("summary", pa.string()), ("error", pa.string())])


def score_on_ray(
    corpus: config.Corpus, options: config.Annotate, out: Path, done: Collection[int]
) -> Generator[tuple[int, Part], None, None]:
    """Score the waiting parts with Ray Data: one task reads the corpus, actors score, and this process writes.

    Each actor supervises a scoring process, as the threads of `score_locally` do. The corpus must be readable where Ray
    runs the reading task; `out` only on this machine.

    Yields:
        Each part's number and summary, as soon as it is written.

    Raises:
        InputError: for a corpus or a scorer that cannot be used, or a cluster that cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = require("ray", "ray", "annotate.engine=ray")
    data = require("ray.data", "ray", "annotate.engine=ray")
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    started = not ray.is_initialized()
    if started:
        _check_address(options.address)
        try:
            ray.init(address=options.address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"annotate.address={options.address}: no Ray cluster there: {error}") from None
    try:
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.target_max_block_size = 1  # a block for each part: blocks are what is spread over actors
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if scorer_devices(options) else 0
        imports = str(Path.cwd()), list(sys.path)
        parts = (
            data.from_items([0])  # the task that reads the corpus needs an input
            .map_batches(_read, fn_args=(corpus, options.part, set(done), *imports), batch_size=None, num_cpus=0)
            .map_batches(
                _Actor,
                fn_constructor_args=(options, *imports),
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=1,
                num_gpus=1 if gpus else 0,
                compute=data.ActorPoolStrategy(size=options.workers or gpus or int(resources.get("CPU", 1))),
            )
        )
        for row in parts.iter_rows():
            if row["error"]:
                raise InputError(row["error"])
            with whole_file(out / part_name(row["part"])) as temporary:
                temporary.write_bytes(row["file"])
            yield row["part"], part_from_json(row["summary"])
    finally:
        if started:
            ray.shutdown()


def _check_address(address: str | None) -> None:
    """Probe the address first; Ray retries for minutes if nothing listens."""
    host, _, port = (address or "").rpartition("//")[2].rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise InputError(f"annotate.address={address}: no Ray cluster there: {error}") from None


def _read(_: Any, corpus: config.Corpus, size: int, done: set[int], folder: str, path: list[str]) -> Iterator[pa.Table]:
    """Read the waiting parts, one row a part; a fault of the corpus is a row too."""
    _adopt(folder, path)
    try:
        for index, rows in waiting_parts(corpus, size, done):
            columns = {plural: [getattr(row, name) for row in rows] for name, plural in _COLUMNS.items()}
            yield pa.Table.from_pylist([{"part": index, **columns, "error": ""}], _ROWS)
    except InputError as error:
        yield pa.Table.from_pylist([{"part": -1, "error": str(error)}], _ROWS)


class _Actor:
    """Scores parts in one process, so that the model is loaded once."""

    def __init__(self, options: config.Annotate, folder: str, path: list[str]) -> None:
        _adopt(folder, path)
        self._supervisor = WorkerSupervisor(options, options.memory or memory_per_worker(usable_cores()))

    def __call__(self, table: pa.Table) -> pa.Table:
        return pa.Table.from_pylist([self._score(row) for row in table.to_pylist()], _DONE)

    def _score(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["error"]:
            return {"part": row["part"], "error": row["error"]}
        columns = zip(*(row[plural] for plural in _COLUMNS.values()), strict=True)
        rows = [corpora.Row(**dict(zip(_COLUMNS, fields, strict=True))) for fields in columns]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / part_name(row["part"])
            try:
                part = self._supervisor.score_part(path, rows)
            except InputError as error:
                return {"part": row["part"], "error": str(error)}
            return {"part": row["part"], "file": path.read_bytes(), "summary": json.dumps(asdict(part)), "error": ""}


def _adopt(folder: str, path: list[str]) -> None:
    """Take on the working folder and the import path of the process that started Ray, where they exist here."""
    if Path(folder).is_dir():
        os.chdir(folder)
    sys.path.extend(entry for entry in path if entry not in sys.path)
