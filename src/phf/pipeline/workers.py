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
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from phf import processes
from phf.errors import InputError, Stopped
from phf.progress import Listener, Progress

log = logging.getLogger("phf")

_WAKE_EVERY = 0.2  # seconds between two looks at signals


@dataclass(frozen=True, slots=True)
class Job:
    """One run to train and evaluate.

    Args:
        name: of the run.
        call: does it, called with a listener; a picklable function.
        after: name of the job that must have succeeded before.
    """

    name: str
    call: Callable[[Listener], None]
    after: str | None = None


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
    pool = _Pool(jobs, at_once, threads, on_progress, gpus)
    with _environment(OMP_NUM_THREADS=str(threads)), pool.stopping_on_signals():
        try:
            pool.run()
        finally:
            pool.kill()
    if pool.signal:
        stops = [str(error.args[1]) for error in pool.failures.values() if isinstance(error, Stopped)]
        raise Stopped(pool.signal, stops[0] if stops else "stopped before a run began")
    for job in jobs:
        if job.name in pool.failures:
            raise pool.failures[job.name]


class _Pool:
    """The processes of the jobs that run now."""

    def __init__(self, jobs: Sequence[Job], at_once: int, threads: int, on_progress: Listener, gpus: Sequence[str] = ()) -> None:
        self.waiting = list(jobs)
        self.at_once, self.threads, self.on_progress = at_once, threads, on_progress
        self.gpus = list(gpus)
        self.workers: list[_Worker] = []
        self.succeeded: set[str] = set()
        self.failures: dict[str, Exception] = {}
        self.signal = 0

    def run(self) -> None:
        """Start every job when its turn comes, and wait for all."""
        while self._start() or self.workers:
            wait([worker.connection for worker in self.workers], timeout=_WAKE_EVERY)
            for worker in list(self.workers):
                worker.receive(self.on_progress)
                if worker.ended:
                    self.workers.remove(worker)
                    self._settle(worker)

    def _start(self) -> bool:
        """Start what may start; return whether anything is left to start."""
        for job in list(self.waiting):
            if job.after in self.failures or self.signal:
                self.waiting.remove(job)
                if job.after in self.failures:
                    self.failures[job.name] = self.failures[str(job.after)]
            elif len(self.workers) < self.at_once and (job.after in self.succeeded or job.after is None):
                self.waiting.remove(job)
                self.workers.append(_Worker(job, self.threads, self._least_used_gpu()))
                if self.signal:  # it came while the process was started
                    self.workers[-1].process.terminate()
        return bool(self.waiting)

    def _least_used_gpu(self) -> str | None:
        """Return the GPU that the fewest processes see, the first of several; None if there is none."""
        used = Counter(worker.gpu for worker in self.workers)
        return min(self.gpus, key=used.__getitem__, default=None)

    def _settle(self, worker: "_Worker") -> None:
        name, error = worker.job.name, worker.error
        if error is None and worker.process.exitcode == 0:
            self.succeeded.add(name)
        elif error is None and self.signal:
            self.failures[name] = Stopped(self.signal, f"{name}: stopped before it began")
        else:
            self.failures[name] = error or InputError(
                f"runs.{name}: its process {processes.describe_exit(worker.process.exitcode or 0, worker.kills_before)}. "
                f"What it had saved is kept, and the same command resumes from there. If memory ran out: lower jobs (now "
                f"{self.at_once} at a time), or train.micro_batch of this run"
            )

    @contextlib.contextmanager
    def stopping_on_signals(self) -> Iterator[None]:
        """After SIGINT or SIGTERM start no further job, and have those that run save their state and stop."""

        def stop(number: int, _: Any) -> None:
            self.signal = number
            for worker in self.workers:
                worker.process.terminate()

        usual = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)

    def kill(self) -> None:
        """End what still runs, if the pool was left by an error."""
        for worker in self.workers:
            worker.process.kill()
            worker.process.join()


class _Worker:
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
        self.kills_before = processes.out_of_memory_kills()
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
        channel.send(_portable(error))


def _portable(error: Exception) -> Exception:
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
