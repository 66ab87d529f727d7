"""A recipe run from corpus to report, stage after stage, each resumable; runs are trained and measured side by side."""

import contextlib
import logging
import logging.handlers
import multiprocessing
import os
import queue
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from phf import artifacts, config
from phf.config import to_yaml
from phf.errors import InputError, Stopped
from phf.layout import RunFolder, WorkFolder
from phf.machine import usable_cores
from phf.plugins import suggestion
from phf.progress import Listener, Progress, silent
from phf.train import TrainSchedule, find_step

log = logging.getLogger("phf")


def run(recipe: config.Recipe, out: Path, only: Sequence[str] = (), progress: Listener = silent) -> Path:
    """Run a recipe: annotate, tokenize, then train and evaluate each run, then report. What is done already is left alone.

    Args:
        recipe: the whole job.
        out: folder of all its outputs.
        only: names of runs to train and evaluate; all of the recipe's if empty. The report shows every run that there is.

    Returns:
        The report's page.

    Raises:
        InputError: as the stages do; and for a recipe without runs, or an unknown name in `only`.
        Stopped: after SIGINT or SIGTERM during training, with the states saved.
    """
    from phf.annotate import annotate
    from phf.report import report
    from phf.tokenize import tokenize

    names = _with_ancestors(recipe, _names(recipe, only))
    _check_lengths(recipe, names)
    work = WorkFolder(out)
    out.mkdir(parents=True, exist_ok=True)
    with artifacts.whole_file(work.recipe) as temporary:
        temporary.write_text(config.dump(recipe), encoding="utf-8")
    trains = any(recipe.runs[name].model is None for name in names)
    if trains or recipe.corpus.inputs or recipe.corpus.source:
        annotate(recipe.corpus, recipe.annotate, work.annotated, progress)
    if trains:
        tokenize(work.annotated, work.tokens, recipe.tokenize, progress)
    _side_by_side(recipe, work, names, progress)
    every = [work.run(name) for name in recipe.runs if work.run(name).exists()]
    return report(every, work.report, recipe.report, progress)


def train_and_evaluate(recipe: config.Recipe, work: WorkFolder, name: str, progress: Listener) -> None:
    """Train one run of a recipe and measure it."""
    from phf.evaluate import evaluate
    from phf.train import train

    run = recipe.runs[name]
    if run.model is not None:
        _evaluate_named(recipe, work, name, progress)
        return
    folder, options = work.run(name), recipe.train_of(name)
    if options.init and options.init.run in recipe.runs:
        init = options.init.model_copy(update={"run": str(work.run(options.init.run))})
        options = options.model_copy(update={"init": init})
    train(work.tokens, folder, name, run.objective, options, progress)
    evaluate(str(folder), work.annotated, recipe.evaluate, folder, recipe.tokenize.held_out, run.evaluations, progress)


def _evaluate_named(recipe: config.Recipe, work: WorkFolder, name: str, progress: Listener) -> None:
    """Evaluate a finished model of the recipe. Without a corpus, `annotate` says what its samples are cut and scored by."""
    from phf import lm
    from phf.evaluate import NamedModel, evaluate

    run, folder = recipe.runs[name], work.run(name)
    segmenter = run.segmenter or recipe.annotate.segmenter
    spec = str(run.model)
    if spec.startswith("hf:"):
        spec = lm.hub_spec(spec, segmenter.name, run.control)
    has_corpus = work.annotated.exists()
    named = NamedModel(
        name, None if has_corpus and run.segmenter is None else segmenter, None if has_corpus else recipe.annotate.scorer
    )
    about = {"name": name, "model": run.model, "objective": config.plain(run.objective)}
    folder.mkdir(parents=True, exist_ok=True)
    with artifacts.whole_file(RunFolder(folder).config) as temporary:
        temporary.write_text(to_yaml(about), encoding="utf-8")
    held_out = recipe.tokenize.held_out
    evaluate(spec, work.annotated, recipe.evaluate, folder, held_out, run.evaluations, progress, named)


def _names(recipe: config.Recipe, only: Sequence[str]) -> list[str]:
    if not recipe.runs:
        raise InputError("runs: the recipe has none; give at least one, such as `runs: {mle: mle}`")
    for name in only:
        if name not in recipe.runs:
            raise InputError(f"unknown run {name!r}{suggestion(name, recipe.runs)}")
    return [name for name in recipe.runs if not only or name in only]


def _ancestor(recipe: config.Recipe, name: str) -> str | None:
    """Name the run of the recipe that a run goes on from."""
    init = recipe.train_of(name).init
    return init.run if init and init.run in recipe.runs else None


def _with_ancestors(recipe: config.Recipe, names: Sequence[str]) -> list[str]:
    """Put the runs that others go on from in front of them.

    Raises:
        InputError: for a run that goes on from itself, or from a checkpoint that there will not be.
    """
    ordered: list[str] = []

    def add(name: str, descendants: tuple[str, ...]) -> int:
        """Put a run behind its ancestors; give the tokens that these are trained on before it."""
        if name in descendants:
            raise InputError(f"runs.{name}.train.init: goes on from itself: {' from '.join([*descendants, name])}")
        before, ancestor, init = 0, _ancestor(recipe, name), recipe.train_of(name).init
        if ancestor and init:
            trained = TrainSchedule(recipe.train_of(ancestor), add(ancestor, (*descendants, name)))
            before = trained.tokens(find_step(init, trained, trained.checkpoints()))
        if name not in ordered:
            ordered.append(name)
        return before

    for name in names:
        add(name, ())
    return ordered


def _generations(recipe: config.Recipe, names: Sequence[str]) -> list[list[str]]:
    """Group runs, ancestors in front, so that each group's ancestors are in the groups before it."""
    depth: dict[str, int] = {}
    for name in names:
        ancestor = _ancestor(recipe, name)
        depth[name] = depth[ancestor] + 1 if ancestor else 0
    return [[name for name in names if depth[name] == level] for level in range(max(depth.values()) + 1)]


def _check_lengths(recipe: config.Recipe, names: Sequence[str]) -> None:
    """Refuse samples longer than the models that are to write them can read, before anything is trained."""
    for evaluation, component in recipe.evaluate.evaluations.items():
        longest = getattr(config.build("evaluations", component), "max_tokens", 0)
        for name in names:
            if recipe.runs[name].model is not None or evaluation not in (recipe.runs[name].evaluations or [evaluation]):
                continue
            context = recipe.train_of(name).context
            if longest > context - 2:  # a document start and a control token come first
                raise InputError(
                    f"evaluate.evaluations.{evaluation}.max_tokens is {longest}, but {name} is trained on sequences of {context} "
                    f"tokens, of which two are taken; set it to {context - 2} or less"
                )


def _side_by_side(recipe: config.Recipe, work: WorkFolder, names: list[str], progress: Listener) -> None:
    """Train and evaluate runs, as many at a time as the machine serves well: one on a GPU, one a core without."""
    import torch

    cores = usable_cores()
    jobs = min(recipe.jobs or (1 if torch.cuda.is_available() else cores), len(names))
    if jobs == 1:
        for name in names:
            train_and_evaluate(recipe, work, name, progress)
        return
    threads = max(1, cores // jobs)
    spawn = multiprocessing.get_context("spawn")
    messages: Any = spawn.Queue()
    with (
        _environment(OMP_NUM_THREADS=str(threads)),
        ProcessPoolExecutor(jobs, spawn, initializer=_begin_worker, initargs=(messages, threads)) as pool,
        _passing_signals_on(pool),
    ):
        for generation in _generations(recipe, names):
            futures = [pool.submit(_work, recipe, work, name) for name in generation]
            _listen(futures, messages, progress)
            # The first failure is raised when all have come to an end: no run is cut down because another's data is bad.
            for future in futures:
                future.result()


_messages: Any = None


def _begin_worker(messages: Any, threads: int) -> None:
    import torch

    global _messages
    _messages = messages
    torch.set_num_threads(threads)
    log.addHandler(logging.handlers.QueueHandler(messages))
    log.setLevel(logging.INFO)
    log.propagate = False
    # Ctrl-C reaches every process of a terminal, but the parent decides: it sends SIGTERM, once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop_measuring)


def _stop_measuring(number: int, _: Any) -> None:
    raise Stopped(number, "stopped while measuring; evaluations that were finished are kept")


def _work(recipe: config.Recipe, work: WorkFolder, name: str) -> None:
    train_and_evaluate(recipe, work, name, _messages.put)


def _listen(futures: list[Future[None]], messages: Any, progress: Listener) -> None:
    """Pass on what workers say until all are done."""
    while True:
        done = not wait(futures, timeout=0).not_done
        with contextlib.suppress(queue.Empty):
            while True:
                message = messages.get(timeout=0.2)
                if isinstance(message, Progress):
                    progress(message)
                else:
                    log.handle(message)
        if done:
            return


@contextlib.contextmanager
def _passing_signals_on(pool: ProcessPoolExecutor) -> Iterator[None]:
    """After SIGINT or SIGTERM let no further run begin and have the workers save their state and stop."""
    received = 0

    def stop(number: int, _: Any) -> None:
        nonlocal received
        received = number
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()

    usual = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except (Stopped, CancelledError) as stopped:
        raise Stopped(received, str(stopped).split(";")[0] or "stopped before a run began") from None
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


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
