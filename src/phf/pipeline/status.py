"""How far a work folder has come: which stages and runs are done, begun or damaged, and how long training takes yet."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from phf import artifacts, config
from phf.config import read_recipe, read_yaml
from phf.errors import InputError
from phf.layout import RunFolder, WorkFolder
from phf.locks import owner
from phf.pipeline.plan import schedule
from phf.records import EvaluationName
from phf.train import read_schedule

State = Literal["done", "begun", "not begun", "damaged"]
_RECENT = 20
"""Lines of metrics that the speed is taken from."""


@dataclass(frozen=True, slots=True)
class StageStatus:
    """How far one stage of all runs has come.

    Args:
        stage: annotate, tokenize or report.
        state: of it.
        facts: what is there; of a damaged stage, what is wrong and what to do.
    """

    stage: str
    state: State
    facts: str


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How far one run has come.

    Args:
        run: its name.
        state: of its training and evaluation together.
        tokens: that it was trained on; 0 for a finished model that is only evaluated.
        total: its budget; None if it is not known.
        speed: tokens a second, lately; None before the first line of metrics.
        evaluated: evaluations whose records are there.
        missing: evaluations of the recipe whose records are not there yet.
        fault: of a damaged run, what is wrong and what to do.
    """

    run: str
    state: State
    tokens: int = 0
    total: int | None = None
    speed: float | None = None
    evaluated: Sequence[str] = ()
    missing: Sequence[str] = ()
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class WorkStatus:
    """How far a work folder has come.

    Args:
        folder: the folder.
        at_work: who works there now, as its lock says; None if nobody does.
        stages: annotate, tokenize, report.
        runs: those of the recipe, in its order, then others that are there.
        at_once: how many runs the recipe trains side by side, if it says so.
    """

    folder: Path
    at_work: Mapping[str, Any] | None
    stages: Sequence[StageStatus]
    runs: Sequence[RunStatus]
    at_once: int | None

    def training_left(self) -> float | None:
        """Return the seconds that training takes yet, at the speed of late; None if no run has been timed yet.

        A run that has not begun is expected to be as fast as the others. Evaluations come on top.
        """
        speeds = [run.speed for run in self.runs if run.speed]
        left = [(run.total - run.tokens, run.speed) for run in self.runs if run.total and run.tokens < run.total]
        if not left:
            return 0.0
        if not speeds:
            return None
        mean = sum(speeds) / len(speeds)
        return sum(tokens / (speed or mean) for tokens, speed in left) / min(self.at_once or 1, len(left))


def find_status(folder: Path) -> WorkStatus:
    """Read how far the work folder of a recipe has come. Nothing is changed, and nobody who works there is disturbed.

    Args:
        folder: as `phf run --out` was given it.

    Raises:
        InputError: if there is no such folder, nothing of phf in it, or a recipe.yaml that cannot be read.
    """
    work = WorkFolder(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the work folder of a recipe, such as work/NAME")
    recipe = read_recipe(work.recipe).expanded() if work.recipe.exists() else None
    there = [path.name for path in sorted(work.runs.iterdir()) if path.is_dir()] if work.runs.is_dir() else []
    if recipe is None and not there and not any(path.exists() for path in (work.annotated, work.tokens)):
        raise InputError(f"{folder}: nothing of phf in it yet; `phf run RECIPE --out {folder}` writes there")
    names = list(dict.fromkeys([*(recipe.runs if recipe else ()), *there]))
    runs = [_run(work.run(name), name, recipe) for name in names]
    stages = [_stage("annotate", _annotated, work), _stage("tokenize", _tokens, work), _stage("report", _report, work)]
    return WorkStatus(folder, owner(folder), stages, runs, recipe.jobs if recipe else None)


def _stage(name: str, look: Callable[[WorkFolder], tuple[State, str]], work: WorkFolder) -> StageStatus:
    try:
        return StageStatus(name, *look(work))
    except InputError as error:
        return StageStatus(name, "damaged", str(error))


def _annotated(work: WorkFolder) -> tuple[State, str]:
    from phf.annotate import JOURNAL, read_manifest

    if not work.manifest.exists():
        return "not begun", ""
    manifest = read_manifest(work.manifest)
    if manifest["finished"]:
        if gone := [name for name in manifest["parts"] if not (work.annotated / name).exists()]:
            raise InputError(f"{work.annotated / gone[0]}: missing; `phf run` or `phf annotate` scores it again")
        return (
            "done",
            f"{manifest['documents']:,} documents, {manifest['segments']:,} segments, {manifest['unscored']:,} unscored",
        )
    parts = {line.get("part"): line for line in _lines(work.annotated / JOURNAL, "annotate", ("part", "documents"))}
    documents = sum(line["documents"] for line in parts.values())
    return "begun", f"{documents:,} documents in {len(parts):,} parts so far"


def _tokens(work: WorkFolder) -> tuple[State, str]:
    from phf.tokens import TokenStore

    if not work.token_counts.exists():
        return ("begun" if work.tokens.exists() else "not begun"), ""
    noted = artifacts.read_json(work.token_counts)
    counts = noted.get("counts", {}) if isinstance(noted, dict) else {}
    facts = f"{counts.get('tokens', 0):,} tokens of {counts.get('documents', 0):,} documents"
    if isinstance(noted, dict) and not noted.get("finished"):
        return "begun", f"{facts} so far"
    TokenStore.open(work.tokens)
    return "done", facts


def _report(work: WorkFolder) -> tuple[State, str]:
    if not work.page.exists():
        return "not begun", ""
    written = work.page.stat().st_mtime
    runs = sorted(work.runs.iterdir()) if work.runs.is_dir() else []
    newer = [run.name for run in runs if (path := RunFolder(run).records).exists() and path.stat().st_mtime > written]
    return ("begun", f"older than the records of {', '.join(newer)}") if newer else ("done", str(work.page))


def _run(path: Path, name: str, recipe: config.Recipe | None) -> RunStatus:
    """Read how far a run has come; whatever is wrong in its folder is its fault, not that of the others."""
    if recipe is None or name not in recipe.runs:
        recipe = None
    folder = RunFolder(path)
    try:
        total = _budget(folder, name, recipe)
        tokens, speed = _trained(folder)
        wanted = _wanted(recipe, name) if recipe else []
        evaluated = list(dict.fromkeys(_evaluated(folder)))
    except InputError as error:
        return RunStatus(name, "damaged", fault=str(error))
    missing = [evaluation for evaluation in wanted if evaluation not in evaluated]
    is_trained = total is None or tokens >= total or (recipe is not None and recipe.runs[name].model is not None)
    begun = tokens > 0 or bool(evaluated) or folder.metrics.exists()
    state: State = "done" if is_trained and begun and not missing else "begun" if begun else "not begun"
    return RunStatus(name, state, tokens, total, speed, evaluated, missing)


def _budget(folder: RunFolder, name: str, recipe: config.Recipe | None) -> int | None:
    """Return the tokens that a run ends with: whole steps of its budget; None for what is not trained here."""
    if recipe is not None:
        plan = None if recipe.runs[name].model is not None else schedule(recipe, name)
    else:
        trained = folder.config.exists() and "train" in read_yaml(folder.config)
        plan = read_schedule(folder) if trained else None
    return plan.tokens(plan.steps) if plan else None


def _trained(folder: RunFolder) -> tuple[int, float | None]:
    """Return the tokens that a run was trained on, and its tokens a second of late."""
    lines = list(_lines(folder.metrics, "train", ("tokens",)))
    if not lines:
        return 0, None
    speeds = [line["tokens_per_second"] for line in lines[-_RECENT:] if line.get("tokens_per_second")]
    return int(lines[-1]["tokens"]), len(speeds) / sum(1 / speed for speed in speeds) if speeds else None


def _lines(path: Path, stage: str, numbers: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the lines of a JSON Lines file of a stage, each with these numbers."""
    for number, line in enumerate(artifacts.whole_lines(path), start=1):
        try:
            fields = json.loads(line)
            if not all(math.isfinite(fields[name]) for name in numbers):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{path}, line {number}: damaged, not what `phf {stage}` wrote; restore the file from a copy, or delete it"
            ) from None
        yield fields


def _evaluated(folder: RunFolder) -> Iterator[str]:
    """Yield the evaluations of a run that are noted, by the name they have in a recipe."""
    from phf.records import read_records

    if folder.records.exists():
        for record in read_records(folder.records):
            yield EvaluationName.parse(record.evaluation).base


def _wanted(recipe: config.Recipe, name: str) -> list[str]:
    """Return the evaluations that a run is to have: those of the recipe that are for models like it."""
    from phf.evaluate import OfControl

    run = recipe.runs[name]
    names = run.evaluations or list(recipe.evaluate.evaluations)
    if run.model is not None or config.build("objectives", run.objective).control_tokens:
        return names
    built = {each: config.build("evaluations", recipe.evaluate.evaluations[each]) for each in names}
    return [each for each in names if not (isinstance(built[each], OfControl) and built[each].needs_control)]
