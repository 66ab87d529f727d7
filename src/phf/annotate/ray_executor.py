"""The Ray executor: the parts of a corpus over a Ray cluster.

Tasks read pieces of the corpus side by side, actors that stay up score parts and write them to the output, and this process
keeps track: numbers and summaries pass through it, texts do not. What a lost node had read or scored is done again.
"""

import logging
import socket
import time
from collections.abc import Collection, Generator
from pathlib import Path
from typing import Any

from phf import config, object_store
from phf.annotate.parts import Part, check_number, part_from_json, part_name
from phf.annotate.ray_actor import ScoringActor
from phf.annotate.ray_reading import Plan, Portion, Stretch, start_reader
from phf.annotate.resources import has_remote_scorer, scorer_devices
from phf.annotate.tally import Callbacks
from phf.artifacts import sweep
from phf.errors import InputError
from phf.ray_cluster import connected, surroundings

_log = logging.getLogger("phf")
_WAIT = 1.0  # seconds between two looks at the clock
_ALONE = 60.0  # seconds without any actor after which that is said
_LOSSES = 5  # times that a part may be lost
_VISIBLE_WITHIN = 30.0  # seconds that a shared file system may take to show a file


def score_on_ray(
    corpus: config.Corpus,
    options: config.Annotate,
    out: Path,
    done: Collection[int],
    callbacks: Callbacks,
) -> Generator[tuple[int, Part], None, None]:
    """Score the waiting parts on a Ray cluster, whose nodes all reach the corpus and `out`.

    Each actor supervises a scoring process, as the threads of `score_locally` do, and each part is written by the node that
    scored it.

    Args:
        corpus: which documents.
        options: how they are segmented and scored, by how many actors, and the address of the cluster.
        out: the folder to write parts to.
        done: numbers of the parts that are there.
        callbacks: who is called on the way.

    Yields:
        Each part's number and summary, as soon as it is written.

    Raises:
        InputError: for a corpus or a scorer that cannot be used, a cluster that cannot be reached, or an `out` that a node does
            not share.
    """
    with connected(options.address, "annotate.engine=ray") as ray:
        run = _Run(ray, corpus, options, out, done, callbacks)
        try:
            yield from run.parts()
        finally:
            run.stop()
    sweep(out)  # what nodes that were lost had begun to write


class _Run:
    """What is counted, read and scored at the moment."""

    def __init__(
        self,
        ray: Any,
        corpus: config.Corpus,
        options: config.Annotate,
        out: Path,
        done: Collection[int],
        callbacks: Callbacks,
    ) -> None:
        self._ray, self._corpus, self._options, self._callbacks = ray, corpus, options, callbacks
        self._out = out.absolute()
        self._done = set(done)
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if scorer_devices(options) else 0
        alone = 1 if has_remote_scorer(options) else 0  # it sends its requests side by side, and counts them
        self._actors = options.workers or alone or gpus or max(1, int(resources.get("CPU", 1)))
        self._actor = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0, max_restarts=0, scheduling_strategy="SPREAD")(
            ScoringActor
        )
        nodes = sum(node["Alive"] for node in ray.nodes())
        self._readers_at_once = max(2, nodes)
        self._plan = Plan(ray, corpus, 4 * self._actors, 4 * self._readers_at_once)
        self._stretches: list[Stretch] = []
        self._unread: list[tuple[Stretch, frozenset[int] | None]] = []
        self._readers: dict[Any, tuple[Stretch, frozenset[int] | None]] = {}
        self._read: dict[int, dict[int, Portion]] = {}
        self._ready: list[int] = []
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[int, Any]] = {}
        self._losses: dict[int, int] = {}
        self._alone_since = time.monotonic()
        for _ in range(self._actors):
            self._start_actor()

    def parts(self) -> Generator[tuple[int, Part], None, None]:
        """Yield each part that is written, until all are."""
        while True:
            self._start_readers()
            while self._ready and self._idle:
                self._score(self._ready.pop(0), self._idle.pop())
            waiting = self._waiting()
            if not waiting:
                break
            ready, _ = self._ray.wait(waiting, timeout=_WAIT, fetch_local=False)
            for reference in ready:
                if reference in self._busy:
                    if (scored := self._scored(reference)) is not None:
                        yield scored
                else:
                    self._take(reference)
            self._callbacks.on_wait()
            self._check_actors()
        assert not self._read, f"parts {sorted(self._read)} were read, but not to their end"

    def stop(self) -> None:
        """End all actors and tasks."""
        for reader in self._readers:
            self._ray.cancel(reader, force=True)
        for actor in [*self._idle, *self._starting.values(), *(actor for _, actor in self._busy.values())]:
            self._ray.kill(actor)

    def _waiting(self) -> list[Any]:
        """Return what there is to wait for; nothing if all is done."""
        waiting = list(self._busy)
        is_short = len(self._ready) <= self._actors
        if is_short:
            waiting += self._readers
        if self._plan.awaited is not None and len(self._unread) < self._readers_at_once:
            waiting.append(self._plan.awaited)
        return waiting + list(self._starting) if waiting or self._ready else []

    def _take(self, reference: Any) -> None:
        if reference in self._starting:
            self._started(reference)
        elif reference in self._readers:
            self._next_portion(reference)
        else:
            stretches = self._plan.take()
            self._stretches += stretches
            self._unread += [(stretch, None) for stretch in stretches]
            known = self._plan.bytes
            self._callbacks.on_read(self._plan.rows, self._plan.counted_bytes / known if known else 0.0)

    def _start_readers(self) -> None:
        while self._unread and len(self._readers) < self._readers_at_once:
            stretch, only = self._unread.pop(0)
            if only is None and stretch.stop is not None:
                first, last = stretch.first // self._options.part, (stretch.stop - 1) // self._options.part
                only = frozenset(range(first, last + 1)) - self._done
            if only is None or only:
                done = frozenset(self._done) if only is None else frozenset()
                reader = start_reader(self._ray, stretch, self._corpus, self._options.part, done, only)
                self._readers[reader] = stretch, only

    def _next_portion(self, reader: Any) -> None:
        """Take what a task has read next."""
        stretch, only = self._readers[reader]
        try:
            portion = self._ray.get(next(reader))
        except StopIteration:
            del self._readers[reader]
            return
        except self._ray.exceptions.RayTaskError:
            raise  # a bug
        except self._ray.exceptions.RayError:  # its node is gone
            del self._readers[reader]
            self._unread.insert(0, (stretch, None if only is None else only - self._done))
            return
        if isinstance(portion, str):
            raise InputError(portion)
        check_number(portion.part, self._options.part)
        if (
            portion.part in self._done
            or portion.part in self._ready
            or any(portion.part == part for part, _ in self._busy.values())
        ):
            return  # read again, by a task that took over from another
        portions = self._read.setdefault(portion.part, {})
        portions[portion.start] = portion
        if _is_complete(portions):
            self._ready.append(portion.part)
            self._ready.sort()

    def _score(self, part: int, actor: Any) -> None:
        portions = self._read[part]
        rows = [portions[start].rows for start in sorted(portions) if portions[start].count]
        path = self._out / part_name(part)
        self._busy[actor.score.remote(object_store.address_of(path) or str(path), *rows)] = part, actor

    def _scored(self, reference: Any) -> tuple[int, Part] | None:
        """Return a part that an actor has written; None if it is to be done again."""
        part, actor = self._busy.pop(reference)
        errors = self._ray.exceptions
        try:
            summary, error, host = self._ray.get(reference)
        except errors.RayActorError:
            self._lose(part, "the processes that scored it died")
            self._ready.insert(0, part)
            self._start_actor()
            return None
        except errors.RayError as lost:
            if not isinstance(getattr(lost, "cause", lost), errors.ObjectLostError):
                raise
            self._lose(part, "the nodes that had read it died")
            del self._read[part]
            self._idle.append(actor)
            size = self._options.part
            again = [s for s in self._stretches if s.first < (part + 1) * size and (s.stop is None or s.stop >= part * size)]
            self._unread[:0] = [(stretch, frozenset([part])) for stretch in again]
            return None
        self._idle.append(actor)
        if error:
            raise InputError(error)
        written = part_from_json(summary)
        path = self._out / part_name(part)
        if object_store.address_of(path):
            object_store.note_uploaded(path, written.bytes)
        self._check_visible(written, path, host)
        del self._read[part]
        self._done.add(part)
        return part, written

    def _lose(self, part: int, how: str) -> None:
        self._losses[part] = self._losses.get(part, 0) + 1
        if self._losses[part] > _LOSSES:
            raise InputError(f"{part_name(part)}: was given up after {_LOSSES} times, since {how}; finished parts stay")

    def _start_actor(self) -> None:
        actor = self._actor.remote(self._options, *surroundings())
        self._starting[actor.ready.remote()] = actor

    def _started(self, reference: Any) -> None:
        actor = self._starting.pop(reference)
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayActorError:
            self._start_actor()
        else:
            self._idle.append(actor)

    def _check_actors(self) -> None:
        """Warn if no actor can be started: the cluster's cores are taken, or gone."""
        if self._idle or self._busy:
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > _ALONE:
            _log.warning("annotate.engine=ray: no core of the cluster has been free for %d s; waiting for one", _ALONE)
            self._alone_since = time.monotonic()

    def _check_visible(self, part: Part, path: Path, host: str) -> None:
        """Check that what a node has written is where this process looks for it."""
        end = time.monotonic() + _VISIBLE_WITHIN
        while not part.is_at(path):
            if time.monotonic() > end:
                raise InputError(
                    f"{path}: was written on {host}, but is not there on {socket.gethostname()}; with annotate.engine=ray the "
                    "output must be on a file system that all nodes share, or on an object store"
                )
            time.sleep(0.1)


def _is_complete(portions: dict[int, Portion]) -> bool:
    """Return whether portions are a whole part."""
    start = 0
    while start in portions:
        if portions[start].ends:
            return True
        start += portions[start].count
    return False
