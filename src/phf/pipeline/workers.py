"""Runs of a recipe in processes of their own, so many at a time, stopped together and each failing alone."""

import contextlib
import logging
import logging.handlers
import multiprocessing
import os
import signal
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from phf import machine, processes
from phf.errors import InputError, Stopped
from phf.pipeline.jobs import Ended, Job, run_in
from phf.progress import Listener, Progress

log = logging.getLogger("phf")


def run_jobs(jobs: Sequence[Job], at_once: int, threads: int, on_progress: Listener, gpus: Sequence[str] = ()) -> None:
    """Run jobs, each in a process of its own.

    A failure stops no other job but those that build on it: nothing is cut down because another run's data is bad.

    Args:
        jobs: in the order in which to start them.
        at_once: how many at a time.
        threads: of each process.
        on_progress: called with the progress of every job; what they log is logged here.
        gpus: of this machine, as CUDA_VISIBLE_DEVICES names them: each process sees one, and shares it with others only
            where there are more processes than GPUs. Without any, processes see what this one sees.

    Raises:
        Exception: of the first job that failed, once all have ended; an InputError for a process that was killed.
        Stopped: after SIGINT or SIGTERM, once every job has saved its state and stopped.
    """
    with _environment(OMP_NUM_THREADS=str(threads)):
        run_in(Processes(threads, gpus), jobs, at_once, on_progress)


class Processes:
    """Processes of this machine, as a workplace.

    Args:
        threads: of each.
        gpus: of the machine; see `run_jobs`.
    """

    def __init__(self, threads: int, gpus: Sequence[str] = ()) -> None:
        self._threads, self._gpus = threads, list(gpus)

    def start(self, job: Job, running: "Sequence[_Process]") -> "_Process":
        """Start a process that sees the GPU which the fewest others see, the first of several."""
        used = Counter(worker.gpu for worker in running)
        return _Process(job, self._threads, min(self._gpus, key=used.__getitem__, default=None))

    def wait(self, workers: "Sequence[_Process]", seconds: float) -> None:
        """Wait until one of them has sent something, or so long."""
        wait([worker.connection for worker in workers], timeout=seconds)


class _Process:
    """The process of one job, as its parent sees it.

    Args:
        job: what it does.
        threads: that it computes on.
        gpu: the one that it sees; None to see what this process sees.
    """

    def __init__(self, job: Job, threads: int, gpu: str | None) -> None:
        self.job, self.gpu = job, gpu
        self.error: Exception | None = None
        self.ended = False
        self._kills_before = machine.out_of_memory_kills()
        spawn = multiprocessing.get_context("spawn")
        self.connection, theirs = spawn.Pipe(duplex=False)
        visible = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
        with theirs, _environment(**visible):
            self.process = spawn.Process(target=_work, args=(job.call, theirs, threads, os.getpid()), name=f"phf {job.name}")
            self.process.start()

    def receive(self, on_progress: Listener) -> None:
        """Take what the process has sent; at the end of it, the process is waited for."""
        try:
            while self.connection.poll():
                match self.connection.recv():
                    case Progress() as progress:
                        on_progress(progress)
                    case logging.LogRecord() as record:
                        log.handle(record)
                    case Exception() as error:
                        self.error = error
        except (EOFError, OSError):
            self.process.join()
            self.connection.close()
            self.ended = True
            if self.error is None and self.process.exitcode:
                self.error = Ended(self.job.name, processes.describe_exit(self.process.exitcode, self._kills_before))

    def stop(self) -> None:
        """Have it save its state and end."""
        self.process.terminate()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.join()


class _Channel:
    """The connection of a worker to its parent, which a signal does not leave with half a message."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._sending = False
        self._signal = 0

    def send(self, message: Any) -> None:
        """Send a message; any thread may. A stop that was asked for meanwhile is raised afterwards, in the main thread."""
        main = threading.current_thread() is threading.main_thread()
        self._sending |= main
        try:
            with self._lock, contextlib.suppress(BrokenPipeError):
                self._connection.send(message)
        finally:
            if main:
                self._sending = False
        if main and self._signal:
            number, self._signal = self._signal, 0
            raise _stopped(number)

    def put_nowait(self, record: logging.LogRecord) -> None:
        """Send a log record, as `QueueHandler` asks of a queue."""
        self.send(record)

    def stop(self, number: int, _: Any) -> None:
        """Handle SIGTERM."""
        if self._sending:
            self._signal = number
            return
        raise _stopped(number)


def _stopped(number: int) -> Stopped:
    return Stopped(number, "stopped while evaluating; evaluations that were finished are kept")


def _work(call: Callable[[Listener], None], connection: Connection, threads: int, parent: int) -> None:
    """Do one job in this process, and send what happens to the parent."""
    processes.die_with_parent(parent)
    channel = _Channel(connection)
    # Ctrl-C reaches every process of a terminal, but the parent decides: it sends SIGTERM, once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, channel.stop)
    try:
        import torch

        torch.set_num_threads(threads)
        log.addHandler(logging.handlers.QueueHandler(channel))  # type: ignore[arg-type]
        log.setLevel(logging.INFO)
        log.propagate = False
        call(channel.send)
    except Exception as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        channel.send(portable(error))


def portable(error: Exception) -> Exception:
    """Return an exception that can be sent: those that a user can act on are; of others, the traceback is."""
    if isinstance(error, (InputError, Stopped, OSError)):
        return error
    return RuntimeError(f"a bug, met in the process of this run:\n{''.join(traceback.format_exception(error))}")


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set environment variables for the processes that are started in the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
