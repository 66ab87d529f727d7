"""One command of phf in a forked process: its exit status, what it printed, and whether it ended in time."""

import contextlib
import functools
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

HUNG = -1
"""The status of a process that did not end within its time."""


@dataclass(frozen=True)
class Outcome:
    """How a process ended.

    Args:
        status: exit status; 128 + N after signal N; `HUNG`.
        output: stdout and stderr, in the order they were written.
    """

    status: int
    output: str

    @property
    def is_clean(self) -> bool:
        """Whether it ended well, or refused its input in words."""
        return self.status == 0 or (self.status == 2 and "Traceback" not in self.output)


class Forked:
    """A function in a forked process of its own session, whose output is kept.

    Args:
        function: what it calls.
    """

    def __init__(self, function: Callable[[], object]) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            os.dup2(self._output.fileno(), 1)
            os.dup2(self._output.fileno(), 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
            os._exit(_status_of(function))

    def kill_after(self, seconds: float) -> bool:
        """Send it SIGKILL after so many seconds, it alone; False if it has ended before."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return False
            time.sleep(0.002)
        os.kill(self.pid, signal.SIGKILL)
        return True

    def wait(self, timeout: float) -> Outcome:
        """Wait for its end, kill it if it does not end in time, and kill what is left of its session."""
        status = _wait(self.pid, timeout)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        with self._output as output:
            output.seek(0)
            return Outcome(status, output.read().decode(errors="replace"))


def call(function: Callable[[], object], timeout: float = 60.0) -> Outcome:
    """Call a function in a forked process of its own session, and kill what is left of it afterwards."""
    return Forked(function).wait(timeout)


def start(arguments: Sequence[str | Path]) -> Forked:
    """Start the `phf` command in a forked process."""
    _preload()
    from phf.cli import main

    return Forked(lambda: main([str(argument) for argument in arguments]))


def phf(arguments: Sequence[str | Path], timeout: float = 60.0) -> Outcome:
    """Run the `phf` command in a forked process."""
    return start(arguments).wait(timeout)


@functools.cache
def _preload() -> None:
    """Import what commands import lazily, once for all forked processes; nothing of it starts a thread."""

    import phf.evaluate
    import phf.report
    import phf.train.trainer  # noqa: F401


def _status_of(function: Callable[[], object]) -> int:
    try:
        function()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    else:
        status = 0
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _wait(child: int, timeout: float) -> int:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return HUNG
