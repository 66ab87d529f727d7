"""Child processes that end with their parent, and what the end of one means."""

import ctypes
import os
import signal
import sys
import threading
import time

from phf import machine

ABORTS = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS)
"""Signals by which libraries in C, C++ and Rust end a process when they get no memory; no Python code hears of it."""
_PR_SET_PDEATHSIG = 1
_LOOK_EVERY = 0.5  # seconds between two looks at the parent, where the kernel sends no signal


def die_with_parent(parent: int) -> None:
    """Have this process killed as soon as its parent is gone, so that nobody trains or scores for a dead command.

    Linux kills it, even in a call that never returns; elsewhere a thread looks for the parent twice a second. To Linux the
    parent is the thread that started this process: it must live as long as the process is wanted.

    Args:
        parent: process id of the parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it died before the kernel was asked
        os._exit(128 + signal.SIGKILL)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY)
    os._exit(128 + signal.SIGKILL)


def describe_exit(exit_code: int, kills_before: int | None = None) -> str:
    """Describe the end of a process that did not say why it ended.

    Args:
        exit_code: as `multiprocessing` and `subprocess` give it: minus the signal's number for a signal.
        kills_before: `machine.out_of_memory_kills()` when the process was started.
    """
    if exit_code == -signal.SIGKILL:
        kills = machine.out_of_memory_kills()
        if kills is not None and kills_before is not None and kills > kills_before:
            return "was killed by the kernel, which ran out of memory (SIGKILL)"
        return "was killed (SIGKILL), most likely by the kernel because memory ran out; `dmesg` says so if it was"
    if exit_code < 0:
        limit = machine.memory_limit() if -exit_code in ABORTS else None
        why = "" if limit is None else f", most likely because memory ran out: `ulimit` allows it {limit / 2**30:.3g} GiB"
        return f"was ended by {signal.Signals(-exit_code).name}{why}"
    return f"ended with status {exit_code}"
