"""The stage that measures a model: each evaluation of the recipe, under each control token asked for, into records."""

import functools
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phf import artifacts, config, lm
from phf.documents import AnnotatedCorpus, Document, is_held_out
from phf.errors import InputError
from phf.evaluate.jobs import EvaluationJob, list_jobs
from phf.evaluate.journal import Journal
from phf.evaluate.prompts import prompts_in, read_prompts
from phf.evaluate.protocol import (
    EvalContext,
    Evaluation,
    HasThresholds,
    HasWorkload,
    NamedModel,
    OfControl,
    OfRun,
    OfSamples,
    ReadsFiles,
    ReadsInputs,
    Sweep,
    Workload,
    hashed_subset,
)
from phf.evaluate.thresholds import CorpusThresholds, default_threshold, objectives_beside
from phf.layout import RunFolder, WorkFolder
from phf.locks import locks_output
from phf.plugins import suggestion
from phf.progress import Listener, silent
from phf.records import EvaluationName, Record
from phf.trackers import track_evaluations

__all__ = [
    "EvalContext", "Evaluation", "EvaluationJob", "HasThresholds", "HasWorkload", "NamedModel", "OfControl", "OfRun", "OfSamples",
    "ReadsFiles", "ReadsInputs", "Sweep", "Workload", "evaluate", "hashed_subset", "list_jobs", "prompts_in", "read_prompts",
]  # fmt: skip

log = logging.getLogger("phf")


@locks_output("evaluate")
def evaluate(
    model: str,
    annotated: Path,
    options: config.Evaluate,
    out: Path,
    held_out: float,
    *,
    evaluations: Collection[str] | None = None,
    on_progress: Listener = silent,
    named: NamedModel | None = None,
    objectives: Sequence[config.Component] = (),
    trackers: Sequence[str] = (),
) -> list[Record]:
    """Make every evaluation of a recipe, of a run's last checkpoint or of all, and append its records to `records.jsonl`.

    An evaluation that this model's records hold already is left alone; one that was made of other weights, on other data or
    with other fields is made again, and its old records are replaced. Records are written evaluation by evaluation: a failure
    keeps those before it.

    Args:
        model: a run's folder, `hf:NAME` or `openai:URL#MODEL`; see `phf.lm.load`.
        annotated: folder that `annotate` wrote: names the scorer and segmenter, and holds the held-out documents.
        options: the evaluations.
        out: the run's folder, for records and samples.
        held_out: share of the documents that are held out.
        evaluations: names of those to make; all of the recipe's if None.
        on_progress: called with the progress of each.
        named: what is known of a model that phf did not train; its scorer and segmenter serve where there is no corpus.
        objectives: those of the recipe's runs, whose threshold is the default of evaluations; by default those of the runs that
            lie beside `out`.
        trackers: that get the records and samples too, besides those that the run was trained with.

    Returns:
        The records of all evaluations asked for, new and old.

    Raises:
        InputError: for a name that is not among the evaluations, a folder that `annotate` did not write, and as evaluations do.
    """
    for name in evaluations or ():
        if name not in options.evaluations:
            raise InputError(f"unknown evaluation {name!r}{suggestion(name, options.evaluations)}")
    wanted = [name for name in options.evaluations if evaluations is None or name in evaluations]
    corpus = _Corpus(annotated, held_out, named)
    work = WorkFolder.of_annotated(annotated)
    thresholds = CorpusThresholds(
        lambda: default_threshold(objectives or objectives_beside(out)), work.tokens, corpus.training if corpus.exists else None
    )
    stage = _Stage(options, corpus, named, thresholds, out, work.shared, on_progress)
    checkpoints = [model]
    if any(options.checkpoints_of(name) == "all" for name in wanted):
        checkpoints = lm.checkpoints_of(model)
    records: list[Record] = []
    for number, checkpoint in enumerate(checkpoints, start=1):
        last = number == len(checkpoints)
        names = [name for name in wanted if last or options.checkpoints_of(name) == "all"]
        records += stage.measure(checkpoint, names, asked_for=evaluations is not None)
    track_evaluations(RunFolder(out), named.run if named else out.resolve().name, trackers)
    return records


class _Corpus:
    """What evaluations ask of the annotated corpus."""

    def __init__(self, folder: Path, held_out: float, named: NamedModel | None) -> None:
        segmenter, scorer = (named.segmenter, named.scorer) if named else (None, None)
        self.annotated, self.share = AnnotatedCorpus(folder, segmenter, scorer), held_out
        self.scorer = config.build("scorers", scorer or self.annotated.require("scorer"))
        self.segmenter = config.build("segmenters", segmenter or self.annotated.require("segmenter"))

    @property
    def exists(self) -> bool:
        """Whether there are documents."""
        return self.annotated.folder.exists()

    def training(self) -> Iterator[Document]:
        """Yield the documents that are not held out."""
        return (document for document in self.annotated.documents() if not is_held_out(document.id, self.share))

    @functools.cached_property
    def held_out(self) -> list[Document]:
        """The held-out documents, in an order that does not depend on the corpus's."""
        return hashed_subset((document for document in self.annotated.documents() if is_held_out(document.id, self.share)), None)


@dataclass(frozen=True)
class _Stage:
    """The stage, for any number of checkpoints."""

    options: config.Evaluate
    corpus: _Corpus
    named: NamedModel | None
    thresholds: CorpusThresholds
    out: Path
    shared: Path
    on_progress: Listener

    def measure(self, model: str, names: Collection[str], asked_for: bool) -> list[Record]:
        """Make the named evaluations of one checkpoint; its records, new and old."""
        run, step, controls = _identity(model)
        run = self.named.run if self.named else run
        weights = lm.fingerprint(model)
        load = functools.cache(lambda control: lm.load(model, control))
        journal = Journal(self.out, run, step)
        records: list[Record] = []
        for job in list_jobs(self.options, names, controls, asked_for):
            evaluation: Evaluation = config.build("evaluations", job.component)
            made_from: dict[str, Any] = {
                "model": weights,
                "evaluation": config.plain(job.component),
                "seed": self.options.seed,
                "held_out": self.corpus.share,
                **_recorded(self.named),
                "corpus": artifacts.fingerprint(self.corpus.annotated.made_from),
            }
            if isinstance(evaluation, ReadsInputs) and (reads := evaluation.reads()):
                made_from["reads"] = dict(reads)
            if isinstance(evaluation, OfSamples):
                made_from["of"] = self._source_of(evaluation)
            thresholds: dict[str, float] = {}
            if isinstance(evaluation, HasThresholds):
                thresholds = {key: self.thresholds.resolve(value) for key, value in evaluation.thresholds().items()}
                made_from["thresholds"] = thresholds
            name = str(job.name)
            own = journal.find(name, made_from)
            if own is None:
                self.thresholds.warn(name, thresholds.items())
                own = list(evaluation.measure(load(job.control), self._context(run, step, name, thresholds)))
                _warn_of_nothing(name, own)
                journal.add(name, made_from, own)
            records += own
        return records

    def _source_of(self, evaluation: OfSamples) -> Any:
        """Return the configuration of the evaluation whose samples are read: with other samples, it is made again."""
        base = EvaluationName.parse(evaluation.of).base
        return config.plain(self.options.evaluations[base]) if base in self.options.evaluations else None

    def _context(self, run: str, step: int, name: str, thresholds: Mapping[str, float]) -> EvalContext:
        corpus = self.corpus
        return EvalContext(
            run, step, name, self.out, corpus.scorer, corpus.segmenter, self.options.seed, lambda: corpus.held_out,
            self.on_progress, self.shared, thresholds,
        )  # fmt: skip


def _recorded(named: NamedModel | None) -> dict[str, Any]:
    """Return what of a model's description its records depend on."""
    components = {"segmenter": named.segmenter, "scorer": named.scorer} if named else {}
    recorded = {role: config.plain(component) for role, component in components.items() if component is not None}
    return {"named": recorded} if recorded else {}


def _identity(model: str) -> tuple[str, int, tuple[str, ...]]:
    if lm.check_spec(model).startswith(lm.SERVER):
        return model, 0, ()
    checkpoint = lm.find_checkpoint(model)
    return checkpoint.run, checkpoint.step, checkpoint.control_tokens


def _warn_of_nothing(name: str, records: list[Record]) -> None:
    """Warn loudly of numbers that nothing stands behind."""
    empty = [record.metric for record in records if record.n == 0 and record.value != record.value]
    empty = [metric for metric in empty if not metric.endswith((".low", ".high"))]
    if empty:
        log.warning("%s MEASURED NOTHING: n = 0 for %s; the page will show no number for it", name, ", ".join(empty))
