"""A recipe run from corpus to report, stage after stage, each resumable; runs are trained and evaluated side by side."""

import functools
from collections.abc import Sequence
from pathlib import Path

from phf import artifacts, config
from phf.layout import ORIGIN, WorkFolder
from phf.locks import locks_output
from phf.machine import usable_cores, visible_gpus
from phf.pipeline.estimates import Estimate as Estimate
from phf.pipeline.estimates import Item as Item
from phf.pipeline.estimates import estimate as estimate
from phf.pipeline.needs import Need as Need
from phf.pipeline.needs import check_files
from phf.pipeline.needs import find_needs as find_needs
from phf.pipeline.plan import init_run
from phf.pipeline.plan import select as select
from phf.pipeline.stages import train_and_evaluate
from phf.pipeline.status import RunStatus as RunStatus
from phf.pipeline.status import WorkStatus as WorkStatus
from phf.pipeline.status import find_status as find_status
from phf.pipeline.workers import Job, run_jobs
from phf.progress import Listener, silent


def run(recipe: config.Recipe, out: Path, only: Sequence[str] = (), on_progress: Listener = silent, origin: str = "") -> Path:
    """Run a recipe: annotate, tokenize, then train and evaluate each run, then report. What is done already is left alone.

    Args:
        recipe: the whole job.
        out: folder of all its outputs.
        only: names of runs to train and evaluate, all seeds of each; all of the recipe's if empty. The
            report shows every run that there is.
        on_progress: called with the progress of every stage.
        origin: the file that the recipe was read from, and its commit, for the report's page.

    Returns:
        The report's page.

    Raises:
        InputError: as the stages do; and for a recipe without runs, or an unknown name in `only`.
        Stopped: after SIGINT or SIGTERM during training, with the states saved.
    """
    expanded = recipe.expanded()
    names = select(expanded, only)
    check_files(expanded, names)
    return _run(expanded, out, names, on_progress, recipe, origin)


@locks_output("run")
def _run(
    recipe: config.Recipe, out: Path, names: list[str], on_progress: Listener, as_written: config.Recipe, origin: str
) -> Path:
    from phf.annotate import annotate
    from phf.report import report
    from phf.tokenize import tokenize

    work = WorkFolder(out)
    with artifacts.whole_file(work.recipe) as temporary:
        head = f"{ORIGIN}{' '.join(origin.split())}\n" if origin else ""
        temporary.write_text(head + config.dump(as_written), encoding="utf-8")
    trains = any(recipe.runs[name].model is None for name in names)
    if trains or recipe.corpus.inputs or recipe.corpus.source:
        annotate(recipe.corpus, recipe.annotate, work.annotated, on_progress)
    if trains:
        tokenize(work.annotated, work.tokens, recipe.tokenize, on_progress)
    _train_and_evaluate_all(recipe, work, names, on_progress)
    every = [work.run(name) for name in recipe.runs if work.run(name).exists()]
    return report(every, work.report, recipe.report, on_progress)


def _train_and_evaluate_all(recipe: config.Recipe, work: WorkFolder, names: list[str], on_progress: Listener) -> None:
    """Train and evaluate runs, as many at a time as the machine serves well: one on each GPU, one a core without."""
    at_once = jobs_at_once(recipe, len(names))
    if at_once == 1:
        for name in names:
            train_and_evaluate(recipe, work, name, on_progress)
        return
    jobs = [Job(name, functools.partial(train_and_evaluate, recipe, work, name), init_run(recipe, name)) for name in names]
    run_jobs(jobs, at_once, max(1, usable_cores() // at_once), on_progress, visible_gpus())


def jobs_at_once(recipe: config.Recipe, runs: int) -> int:
    """Return how many of so many runs are trained side by side: `jobs`; else one on each GPU, one a core without."""
    return min(recipe.jobs or len(visible_gpus()) or usable_cores(), runs)
