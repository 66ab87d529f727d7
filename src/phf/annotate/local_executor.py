"""Engines: the parts of a corpus over the cores of this machine, or over a Ray cluster. Each part comes out the same."""

from collections.abc import Callable, Collection, Generator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue

from phf import config, corpora
from phf.annotate.parts import Part, part_name, waiting_parts
from phf.annotate.resources import memory_per_worker, worker_environments
from phf.annotate.supervisor import WorkerSupervisor

_LOOK_EVERY = 0.2  # seconds between two reports


def local(
    corpus: config.Corpus,
    options: config.Annotate,
    out: Path,
    done: Collection[int],
    read: Callable[[int, float], None],
    scored: Callable[[int, int], None],
    look: Callable[[], None],
) -> Generator[tuple[int, Part], None, None]:
    """Score the waiting parts with processes on this machine, each with a keeper in a thread of its own.

    Args:
        corpus: which documents.
        options: how they are cut and scored, and by how many processes.
        out: the folder to write parts to.
        done: numbers of the parts that are there.
        read: as in `waiting_parts`.
        scored: called, by any thread, with a part's number and how many documents of it are through.
        look: called now and then, by the caller's thread.

    Yields:
        Each part's number and what was done, as soon as it is written.

    Raises:
        InputError: for a corpus or a scorer that cannot be used.
    """
    environments = worker_environments(options)
    workers = len(environments)
    memory = options.memory or memory_per_worker(workers)
    keepers = [WorkerSupervisor(options, memory, environment) for environment in environments]
    idle: SimpleQueue[WorkerSupervisor] = SimpleQueue()
    for keeper in keepers:
        idle.put(keeper)

    def score(index: int, rows: list[corpora.Row]) -> Part:
        keeper = idle.get()
        try:
            return keeper.part(out / part_name(index), rows, lambda documents: scored(index, documents))
        finally:
            idle.put(keeper)

    waiting = waiting_parts(corpus, options.part, done, read)
    pending: dict[Future[Part], int] = {}
    with ThreadPoolExecutor(workers) as threads:
        try:
            following = next(waiting, None)
            while pending or following:
                # One part more than there are workers is read ahead, so that none waits for the corpus.
                while following and len(pending) <= workers:
                    pending[threads.submit(score, *following)] = following[0]
                    following = next(waiting, None)
                finished, _ = wait(pending, timeout=_LOOK_EVERY, return_when=FIRST_COMPLETED)
                for future in sorted(finished, key=pending.__getitem__):
                    part = future.result()
                    yield pending.pop(future), part
                look()
        finally:
            for future in pending:
                future.cancel()
            for keeper in keepers:
                keeper.close()


# over a cluster --------------------------------------------------------------------------------------------------
