"""What this machine offers a process: its cores, its GPUs, its memory, and how many files it may have open."""

import os
from collections.abc import Iterator
from pathlib import Path

_OTHER_FILES = 256  # that a process opens beside those asked for
_CGROUPS, _OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


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
    """Return the bytes of memory of this machine, or of the smallest control group that the process is in."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _memory_cgroups("memory.max", "memory.limit_in_bytes"):
        try:
            limits.append(int(path.read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such limit
            continue
    return min(limits)


def memory_limit() -> int | None:
    """Return the bytes that this process may ask the system for (`ulimit -v` and `ulimit -d`); None without such a limit."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    return min((limit for limit in limits if limit != resource.RLIM_INFINITY), default=None)


def out_of_memory_kills() -> int | None:
    """Return how many processes the kernel has killed for memory: of this control group, or of the system.

    None where that is not counted.
    """
    counters = [*_memory_cgroups("memory.events", "memory.oom_control"), Path("/proc/vmstat")]
    for path in counters:
        try:
            lines = path.read_text(encoding="ascii").splitlines()
            return int(dict(line.split() for line in lines)["oom_kill"])
        except (OSError, KeyError, ValueError):
            continue
    return None


def _memory_cgroups(name: str, name_in_v1: str) -> Iterator[Path]:
    """Yield a file of the control groups that limit the memory of this process, from the innermost on.

    In a container the path that the kernel tells may be the host's; the root of what is mounted is then the container's group.
    """
    try:
        lines = _OWN_CGROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, file = (_CGROUPS / "memory", name_in_v1) if controllers else (_CGROUPS, name)
        group = root / path.lstrip("/")
        yield from (folder / file for folder in (group, *group.parents) if folder.is_relative_to(root))


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
