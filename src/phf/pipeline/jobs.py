"""Jobs, so many at a time, wherever they run: stopped together, each failing alone."""

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from phf.errors import InputError, Stopped
from phf.progress import Listener

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


class Worker(Protocol):
    """One job under way.

    Attributes:
        job: what it does.
        error: that it raised, or that says how it ended without a word; None before the end, and if it succeeded.
        ended: whether it did.
    """

    job: Job
    error: Exception | None
    ended: bool

    def receive(self, on_progress: Listener) -> None:
        """Take what it has sent, and note whether it has ended."""

    def stop(self) -> None:
        """Have it save its state and end."""

    def kill(self) -> None:
        """End it at once."""


class Workplace(Protocol):
    """Where jobs run: processes of this machine, or a cluster."""

    def start(self, job: Job, running: Sequence[Any]) -> Worker:
        """Start a job beside those that run."""

    def wait(self, workers: Sequence[Any], seconds: float) -> None:
        """Wait until one of them has sent something, or so long."""


def run_in(workplace: Workplace, jobs: Sequence[Job], at_once: int, on_progress: Listener) -> None:
    """Run jobs in a workplace, with the arguments and errors of `run_jobs`."""
    pool = _Pool(workplace, jobs, at_once, on_progress)
    with pool.stopping_on_signals():
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
    """The jobs that run now, and those that wait."""

    def __init__(self, workplace: Workplace, jobs: Sequence[Job], at_once: int, on_progress: Listener) -> None:
        self.workplace = workplace
        self.waiting = list(jobs)
        self.at_once, self.on_progress = at_once, on_progress
        self.workers: list[Worker] = []
        self.succeeded: set[str] = set()
        self.failures: dict[str, Exception] = {}
        self.signal = 0

    def run(self) -> None:
        """Start every job when its turn comes, and wait for all."""
        while self._start() or self.workers:
            self.workplace.wait(self.workers, _WAKE_EVERY)
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
                self.workers.append(self.workplace.start(job, self.workers))
                if self.signal:  # it came while the process was started
                    self.workers[-1].stop()
        return bool(self.waiting)

    def _settle(self, worker: Worker) -> None:
        name, error = worker.job.name, worker.error
        if error is None:
            self.succeeded.add(name)
        elif self.signal and isinstance(error, Ended):
            self.failures[name] = Stopped(self.signal, f"{name}: stopped before it began")
        else:
            self.failures[name] = error

    @contextlib.contextmanager
    def stopping_on_signals(self) -> Iterator[None]:
        """After SIGINT or SIGTERM start no further job, and have those that run save their state and stop."""

        def stop(number: int, _: Any) -> None:
            self.signal = number
            for worker in self.workers:
                worker.stop()

        usual = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)

    def kill(self) -> None:
        """End what still runs, if the pool was left by an error."""
        for worker in self.workers:
            worker.kill()


class Ended(InputError):
    """A job ended without a word of its own."""

    def __init__(self, name: str, how: str) -> None:
        super().__init__(
            f"runs.{name}: its process {how}. What it had saved is kept, and the same command resumes from there. If memory ran "
            "out: lower jobs, or train.micro_batch of this run"
        )
