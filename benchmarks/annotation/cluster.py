"""What passes through the process that annotates over Ray, and its memory, at a corpus and at one ten times as large."""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from annotation import Rows, documentation, row

CHARACTERS = 2_000_000
DRIVER = """
import json, sys
from pathlib import Path
from phf import config
from phf.annotate import annotate
corpus, out, address = sys.argv[1:]
options = {"scorer": {"name": "regex", "patterns": ["bad|worse"]}, "segmenter": "lines", "engine": "ray", "address": address}
annotate(config.Corpus(inputs=[corpus]), config.check(config.Annotate, options, "annotate"), Path(out))
# Not ru_maxrss: a process that was forked has that of its parent at least.
(peak,) = (line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
print(json.dumps(int(peak) * 1024))
"""
"""A driver, in a process of its own for each corpus; it prints the peak of its own memory."""


def cluster(data: Path) -> Rows:
    """Driver memory, and bytes through the driver's sockets and through its whole node, on two nodes that score."""
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 100 * 2**20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": {"worker_niceness": 0}, **small})
    try:
        for _ in range(2):
            made.add_node(num_cpus=1, **small)
        made.wait_for_nodes()
        with tempfile.TemporaryDirectory() as folder:
            yield from of_cluster(Path(folder), made)
    finally:
        made.shutdown()


def of_cluster(folder, made):
    raylet = made.head_node.all_processes["raylet"][0].process.pid
    texts = documentation(CHARACTERS)
    memory, driver, node, size, parts = {}, {}, {}, {}, {}
    for times in (1, 10):
        path, out = folder / f"corpus-{times}.jsonl", folder / f"out-{times}"
        with path.open("w") as file:
            file.writelines(json.dumps({"text": f"{i} {text}"}) + "\n" for i in range(times) for text in texts)
        size[times] = path.stat().st_size
        command = [sys.executable, "-c", DRIVER, str(path), str(out), made.address]
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process,
            Sockets(process.pid, raylet) as sockets,
        ):
            said = process.communicate()[0]
        memory[times] = json.loads(said.splitlines()[-1])
        driver[times], node[times] = sockets.bytes(process.pid), sockets.bytes(process.pid, raylet)
        parts[times] = len(list(out.glob("part-*.parquet")))
    added = driver[10] - driver[1]
    against = f"a corpus of {size[1] / 1e6:.3g} MB in {parts[1]} parts"
    grown = memory[10] / memory[1]
    yield row("ray: driver's peak memory, corpus 10 x", grown, "x", f"{against} ({memory[1] / 2**20:.0f} MiB)", "<= 1.1")
    yield row("ray: driver's peak memory, corpus 10 x", memory[10] / 2**20, "MiB")
    share = added / (size[10] - size[1])
    yield row("ray: bytes through the driver, of those added to the corpus", share, "x", against, "<= 0.05")
    yield row("ray: bytes through the driver, a part", added / (parts[10] - parts[1]) / 1e3, "kB", against)
    for times in (1, 10):
        of = f"a corpus of {size[times] / 1e6:.3g} MB in {parts[times]} parts"
        yield row(f"ray: bytes through the driver, corpus {times} x", driver[times] / 1e6, "MB", of)
        yield row(f"ray: bytes through the driver's node, corpus {times} x", node[times] / 1e6, "MB", of)


class Sockets:
    """Sees the bytes that processes have sent and received over TCP, as the kernel counts them, ten times a second."""

    def __init__(self, *processes):
        self._processes, self._seen = processes, {}

    def __enter__(self):
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def bytes(self, *processes):
        """Return the bytes of these processes, together."""
        return sum(count for (process, _), count in self._seen.items() if process in processes)

    def _watch(self):
        while True:
            for line in subprocess.run(["ss", "-tinpOH"], capture_output=True, text=True, check=True).stdout.splitlines():
                for process in self._processes:
                    if f"pid={process}," in line:
                        ends = tuple(line.split()[3:5])
                        count = sum(map(int, re.findall(r"bytes_(?:sent|received):(\d+)", line)))
                        key = process, ends
                        self._seen[key] = max(count, self._seen.get(key, 0))
            if self._over.wait(0.1):
                return
