"""Devices, cores and memory that scoring processes may use."""

import os
from pathlib import Path

from phf import config


def scorer_devices(options: config.Annotate) -> set[str]:
    """Name the devices that scorers ask for with a field `device`, but the CPU."""
    scorers = [config.build("scorers", each) for each in (options.scorer, *options.also.values())]
    return {str(getattr(scorer, "device", "cpu")) for scorer in scorers} - {"cpu"}


def worker_environments(options: config.Annotate) -> list[dict[str, str]]:
    """Environment variables of each worker: one worker a GPU, or as many as cores."""
    """Give each worker its environment: with GPUs, one worker a GPU that sees no other; without, one a core."""
    devices = scorer_devices(options)
    visible = _gpus() if devices else []
    if visible and not devices <= {"auto", "cuda"}:
        each: list[dict[str, str]] = [{}]  # one GPU is asked for by its number: all are to be seen, and one worker uses it
    else:
        each = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in visible] or [{}] * usable_cores()
    return [each[worker % len(each)] for worker in range(options.workers or len(each))]


def _gpus() -> list[str]:
    import torch

    names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    visible = torch.cuda.device_count()
    return names[:visible] if names != [""] else [str(index) for index in range(visible)]


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_per_worker(workers: int) -> float:
    """GiB a worker may hold: its share of 80% of the memory of the machine or container, and 2 at least."""
    limits = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(float(Path(path).read_text()))
        except (OSError, ValueError):
            continue
    return max(2.0, 0.8 * min(limits) / 2**30 / workers)
