"""What data costs a training process at 1, 3.3 and 10 billion tokens: memory, time to the first batch, tokens/s gathered.

    python benchmarks/train.py [--json] memory

The token file is sparse; where segments and documents begin, and rewards, are real. Every number is of a process of its own. The
files are in the page cache: they were just written.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

SIZES = {"1 billion": 1_000_000_000, "3.3 billion": 3_300_000_000, "10 billion": 10_000_000_000}
OBJECTIVES = {"MLE": {}, "Filtering": {"threshold": "p50"}, "Conditional": {"threshold": -0.5}, "AWR": {}}
BATCHES, BATCH, CONTEXT = 200, 64, 1024
_CHUNK = 2**22


def sparse_store(folder: Path, count: int) -> Path:
    """Write a store of about so many tokens in segments of 25 on average and documents of mixed length."""
    from phf import checksums
    from phf.artifacts import write_json
    from phf.tokens import DOCUMENT, SEGMENT

    random = np.random.default_rng(0)
    segments_total = count // 25
    tokens = segments = documents = 0
    with _npy(folder / "segments-00000.npy", SEGMENT, segments_total) as file:
        while segments < segments_total:
            size = min(_CHUNK, segments_total - segments)
            lengths = random.integers(1, 50, size)
            chunk = np.empty(size, SEGMENT)
            chunk["start"] = tokens + np.cumsum(lengths) - lengths
            chunk["reward"] = np.where(random.random(size) < 0.02, np.nan, -random.random(size))
            chunk.tofile(file)
            tokens, segments = tokens + int(lengths.sum()), segments + size
    sizes = np.maximum(1, np.exp(random.normal(3, 1.2, segments_total // 20)).astype(np.int64))
    first = np.cumsum(sizes) - sizes
    first = first[first < segments_total]
    documents = len(first)
    rows = np.zeros(documents, DOCUMENT)
    rows["segment"] = first
    np.save(folder / "documents-00000.npy", rows)
    with (folder / "tokens-00000.bin").open("wb") as file:
        file.truncate(2 * tokens)
    sizes = [{"tokens": tokens, "segments": segments_total, "documents": documents}]
    for name in ("segments", "documents"):  # which are checked when a pass reads them
        checksums.record(folder / f"{name}-00000.npy")
    meta = {"made_from": {}, "counts": sizes[0], "shards": sizes, "held_out": [], "annotated": ".", "vocab_size": 50_257}
    write_json(folder / "meta.json", meta | {"finished": True, "dtype": "uint16", "document_start": 0})
    return folder


def _npy(path: Path, dtype: np.dtype, count: int):
    file = path.open("wb")
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_2_0(file, header)
    return file


def child(folder: str, name: str) -> None:
    """Measure one start of one objective, and print it as JSON."""
    import phf.objectives
    import phf.train.trainer
    from phf.tokens import TokenStore
    from phf.train.data_loader import DataLoader, Phase, Position

    base = anonymous_memory()
    with Peak() as peak:
        started = time.perf_counter()
        store = TokenStore.open(Path(folder))
        objective, _ = store.resolve(getattr(phf.objectives, name)(**OBJECTIVES[name]))
        ids = [50_000, 50_001][: len(objective.control_tokens)]
        loader = DataLoader(store, [Phase(1, objective)], BATCH, CONTEXT, 0, ids)
        batch = next(loader.after(Position()))
        first = time.perf_counter() - started
        blocks = len(loader.view(objective, 0))
        for block in np.linspace(0, blocks - BATCH, BATCHES).astype(int).tolist():
            batch = next(loader.after(Position(0, 0, block)))
        view = loader.view(objective, 0)
        seconds = []
        for _ in range(60):
            begun = time.perf_counter()
            view.gather(batch.sources[0][1])
            seconds.append(time.perf_counter() - begun)
        streamed = []
        for place in range(1, 8):
            batches = loader.after(Position(0, 0, len(view) * place // 8))
            next(batches)
            begun = time.perf_counter()
            for _ in range(50):
                next(batches)
            streamed.append(time.perf_counter() - begun)
    gathered, streamed = BATCH * CONTEXT / float(np.median(seconds)), 50 * BATCH * CONTEXT / float(np.median(streamed))
    print(json.dumps({"first": first, "memory": (peak.value - base) / 2**30, "gathered": gathered, "loaded": streamed}))


def anonymous_memory() -> int:
    """Return the bytes of anonymous memory of this process: what no file backs."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


class Peak:
    """The peak of anonymous memory while the block runs, looked at every 5 ms."""

    def __enter__(self) -> "Peak":
        self.value, self._stop = anonymous_memory(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.value = max(self.value, anonymous_memory())


def memory() -> Iterator[dict]:
    """Yield the peak of anonymous memory over 200 batches of an epoch, seconds to the first batch, tokens gathered a second."""
    peaks = {}
    for size, count in SIZES.items():
        with tempfile.TemporaryDirectory() as name:
            folder = sparse_store(Path(name), count)
            for objective in OBJECTIVES:
                for start in ("first start", "second start"):
                    values = _measured(folder, objective)
                    print(f"{size}, {objective}, {start}: {values}", file=sys.stderr, flush=True)
                    peaks[size, objective, start] = values["memory"]
                    smaller = peaks.get(("3.3 billion", objective, start)) if size == "10 billion" else None
                    yield from _rows(size, objective, start, values, smaller)
    for objective in OBJECTIVES:
        one, other = (peaks[size, objective, "first start"] for size in ("3.3 billion", "10 billion"))
        value = other + (other - one) / 6.7 * 90
        against = "extrapolated from 3.3 and 10 billion tokens, in a straight line; not run"
        yield {"measure": f"memory: 100 billion tokens, {objective}", "value": value, "unit": "GiB", "against": against}


def _measured(folder: Path, objective: str) -> dict[str, float]:
    """Return what `child` prints of one start, in a process of its own."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r}); from training import memory; "
    command = [sys.executable, "-c", f"{code}memory.child({str(folder)!r}, {objective!r})"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _rows(size: str, objective: str, start: str, values: dict[str, float], smaller: float | None) -> Iterator[dict]:
    """Yield the rows of one start; `smaller` is the peak at 3.3 billion tokens, where that is compared with."""
    what = f"{size} tokens, {objective}, {start}"
    grown = "" if smaller is None else f" ({values['memory'] - smaller:+.3f} GiB against 3.3 billion)"
    peak = {"measure": f"memory: {what}", "value": values["memory"], "unit": "GiB", "against": f"the process before{grown}"}
    reach = {"3.3 billion": "<= 0.3", "10 billion": "<= 0.1 more than 3.3 billion"}.get(size)
    yield peak | ({"reach": reach} if reach else {})
    limit = {"first start": "<= 15", "second start": "<= 2"}[start]
    seconds = {"measure": f"first batch: {what}", "value": values["first"], "unit": "s", "against": "itself"}
    yield seconds | ({"reach": limit} if size == "3.3 billion" else {})
    if start == "second start":
        for key, spelled in (("gathered", "the same batch again"), ("loaded", "batches of the data loader")):
            yield {"measure": f"gathered, {spelled}: {what}", "value": values[key], "unit": "tokens/s", "reach": ">= 50M"} | {
                "against": "itself; median of 60 times" if key == "gathered" else "itself; 50 batches, median of 7 places"
            }
