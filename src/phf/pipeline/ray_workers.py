"""Runs of a recipe over a Ray cluster, each with its share of the cores or GPUs."""

import contextlib
import logging
import logging.handlers
import math
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any

from phf.errors import Stopped
from phf.locks import InUse
from phf.pipeline.jobs import Ended, Job
from phf.pipeline.workers import portable
from phf.progress import Listener, Progress
from phf.ray_cluster import adopt, surroundings

_log = logging.getLogger("phf")
_RETRIES = 3  # of a run whose node dies; it resumes from its last state
_LOCK_WAIT = 60.0  # seconds that a lost node may hold the lock of a run


def shares(nodes: Sequence[dict[str, float]], jobs: int | None, runs: int) -> tuple[int, int, float]:
    """Divide a cluster between runs.

    Args:
        nodes: the "CPU" and "GPU" of each.
        jobs: runs at a time; None for one on each GPU, or without any one a core.
        runs: that there are.

    Returns:
        How many runs at a time, and the cores and GPUs of each.
    """
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    at_once = max(1, min(jobs or gpus or sum(cpus), runs))
    cores = max(1, sum(cpus) // at_once)
    while cores > 1 and sum(cpu // cores for cpu in cpus) < at_once:
        cores -= 1
    # So that runs which share a GPU do not lie across two.
    return at_once, cores, 0.0 if not gpus else 1.0 if at_once <= gpus else 1 / math.ceil(at_once / gpus)


class RayCluster:
    """A Ray cluster as a workplace.

    Args:
        ray: the module, connected.
        cores: of each job.
        gpus: of each job, 0.5 for half of one.
    """

    def __init__(self, ray: Any, cores: int, gpus: float) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray, self._cores = ray, cores
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._mailbox = ray.remote(num_cpus=0, scheduling_strategy=here)(_Mailbox).remote()
        # max_calls: a process of its own for each, as on this machine.
        self._task = ray.remote(num_cpus=cores, num_gpus=gpus, max_retries=_RETRIES, max_calls=1)(_work)

    def start(self, job: Job, running: "Sequence[_Task]") -> "_Task":
        """Start a job as soon as a node has its share free."""
        reference = self._task.remote(job.call, job.name, self._mailbox, self._cores, *surroundings())
        return _Task(self._ray, job, reference)

    def wait(self, workers: "Sequence[_Task]", seconds: float) -> None:
        """Wait until one has ended, or so long, and take what all have sent."""
        references = [worker.reference for worker in workers]
        if references:
            self._ray.wait(references, timeout=seconds)
            ready, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
            for worker in workers:  # before their last messages are taken, which they have delivered by then
                worker.has_ended = worker.reference in ready
        inboxes = {worker.job.name: worker.inbox for worker in workers}
        for name, message in self._ray.get(self._mailbox.take.remote()):
            if name in inboxes:
                inboxes[name].append(message)


class _Task:
    """A job on some node."""

    def __init__(self, ray: Any, job: Job, reference: Any) -> None:
        self._ray, self.job, self.reference = ray, job, reference
        self.error: Exception | None = None
        self.ended = self.has_ended = False
        self.inbox: list[Any] = []

    def receive(self, on_progress: Listener) -> None:
        """Take what it has sent, and note whether it has ended."""
        for message in self.inbox:
            if isinstance(message, Progress):
                on_progress(message)
            else:
                _log.handle(message)
        self.inbox.clear()
        if not self.has_ended:
            return
        self.ended = True
        try:
            self.error = self._ray.get(self.reference)
        except self._ray.exceptions.RayTaskError as error:  # it did not even begin
            self.error = RuntimeError(f"a bug, met before this run began:\n{error}")
        except self._ray.exceptions.RayError as error:
            self.error = Ended(self.job.name, f"was lost by Ray ({type(error).__name__}: {str(error).splitlines()[0]})")

    def stop(self) -> None:
        """Have it save its state and end: Ray interrupts it as Ctrl-C does."""
        self._ray.cancel(self.reference, force=False)

    def kill(self) -> None:
        """End it at once."""
        self._ray.cancel(self.reference, force=True)


class _Mailbox:
    """What jobs send, until it is taken; an actor."""

    def __init__(self) -> None:
        self._messages: list[tuple[str, Any]] = []

    def put(self, name: str, message: Any) -> None:
        """Keep a message of a job."""
        self._messages.append((name, message))

    def take(self) -> list[tuple[str, Any]]:
        """Return the messages, each once."""
        messages, self._messages = self._messages, []
        return messages


def _work(call: Any, name: str, mailbox: Any, threads: int, folder: str, path: list[str]) -> Exception | None:
    """Do one job in this process of Ray, and return its error."""
    adopt(folder, path)
    import torch

    torch.set_num_threads(threads)
    outbox = _Outbox(name, mailbox)
    with _logging_to(outbox):
        end = time.monotonic() + _LOCK_WAIT
        while True:
            try:
                call(outbox.send)
                return None
            except InUse as error:  # the process of a lost node ends a little later than its node
                if time.monotonic() > end:
                    return error
                time.sleep(1.0)
            except KeyboardInterrupt:
                return Stopped(signal.SIGINT, f"{name}: stopped while evaluating; evaluations that were finished are kept")
            except Exception as error:
                return portable(error)


class _Outbox:
    """Sends what a job says to its mailbox, in order."""

    def __init__(self, name: str, mailbox: Any) -> None:
        self._name, self._mailbox = name, mailbox
        self._last: Any = None

    def send(self, message: Any) -> None:
        """Send one message, without waiting for it to arrive."""
        self._last = self._mailbox.put.remote(self._name, message)

    def flush(self) -> None:
        """Wait until all have arrived."""
        if self._last is not None:
            import ray

            ray.get(self._last)


class _Sender(logging.handlers.QueueHandler):
    """Sends what a job logs."""

    def __init__(self, outbox: _Outbox) -> None:
        super().__init__(outbox)  # type: ignore[arg-type]
        self._outbox = outbox

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send one record."""
        self._outbox.send(record)


@contextlib.contextmanager
def _logging_to(outbox: _Outbox) -> Iterator[None]:
    handler = _Sender(outbox)
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    try:
        yield
    finally:
        _log.removeHandler(handler)
        outbox.flush()
