"""Supervision of a scoring process: start it, hand it parts, and replace it when a document brings it down.

A scorer runs third-party code over arbitrary text: a pattern that never ends, a parser that overflows its stack, a model
that asks for all memory. Nothing inside a process reliably stops these, so the process is what is given up: another one
resumes the part where the first ended, and the document is set aside.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from phf import config
from phf.annotate import messages
from phf.annotate.messages import Finished, Message, Request, Working, Written
from phf.annotate.parts import Part
from phf.corpora import Row
from phf.errors import InputError
from phf.machine import out_of_memory_kills, resident_memory
from phf.processes import describe_exit

_DEATHS_IN_A_ROW = 3
_POLL_EVERY = 0.1  # seconds between two looks at memory and clock
_GRACE = 1.0  # seconds that a message may be late, on a machine that is busy
_START_LIMIT = 1800.0  # seconds to load a scorer, which may have a model to download
# The process ends with its parent from its first moment on, not only once it has imported the libraries of scorers.
_START = """
import sys
handle, parent, sys.path[:] = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
from phf.processes import die_with_parent
die_with_parent(parent)
from phf.annotate.worker import serve
serve(handle)
"""
# Each process computes on one thread, so that rewards cannot depend on how many processes share the cores.
_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1"),
    "TOKENIZERS_PARALLELISM": "false",
}


class WorkerSupervisor:
    """Runs one scoring process.

    Args:
        options: how documents are segmented and scored.
        memory: GiB that the process may hold.
        environment: further variables of the process, such as the GPU that it may see.
    """

    def __init__(self, options: config.Annotate, memory: float, environment: Mapping[str, str] | None = None) -> None:
        self._options = options
        self._memory = memory
        self._environment = {**os.environ, **_ENVIRONMENT, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._kills_before: int | None = None
        self._allowed = 0.0  # seconds from the last message to the next
        self._deadline = 0.0
        self._patient = False
        self._closed = False

    def score_part(self, path: Path, rows: Sequence[Row], on_scored: Callable[[int], None] = lambda count: None) -> Part:
        """Have one part scored and written, whole or not at all.

        Args:
            path: of the Parquet file to write.
            rows: of the part.
            on_scored: called with the number of documents whenever some are finished.

        Raises:
            InputError: for a fault that no other document would change (see `Annotator`), or if this supervisor is closed.
        """
        request = Request(path, list(rows), patient=self._patient)
        slow_groups: list[list[int]] = []
        deaths = 0
        while True:
            group: list[int] = []
            try:
                connection = self._started()
                messages.send(connection, request)
                while True:
                    message = self._receive(connection)
                    if isinstance(message, Working):
                        group = message.rows
                    elif isinstance(message, Finished):
                        request.known.update(message.outcomes)
                        on_scored(len(message.outcomes))
                        group, deaths = [], 0
                    elif isinstance(message, Written):
                        # A batch took too long though no document of it did alone: the scorer is slow, no document is bad.
                        self._patient |= any(_all_scored(request, slow) for slow in slow_groups)
                        return message.part
                    else:
                        raise InputError(message.message)
            except (_DiedError, OSError) as death:
                self._stop()
                if self._closed:
                    raise InputError("annotation was stopped") from None
                deaths = 0 if group else deaths + 1
                if deaths >= _DEATHS_IN_A_ROW:
                    raise InputError(
                        f"the scoring process does not stay up, whatever the document: {death}. If memory ran out: lower "
                        "annotate.workers, or give phf more"
                    ) from None
                if isinstance(death, _TooSlowError) and len(group) > 1:
                    slow_groups.append(group)
                self._set_aside(request, group, str(death), on_scored)

    def close(self) -> None:
        """End the process at once."""
        self._closed = True
        self._stop()

    def _set_aside(self, request: Request, group: list[int], reason: str, on_scored: Callable[[int], None]) -> None:
        """Fail the one document that brought the process down; of several, score each alone to find out which it is."""
        if len(group) == 1:
            request.known[group[0]] = reason
            on_scored(1)
        else:
            request.alone.update(group)

    def _started(self) -> Connection:
        if self._connection is None:
            if self._closed:
                raise _DiedError("closed")
            ours, theirs = Pipe()
            with theirs:
                self._kills_before = out_of_memory_kills()
                command = [sys.executable, "-c", _START, str(theirs.fileno()), str(os.getpid()), *sys.path]
                self._process = subprocess.Popen(
                    command,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env=self._environment,
                    process_group=0,  # so that what a scorer starts ends with it
                )
            self._connection = ours
            messages.send(ours, config.plain(self._options))
        self._allowed = _START_LIMIT
        self._deadline = time.monotonic() + _START_LIMIT
        return self._connection

    def _receive(self, connection: Connection) -> Message:
        """Wait for a message, as long as the one before it allows.

        The process has a timer of its own, but a scorer may ignore the signal, or be stopped by another one.
        """
        assert self._process is not None
        try:
            while not connection.poll(_POLL_EVERY):
                if resident_memory(self._process.pid) > self._memory * 2**30:
                    raise _DiedError(f"needed more than {self._memory:.3g} GiB of memory")
                if time.monotonic() > self._deadline:
                    raise _TooSlowError(self._late())
                if self._process.poll() is not None and not connection.poll():
                    raise self._death()
            message = messages.receive(connection)
        except messages.ProtocolError as error:
            raise _DiedError(f"the scoring process broke the protocol: {error}") from None
        except (EOFError, OSError):
            raise self._death() from None
        if isinstance(message, Working):
            self._allowed = message.seconds
            self._deadline = time.monotonic() + message.seconds + _GRACE
        return message

    def _late(self) -> str:
        return f"took longer than {self._allowed:g} s"

    def _death(self) -> "_DiedError":
        assert self._process is not None
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return _DiedError("the scoring process closed its connection")
        if status == -signal.SIGALRM:
            return _TooSlowError(self._late())
        return _DiedError(f"the scoring process {describe_exit(status, self._kills_before)}")

    def _stop(self) -> None:
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if process is not None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):  # it has ended, or has left its group
                process.kill()
            process.wait()
        if connection is not None:
            connection.close()


class _DiedError(Exception):
    """The scoring process is gone or unusable; the message is the reason."""


class _TooSlowError(_DiedError):
    """It ran into its time limit."""


def _all_scored(request: Request, group: list[int]) -> bool:
    return not any(isinstance(request.known[row], str) for row in group)
