"""A recipe run from corpus to report, stage after stage, each resumable; runs are trained and evaluated side by side."""

import functools
from collections.abc import Sequence
from pathlib import Path

from phf import artifacts, config, object_store, ray_cluster
from phf.errors import InputError
from phf.layout import ORIGIN, RunFolder, WorkFolder
from phf.locks import locks_output
from phf.machine import usable_cores, visible_gpus
from phf.pipeline.estimates import Estimate as Estimate
from phf.pipeline.estimates import Item as Item
from phf.pipeline.estimates import estimate as estimate
from phf.pipeline.jobs import Job, run_in
from phf.pipeline.needs import Need as Need
from phf.pipeline.needs import check_files
from phf.pipeline.needs import find_needs as find_needs
from phf.pipeline.plan import run_before
from phf.pipeline.plan import select as select
from phf.pipeline.ray_workers import RayCluster, shares
from phf.pipeline.stages import train_and_evaluate
from phf.pipeline.status import RunStatus as RunStatus
from phf.pipeline.status import WorkStatus as WorkStatus
from phf.pipeline.status import find_status as find_status
from phf.pipeline.workers import run_jobs
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
    if recipe.engine == "ray" and object_store.address_of(out):
        raise InputError(
            f"engine=ray: runs are written to a folder that all nodes share, but --out is {object_store.address_of(out)}; give a "
            "shared folder, or leave out --engine (annotate.engine=ray takes an address)"
        )
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
        object_store.fetch_missing(work.annotated)
    if trains:
        tokenize(work.annotated, work.tokens, recipe.tokenize, on_progress)
    _train_and_evaluate_all(recipe, work, names, on_progress)
    every = [work.run(name) for name in recipe.runs if work.run(name).exists()]
    return report(every, work.report, recipe.report, on_progress)


def _train_and_evaluate_all(recipe: config.Recipe, work: WorkFolder, names: list[str], on_progress: Listener) -> None:
    """Train and evaluate runs, as many at a time as the machine serves well: one on each GPU, one a core without."""
    if recipe.engine == "ray":
        _train_and_evaluate_on_ray(recipe, work, names, on_progress)
        return
    at_once = jobs_at_once(recipe, len(names))
    if at_once == 1:
        for name in names:
            train_and_evaluate(recipe, work, name, on_progress)
        return
    run_jobs(_jobs(recipe, work, names), at_once, max(1, usable_cores() // at_once), on_progress, visible_gpus())


def _jobs(recipe: config.Recipe, work: WorkFolder, names: list[str]) -> list[Job]:
    return [Job(name, functools.partial(train_and_evaluate, recipe, work, name), run_before(recipe, name)) for name in names]


def _train_and_evaluate_on_ray(recipe: config.Recipe, work: WorkFolder, names: list[str], on_progress: Listener) -> None:
    """Train and evaluate runs over a Ray cluster whose nodes share the work folder."""
    shared = WorkFolder(work.path.absolute())
    with ray_cluster.connected(recipe.annotate.address, "engine=ray") as ray:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        at_once, cores, gpus = shares(nodes, recipe.jobs, len(names))
        run_in(RayCluster(ray, cores, gpus), _jobs(recipe, shared, names), at_once, on_progress)
    for name in names:
        if not RunFolder(shared.run(name)).records.exists():
            raise InputError(
                f"{shared.run(name)}: was trained by a node of the cluster, but is not there; with engine=ray the output folder "
                "must be on a file system that all nodes share"
            )


def jobs_at_once(recipe: config.Recipe, runs: int) -> int:
    """Return how many of so many runs are trained side by side: `jobs`; else one on each GPU, one a core without."""
    return min(recipe.jobs or len(visible_gpus()) or usable_cores(), runs)
