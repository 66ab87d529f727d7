"""What this machine offers a process: its cores, its GPUs, its memory, and how many files it may have open."""

import os
from pathlib import Path

_OTHER_FILES = 256  # that a process opens beside those asked for
_CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, each as CUDA_VISIBLE_DEVICES names it."""
    import torch

    names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    visible = torch.cuda.device_count()
    return names[:visible] if names != [""] else [str(index) for index in range(visible)]


def total_memory() -> int:
    """Return the bytes of memory of this machine, or of the container that the process runs in."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _CONTAINER_LIMITS:
        try:
            limits.append(int(Path(path).read_text()))
        except (OSError, ValueError):  # no such limit
            continue
    return min(limits)


def resident_memory(pid: int) -> int:
    """Return the bytes of memory that a process holds; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def allow_open_files(count: int) -> int:
    """Let this process open so many more files, as far as the system permits.

    Returns:
        How many more it may open now; `count` where the system does not tell.
    """
    try:
        import resource

        opened = len(os.listdir("/dev/fd"))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    except (ImportError, OSError):
        return count
    wanted = opened + count + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return count if soft == resource.RLIM_INFINITY else soft - opened
