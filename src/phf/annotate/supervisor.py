"""The keeper of a scoring process: it starts it, hands it parts, and replaces it when a document brings it down.

A scorer runs code of others over texts of anybody: a pattern that never ends, a parser that overflows its stack, a model
that asks for all memory. Nothing inside a process can be relied on to stop these. So the process is what is given up:
another takes up the part where the first fell, and the document is set aside.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from phf import config
from phf.annotate.parts import Part
from phf.annotate.worker import Request
from phf.corpora.formats import Row
from phf.errors import InputError

_DEATHS_IN_A_ROW = 3
_LOOK_EVERY = 0.1  # seconds between two looks at the memory of the process
_START = "import sys; sys.path[:] = sys.argv[2:]; from phf.annotate.worker import serve; serve(int(sys.argv[1]))"
# Each process computes on one thread: rewards then cannot depend on how many processes share the cores.
_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1"),
    "TOKENIZERS_PARALLELISM": "false",
}


class WorkerSupervisor:
    """Keeps one scoring process.

    Args:
        options: how documents are cut and scored.
        memory: GiB the process may hold.
        environment: more variables of the process, such as the GPU that it may see.
    """

    def __init__(self, options: config.Annotate, memory: float, environment: Mapping[str, str] | None = None) -> None:
        self._options = options
        self._memory = memory
        self._environment = {**os.environ, **_ENVIRONMENT, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._patient = False
        self._closed = False

    def part(self, path: Path, rows: Sequence[Row], scored: Callable[[int], None] = lambda count: None) -> Part:
        """Have one part scored and written, whole or not at all.

        Args:
            path: of the Parquet file to write.
            rows: of the part.
            scored: called with the number of documents whenever some are through.

        Raises:
            InputError: for what no other document would change (see `Annotator`), or if this keeper is closed.
        """
        request = Request(path, rows, patient=self._patient)
        too_slow: list[list[int]] = []
        deaths = 0
        while True:
            group: list[int] = []
            try:
                connection = self._started()
                connection.send(request)
                while True:
                    match self._receive(connection):
                        case "scoring", group:
                            pass
                        case "scored", outcomes:
                            request.known.update(outcomes)
                            scored(len(outcomes))
                            group, deaths = [], 0
                        case "unusable", message:
                            raise InputError(message)
                        case "written", part:
                            done: Part = part
                            break
            except (_DiedError, OSError) as death:
                self._stop()
                if self._closed:
                    raise InputError("annotation was stopped") from None
                if len(group) == 1:
                    request.known[group[0]] = str(death)
                    scored(1)
                elif group:
                    request.alone.update(group)
                    if isinstance(death, _TooSlowError):
                        too_slow.append(group)
                else:
                    deaths += 1
                    if deaths >= _DEATHS_IN_A_ROW:
                        raise InputError(f"the scoring process does not stay up, whatever the document: {death}") from None
                continue
            # A batch took too long, though none of its documents did alone: the scorer is slow, no document is bad.
            self._patient |= any(not any(isinstance(request.known[i], str) for i in each) for each in too_slow)
            return done

    def close(self) -> None:
        """End the process, at once."""
        self._closed = True
        self._stop()

    def _started(self) -> Connection:
        if self._connection is None:
            if self._closed:
                raise _DiedError("closed")
            ours, theirs = Pipe()
            with theirs:
                command = [sys.executable, "-c", _START, str(theirs.fileno()), *sys.path]
                self._process = subprocess.Popen(
                    command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=self._environment
                )
            self._connection = ours
            ours.send(self._options)
        return self._connection

    def _receive(self, connection: Connection) -> Any:
        assert self._process is not None
        try:
            while not connection.poll(_LOOK_EVERY):
                if _resident(self._process.pid) > self._memory * 2**30:
                    raise _DiedError(f"needed more than {self._memory:.3g} GiB of memory")
            return connection.recv()
        except (EOFError, OSError):
            raise self._death() from None

    def _death(self) -> "_DiedError":
        assert self._process is not None
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return _DiedError("the scoring process closed its connection")
        if status == -signal.SIGALRM:
            return _TooSlowError(f"took longer than {self._options.timeout:g} s")
        if status < 0:
            return _DiedError(f"the scoring process was ended by {signal.Signals(-status).name}")
        return _DiedError(f"the scoring process ended with status {status}")

    def _stop(self) -> None:
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if process is not None:
            process.kill()
            process.wait()
        if connection is not None:
            connection.close()


class _DiedError(Exception):
    """The scoring process is gone; the message is the reason."""


class _TooSlowError(_DiedError):
    """It ran into its time limit."""


def _resident(pid: int) -> int:
    """Bytes of memory a process holds; 0 where the system does not say."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
