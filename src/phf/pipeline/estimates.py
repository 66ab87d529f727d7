"""What a recipe amounts to before anything is started: what is done and what is left, tokens, samples, requests, disk, time."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from phf import artifacts, config, lm
from phf.errors import InputError
from phf.evaluate import EvaluationJob, HasWorkload, Workload, list_jobs
from phf.layout import RunFolder, WorkFolder
from phf.machine import usable_cores
from phf.pipeline.plan import schedule, select
from phf.pipeline.probe import ModelSpeed, Prober
from phf.records import read_records

CHARACTERS_PER_TOKEN = 4
"""Of samples and of corpora that are not tokenised yet: about that of GPT-2's tokenizer on English; with others it is less."""
_READING = 3.0  # a forward pass is a third of a training step's operations
_TOKENIZER_BYTES = 40  # of tokenizer.json, an entry of the vocabulary
_SMALL_FILES = 2_000  # bytes of a checkpoint's other files
_STATE_FILES = 20_000  # bytes of a state beside weights and moments
_SAMPLE_BYTES = 0.5  # of a Parquet file of samples, a character


@dataclass(frozen=True, slots=True)
class Item:
    """One stage, or one run's part of it.

    Args:
        stage: annotate, tokenize, train, evaluate or report.
        run: its name; None where the stage is of all runs.
        evaluation: as its records carry it.
        done: share that is done already.
        tokens: that the run trains on, those of the checkpoint that it is initialised from left out. Exact.
        samples: that the model writes, at all checkpoints. Exact.
        scored: texts that are scored, at most.
        requests: to servers, at most, by their address.
        disk: bytes that it leaves when it is done.
        seconds: that what is left takes on this machine; None if it is not known.
        basis: what `seconds` stands on: "measured" here, "estimated" from something measured, or why it is not known.
    """

    stage: str
    run: str | None = None
    evaluation: str | None = None
    done: float = 0.0
    tokens: int = 0
    samples: int = 0
    scored: int = 0
    requests: Mapping[str, int] = field(default_factory=dict)
    disk: float = 0.0
    seconds: float | None = None
    basis: str = ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """All items of a recipe, and what they are based on.

    Args:
        items: in the order of the stages.
        at_once: runs that are trained and evaluated side by side.
        seconds: of what is left, as far as it is known.
        unknown: items whose time is not known.
        notes: assumptions, in sentences.
    """

    items: Sequence[Item]
    at_once: int
    seconds: float
    unknown: int
    notes: Sequence[str]


def estimate(recipe: config.Recipe, out: Path, only: Sequence[str] = (), at_once: int = 1, seconds: float = 2.0) -> Estimate:
    """Estimate what running a recipe takes. Nothing is started, downloaded, asked or written.

    Args:
        recipe: the whole job.
        out: folder of its outputs, of which what is there counts as done.
        only: names of runs; all of the recipe's if empty.
        at_once: runs side by side.
        seconds: that each probe of this machine takes, about: of each shape of model, of the scorers, of the corpus. 0: none.

    Raises:
        InputError: as running the recipe does, for what can be known before anything is started.
    """
    expanded = recipe.expanded()
    names = select(expanded, only)
    work = WorkFolder(out)
    prober = Prober(expanded, work, seconds, max(1, usable_cores() // at_once))
    items = list(_of_corpus(expanded, work, prober, names))
    notes: list[str] = []
    asked_once: set[str] = set()
    for name in names:
        if expanded.runs[name].model is None:
            items.append(_training(expanded, work, name, prober))
        items += _evaluations(expanded, work, name, prober, asked_once)
    items.append(Item("report", seconds=None, basis="seconds to a minute"))
    if prober.vocabulary_is_assumed:
        notes.append(f"{expanded.tokenize.tokenizer} is not on this machine; a vocabulary of {prober.vocabulary:,} is assumed")
    notes += sorted({f"{item.stage}: {item.basis}" for item in items if item.seconds is None and item.stage != "report"})
    alone = sum(item.seconds or 0.0 for item in items if item.run is None)
    side_by_side = sum(item.seconds or 0.0 for item in items if item.run is not None) / at_once
    unknown = sum(item.seconds is None and item.done < 1 for item in items if item.stage != "report")
    return Estimate(items, at_once, alone + side_by_side, unknown, notes)


def _of_corpus(recipe: config.Recipe, work: WorkFolder, prober: Prober, names: Sequence[str]) -> Iterator[Item]:
    trains = any(recipe.runs[name].model is None for name in names)
    if not (trains or recipe.corpus.inputs or recipe.corpus.source):
        return
    annotated = (work.annotated / "manifest.json").exists() and _finished(work.annotated / "manifest.json")
    if annotated:
        yield Item("annotate", done=1.0, disk=_bytes_in(work.annotated), seconds=0.0, basis="done")
        characters = math.nan
    else:
        size = prober.corpus()
        characters = size.characters
        workers = recipe.annotate.workers or usable_cores()
        known = None if math.isnan(size.seconds) else size.seconds / workers
        disk = 0.0 if math.isnan(characters) else _SAMPLE_BYTES * characters
        yield Item("annotate", requests=_of_judges(recipe), disk=disk, seconds=known, basis=size.reason or "measured")
    if not trains:
        return
    if (work.tokens / "meta.json").exists() and _finished(work.tokens / "meta.json"):
        yield Item("tokenize", done=1.0, disk=_bytes_in(work.tokens), seconds=0.0, basis="done")
        return
    width = 2 if prober.vocabulary + 2 <= 2**16 else 4
    disk = 0.0 if math.isnan(characters) else width * characters / CHARACTERS_PER_TOKEN
    yield Item("tokenize", disk=disk, basis="it is short beside annotating, and not measured")


def _of_judges(recipe: config.Recipe) -> dict[str, int]:
    """Return the most requests that annotating may make: the budgets of its judges."""
    scorers = [recipe.annotate.scorer, *recipe.annotate.also.values()]
    return {scorer.fields["url"]: scorer.fields["max_calls"] for scorer in scorers if scorer.name == "judge"}


def _training(recipe: config.Recipe, work: WorkFolder, name: str, prober: Prober) -> Item:
    """Return what training a run amounts to; its tokens are exact, its checkpoints' bytes within some percent."""
    plan, folder = schedule(recipe, name), RunFolder(work.run(name))
    tokens = plan.steps * plan.step_tokens
    step = plan.steps if folder.checkpoint(plan.steps).exists() else max(folder.states(), default=0)
    done = min(1.0, step / plan.steps)
    speed = prober.model(name)
    disk = _training_bytes(recipe, name, speed, prober.vocabulary, len(plan.checkpoints()))
    if done == 1:
        return Item("train", name, done=1.0, tokens=tokens, disk=disk, seconds=0.0, basis="done")
    seconds = None if math.isnan(speed.trains) else (1 - done) * tokens / speed.trains
    return Item("train", name, done=done, tokens=tokens, disk=disk, seconds=seconds, basis=speed.reason or "measured")


def _training_bytes(recipe: config.Recipe, name: str, speed: ModelSpeed, vocabulary: int, checkpoints: int) -> float:
    """Return the bytes of a run's checkpoints and of its last state: float32 weights, and these with two moments."""
    if speed.parameters is None:
        return 0.0
    objective = config.build("objectives", recipe.runs[name].objective)
    new = len(objective.control_tokens)
    weights = 4 * (speed.parameters + new * speed.width + (speed.width + 1 if objective.needs_value else 0))
    return checkpoints * (weights + _TOKENIZER_BYTES * (vocabulary + new) + _SMALL_FILES) + 3 * weights + _STATE_FILES


def _evaluations(recipe: config.Recipe, work: WorkFolder, name: str, prober: Prober, asked_once: set[str]) -> Iterator[Item]:
    run, options = recipe.runs[name], recipe.evaluate
    evaluations = run.evaluations or list(options.evaluations)
    steps = sorted(schedule(recipe, name).checkpoints()) if run.model is None else [0]
    controls = config.build("objectives", run.objective).control_tokens
    records = RunFolder(work.run(name)).records
    recorded = {(record.evaluation, record.step) for record in read_records(records)} if records.exists() else set()
    for job in list_jobs(options, evaluations, controls):
        at = steps if options.checkpoints_of(job.name.base) == "all" else steps[-1:]
        here = [(str(job.name), step) in recorded for step in at]
        if run.model is not None:
            here = [any(evaluation == str(job.name) for evaluation, _ in recorded)]
        yield _evaluation(recipe, name, job, prober, len(at), sum(here) / len(at), asked_once)


def _evaluation(
    recipe: config.Recipe, name: str, job: EvaluationJob, prober: Prober, times: int, done: float, asked_once: set[str]
) -> Item:
    """Return what one evaluation of all its checkpoints amounts to; its samples are exact."""
    evaluation = config.build("evaluations", job.component)
    if not isinstance(evaluation, HasWorkload):
        basis = "done" if done == 1 else f"{job.component.name} does not tell what it amounts to"
        return Item("evaluate", name, str(job.name), done, seconds=0.0 if done == 1 else None, basis=basis)
    try:
        load = evaluation.workload()
    except InputError as error:
        return Item("evaluate", name, str(job.name), done, basis=str(error))
    scorer, key = _scorer_of(recipe, job)
    requests: dict[str, int] = {}
    for address, count in [*((one, times * many) for one, many in load.asked.items()), *load.asked_once.items()]:
        if address.startswith(lm.SERVER) and address not in asked_once:
            requests[address] = requests.get(address, 0) + count
        asked_once |= {address} & load.asked_once.keys()
    model = recipe.runs[name].model
    if model is not None and model.startswith(lm.SERVER):
        requests[model] = times * (load.samples + load.read)
    if scorer is not None and scorer.name == "judge" and load.scored:
        requests[str(scorer.fields["url"])] = times * load.scored
    seconds, basis = _evaluation_seconds(name, model, load, prober, scorer, key)
    left = None if seconds is None else times * (1 - done) * seconds
    disk = times * load.samples * load.tokens * CHARACTERS_PER_TOKEN * _SAMPLE_BYTES
    return Item(
        "evaluate", name, str(job.name), done, 0, times * load.samples, times * load.scored, requests, disk,
        0.0 if done == 1 else left, "done" if done == 1 else basis,
    )  # fmt: skip


def _evaluation_seconds(
    run: str, model: str | None, load: Workload, prober: Prober, scorer: config.Component | None, key: str
) -> tuple[float | None, str]:
    """Return how long an evaluation of one checkpoint takes, if every sample is as long as it may be."""
    if model is not None:
        return None, f"how fast {model} is, is not known before it is loaded"
    speed = prober.model(run)
    if math.isnan(speed.samples):
        return None, speed.reason or "no speed was measured"
    seconds = load.samples * load.tokens / speed.samples + load.read * load.read_tokens / (_READING * speed.trains)
    basis = "sampling measured, as if every sample were as long as it may be" if load.samples else "estimated from training"
    if scorer is not None and load.scored:
        each = prober.score_seconds(scorer, key, min(2000, CHARACTERS_PER_TOKEN * load.tokens))
        if math.isnan(each):
            return seconds, f"{basis}; without scoring by {scorer.name}, which is not measured"
        seconds, basis = seconds + load.scored * each, f"{basis}; scoring measured on a made-up text"
    return seconds, basis


def _scorer_of(recipe: config.Recipe, job: EvaluationJob) -> tuple[config.Component | None, str]:
    """Return what scores the samples of an evaluation, and its key in the recipe."""
    own = job.component.fields.get("scorer")
    if own is not None:
        return config.Component.model_validate(own), f"evaluate.evaluations.{job.name.base}.scorer"
    scorer = recipe.annotate.scorer
    if scorer.name == "published":
        samples = scorer.fields.get("samples")
        return (None if samples is None else config.Component.model_validate(samples)), "annotate.scorer.samples"
    return scorer, "annotate.scorer"


def _finished(path: Path) -> bool:
    return bool(artifacts.read_json(path).get("finished"))


def _bytes_in(folder: Path) -> float:
    return float(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
