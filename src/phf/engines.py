"""Engines: the parts of a corpus over the cores of this machine, or over a Ray cluster. Each part comes out the same."""

import json
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Collection, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from itertools import count, islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pyarrow as pa

from phf import config, corpora
from phf.errors import InputError, require
from phf.keeper import Keeper
from phf.outputs import whole_file
from phf.scoring import Part

_LOOK_EVERY = 0.2  # seconds between two reports
_MOST = 100_000  # parts: their names are sorted as texts


def part_name(index: int) -> str:
    """Name the file of a part."""
    return f"part-{index:05d}.parquet"


def waiting_parts(
    corpus: config.Corpus, size: int, done: Collection[int], read: Callable[[int, float], None] = lambda rows, share: None
) -> Iterator[tuple[int, list[corpora.Row]]]:
    """Give the parts that are not done, with their numbers.

    Args:
        corpus: which documents.
        size: rows in a part.
        done: numbers of the parts that are there.
        read: told, part by part, how many rows are read, and what share of the corpus that is; 0 while that is unknown.
    """
    share = 0.0

    def reached(now: float) -> None:
        nonlocal share
        share = now

    rows = corpora.rows(corpus, reached)
    total = 0
    for index in count():
        part = list(islice(rows, size))
        total += len(part)
        if len(part) < size:
            share = 1.0
        read(total, share)
        if not part:
            return
        if index == _MOST:
            raise InputError(f"the corpus has more than {_MOST:,} parts of {size:,} documents; make annotate.part larger")
        if index not in done:
            yield index, part


def local(
    corpus: config.Corpus,
    options: config.Annotate,
    out: Path,
    done: Collection[int],
    read: Callable[[int, float], None],
    scored: Callable[[int, int], None],
    look: Callable[[], None],
) -> Generator[tuple[int, Part], None, None]:
    """Score the waiting parts with processes on this machine, each with a keeper in a thread of its own.

    Args:
        corpus: which documents.
        options: how they are cut and scored, and by how many processes.
        out: the folder to write parts to.
        done: numbers of the parts that are there.
        read: as in `waiting_parts`.
        scored: called, by any thread, with a part's number and how many documents of it are through.
        look: called now and then, by the caller's thread.

    Yields:
        Each part's number and what was done, as soon as it is written.

    Raises:
        InputError: for a corpus or a scorer that cannot be used.
    """
    environments = _environments(options)
    workers = len(environments)
    memory = options.memory or _memory_each(workers)
    keepers = [Keeper(options, memory, environment) for environment in environments]
    idle: SimpleQueue[Keeper] = SimpleQueue()
    for keeper in keepers:
        idle.put(keeper)

    def score(index: int, rows: list[corpora.Row]) -> Part:
        keeper = idle.get()
        try:
            return keeper.part(out / part_name(index), rows, lambda documents: scored(index, documents))
        finally:
            idle.put(keeper)

    waiting = waiting_parts(corpus, options.part, done, read)
    pending: dict[Future[Part], int] = {}
    with ThreadPoolExecutor(workers) as threads:
        try:
            following = next(waiting, None)
            while pending or following:
                # One part more than there are workers is read ahead, so that none waits for the corpus.
                while following and len(pending) <= workers:
                    pending[threads.submit(score, *following)] = following[0]
                    following = next(waiting, None)
                finished, _ = wait(pending, timeout=_LOOK_EVERY, return_when=FIRST_COMPLETED)
                for future in sorted(finished, key=pending.__getitem__):
                    part = future.result()
                    yield pending.pop(future), part
                look()
        finally:
            for future in pending:
                future.cancel()
            for keeper in keepers:
                keeper.close()


def part_from_json(line: str | bytes) -> Part:
    """Read what was done of a part, as JSON holds it."""
    fields = json.loads(line)
    fields.pop("part", None)
    pairs = {name: [(each, value) for each, value in fields[name]] for name in ("failures", "slowest")}
    return Part(**{**fields, **pairs})


def _devices(options: config.Annotate) -> set[str]:
    """Name the devices that scorers ask for with a field `device`, but the CPU."""
    scorers = [config.build("scorers", each) for each in (options.scorer, *options.also.values())]
    return {str(getattr(scorer, "device", "cpu")) for scorer in scorers} - {"cpu"}


def _environments(options: config.Annotate) -> list[dict[str, str]]:
    """Give each worker its environment: with GPUs, one worker a GPU that sees no other; without, one a core."""
    devices = _devices(options)
    visible = _gpus() if devices else []
    if visible and not devices <= {"auto", "cuda"}:
        each: list[dict[str, str]] = [{}]  # one GPU is asked for by its number: all are to be seen, and one worker uses it
    else:
        each = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in visible] or [{}] * _cores()
    return [each[worker % len(each)] for worker in range(options.workers or len(each))]


def _gpus() -> list[str]:
    import torch

    names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    visible = torch.cuda.device_count()
    return names[:visible] if names != [""] else [str(index) for index in range(visible)]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_each(workers: int) -> float:
    """GiB a worker may hold: its share of 80% of the memory of the machine or container, and 2 at least."""
    limits = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(float(Path(path).read_text()))
        except (OSError, ValueError):
            continue
    return max(2.0, 0.8 * min(limits) / 2**30 / workers)


# over a cluster --------------------------------------------------------------------------------------------------

_ROWS = pa.schema(
    [
        ("part", pa.int64()),
        ("ids", pa.list_(pa.string())),
        ("texts", pa.list_(pa.large_string())),
        ("faults", pa.list_(pa.string())),
        ("error", pa.string()),
    ]
)
_DONE = pa.schema([("part", pa.int64()), ("file", pa.large_binary()), ("summary", pa.string()), ("error", pa.string())])


def on_ray(
    corpus: config.Corpus, options: config.Annotate, out: Path, done: Collection[int]
) -> Generator[tuple[int, Part], None, None]:
    """Score the waiting parts with Ray Data: one task reads the corpus, actors score, and this process writes.

    Each actor keeps a scoring process, as the threads of `local` do. The corpus has to be readable where Ray runs the
    reading task; `out` need be on this machine alone.

    Yields:
        Each part's number and what was done, as soon as it is written.

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
        context.target_max_block_size = 1  # each part a block of its own: blocks are what is spread over actors
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if _devices(options) else 0
        here = str(Path.cwd()), list(sys.path)
        parts = (
            data.from_items([0])  # what reads the corpus is a task, which has to be given something
            .map_batches(_read, fn_args=(corpus, options.part, set(done), *here), batch_size=None, num_cpus=0)
            .map_batches(
                _Actor,
                fn_constructor_args=(options, *here),
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
    """Knock before Ray does: it waits for many minutes at a door that nobody opens."""
    host, _, port = (address or "").rpartition("//")[2].rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise InputError(f"annotate.address={address}: no Ray cluster there: {error}") from None


def _read(_: Any, corpus: config.Corpus, size: int, done: set[int], folder: str, path: list[str]) -> Iterator[pa.Table]:
    """Read the waiting parts, one row a part; what is wrong with the corpus is a row too."""
    _work_as(folder, path)
    try:
        for index, rows in waiting_parts(corpus, size, done):
            columns = [[row.id for row in rows], [row.text for row in rows], [row.fault for row in rows]]
            yield pa.Table.from_pylist([dict(zip(_ROWS.names, [index, *columns, ""], strict=True))], _ROWS)
    except InputError as error:
        yield pa.Table.from_pylist([{"part": -1, "error": str(error)}], _ROWS)


class _Actor:
    """Scores parts in a process that it keeps; the model is loaded once."""

    def __init__(self, options: config.Annotate, folder: str, path: list[str]) -> None:
        _work_as(folder, path)
        self._keeper = Keeper(options, options.memory or _memory_each(_cores()))

    def __call__(self, table: pa.Table) -> pa.Table:
        done = [self._row(row) for row in table.to_pylist()]
        return pa.Table.from_pylist(done, _DONE)

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["error"]:
            return {"part": row["part"], "error": row["error"]}
        rows = [corpora.Row(*each) for each in zip(row["ids"], row["texts"], row["faults"], strict=True)]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / part_name(row["part"])
            try:
                part = self._keeper.part(path, rows)
            except InputError as error:
                return {"part": row["part"], "error": str(error)}
            return {"part": row["part"], "file": path.read_bytes(), "summary": json.dumps(asdict(part)), "error": ""}


def _work_as(folder: str, path: list[str]) -> None:
    """Find files and modules as the process does that was started, where they are there."""
    if Path(folder).is_dir():
        os.chdir(folder)
    sys.path.extend(each for each in path if each not in sys.path)
