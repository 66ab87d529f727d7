"""The local executor: the parts of a corpus over the cores or GPUs of this machine."""

from collections.abc import Collection, Generator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue

from phf import config, corpora
from phf.annotate.parts import Part, part_name, waiting_parts
from phf.annotate.resources import memory_per_worker, worker_environments
from phf.annotate.supervisor import WorkerSupervisor
from phf.annotate.tally import Callbacks

_REPORT_EVERY = 0.2  # seconds


def score_locally(
    corpus: config.Corpus, options: config.Annotate, out: Path, done: Collection[int], callbacks: Callbacks
) -> Generator[tuple[int, Part], None, None]:
    """Score the waiting parts with processes on this machine, each supervised by a thread of its own.

    Args:
        corpus: which documents.
        options: how they are segmented and scored, and by how many processes.
        out: the folder to write parts to.
        done: numbers of the parts that are there.
        callbacks: who is called on the way.

    Yields:
        Each part's number and summary, as soon as it is written.

    Raises:
        InputError: for a corpus or a scorer that cannot be used.
    """
    environments = worker_environments(options)
    workers = len(environments)
    memory = options.memory or memory_per_worker(workers)
    supervisors = [WorkerSupervisor(options, memory, environment) for environment in environments]
    idle: SimpleQueue[WorkerSupervisor] = SimpleQueue()
    for supervisor in supervisors:
        idle.put(supervisor)

    def score(index: int, rows: list[corpora.Row]) -> Part:
        supervisor = idle.get()
        try:
            return supervisor.score_part(out / part_name(index), rows, lambda count: callbacks.on_scored(index, count))
        finally:
            idle.put(supervisor)

    waiting = waiting_parts(corpus, options.part, done, callbacks.on_read)
    pending: dict[Future[Part], int] = {}
    with ThreadPoolExecutor(workers) as threads:
        try:
            following = next(waiting, None)
            while pending or following:
                # One part more than there are workers is read ahead, so that none waits for the corpus.
                while following and len(pending) <= workers:
                    pending[threads.submit(score, *following)] = following[0]
                    following = next(waiting, None)
                finished, _ = wait(pending, timeout=_REPORT_EVERY, return_when=FIRST_COMPLETED)
                for future in sorted(finished, key=pending.__getitem__):
                    part = future.result()
                    yield pending.pop(future), part
                callbacks.on_wait()
        finally:
            for future in pending:
                future.cancel()
            for supervisor in supervisors:
                supervisor.close()
