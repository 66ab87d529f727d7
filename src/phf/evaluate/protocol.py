"""What an evaluation is, what it is called with, and what a caller may ask of it besides.

An evaluation has `measure`. What else a caller may ask of it stands in a protocol of its own, which callers test for with
`isinstance`; an evaluation need not inherit from any of them.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from phf import config, lm, per_example
from phf.documents import Document
from phf.layout import RunFolder
from phf.progress import Listener, Progress, silent
from phf.records import EvaluationName, Record, stamp
from phf.scorers import Scorer
from phf.segmenters import Segmenter
from phf.statistics import Estimate
from phf.thresholds import Threshold, resolved


@dataclass(frozen=True)
class NamedModel:
    """What is known of a model that phf did not train, beside what its name tells.

    Args:
        run: what records call it.
        segmenter: what cuts its samples; the corpus's by default.
        scorer: what scores them; the corpus's by default.
    """

    run: str
    segmenter: config.Component | None = None
    scorer: config.Component | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """What making an evaluation of one checkpoint amounts to, as far as its fields tell.

    Args:
        samples: texts that the model writes.
        tokens: of one of them, at most.
        scored: texts that are scored, at most.
        read: texts whose probability the model is asked for.
        read_tokens: of one of them, at most.
        asked: the most requests to other models, by how `phf.lm.load` names these.
        asked_once: the same, of requests that are made once for all runs and checkpoints.
    """

    samples: int = 0
    tokens: int = 0
    scored: int = 0
    read: int = 0
    read_tokens: int = 0
    asked: Mapping[str, int] = field(default_factory=dict)
    asked_once: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class EvalContext:
    """What an evaluation has at hand besides the model.

    Args:
        run: name of the run that is measured.
        step: its optimiser step.
        name: of the evaluation, as its records carry it; see `phf.records.EvaluationName`.
        out: the run's folder; samples go to `samples/` in it.
        scorer: what scored the training corpus.
        segmenter: what cut it.
        seed: of everything random.
        read_held_out: reads the held-out documents; see `held_out`.
        on_progress: called with the evaluation's progress.
        shared: folder for what all runs of a recipe share; one in `out` by default.
        thresholds: those of the evaluation as rewards, by name; see `threshold`.
    """

    run: str
    step: int
    name: str
    out: Path
    scorer: Scorer
    segmenter: Segmenter
    seed: int
    read_held_out: Callable[[], Sequence[Document]]
    on_progress: Listener = silent
    shared: Path | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)

    @property
    def shared_folder(self) -> Path:
        """The folder of what all runs of a recipe share."""
        return self.shared or self.out / "shared"

    @property
    def held_out(self) -> Sequence[Document]:
        """The documents no run was trained on, with rewards, in an order that does not depend on the corpus's."""
        return self.read_held_out()

    def threshold(self, name: str, configured: Threshold | None) -> float:
        """Return a threshold of the evaluation as a reward: as the stage resolved it, else as configured; 0 by default.

        Raises:
            InputError: for a quantile that was not resolved.
        """
        if name in self.thresholds:
            return self.thresholds[name]
        return 0.0 if configured is None else resolved(configured)

    def samples_of(self, evaluation: str) -> Path:
        """Return the file with the samples of an evaluation, under the same control token as this one unless it names its own."""
        name = EvaluationName.parse(evaluation)
        if name.control == "own":
            name = name.under(EvaluationName.parse(self.name).control)
        return RunFolder(self.out).samples_of(str(name), self.step)

    def write_per_example(self, ids: Sequence[str], metrics: Mapping[str, per_example.Parts]) -> None:
        """Write what was measured example by example, so that runs can be compared on the same ones; see `phf.per_example`."""
        per_example.write(RunFolder(self.out).per_example_of(self.name, self.step), ids, metrics)

    def record(self, metric: str, value: float, stderr: float = float("nan"), n: int = 0) -> Record:
        """Return the record of one number."""
        return Record(self.run, self.step, self.name, metric, float(value), float(stderr), n, stamp())

    def records(self, metric: str, estimate: Estimate, interval: bool = True) -> Iterator[Record]:
        """Yield the records of an estimate: the metric, and `.low` and `.high`, the ends of its 95% interval."""
        yield self.record(metric, estimate.value, estimate.stderr, estimate.n)
        if interval:
            yield self.record(f"{metric}.low", estimate.low, n=estimate.n)
            yield self.record(f"{metric}.high", estimate.high, n=estimate.n)

    def report(self, done: float, total: float | None, unit: str) -> None:
        """Report progress."""
        self.on_progress(Progress(f"evaluate {self.run} {self.name}", done, total, unit))


@runtime_checkable
class Evaluation(Protocol):
    """A dataclass whose fields are its configuration, found by its entry point in `phf.evaluations`."""

    def measure(self, model: lm.LanguageModel, setting: EvalContext) -> Iterable[Record]:
        """Measure a model, whose control token is bound already.

        Raises:
            InputError: if it cannot be measured so.
        """


@runtime_checkable
class OfSamples(Evaluation, Protocol):
    """An evaluation of the samples that another one keeps; it is made after all others.

    Attributes:
        of: name of the other evaluation.
    """

    @property
    def of(self) -> str:
        """The name of the evaluation whose samples are read."""


@runtime_checkable
class OfControl(Evaluation, Protocol):
    """An evaluation that may be for models with control tokens alone.

    Attributes:
        needs_control: whether it is; a recipe's runs without control tokens are then not measured.
    """

    @property
    def needs_control(self) -> bool:
        """Whether only models with control tokens can be measured."""


@runtime_checkable
class Sweep(Evaluation, Protocol):
    """An evaluation at several settings, each with records of its own, so that a stopped one resumes from where it stopped."""

    def parts(self, name: EvaluationName) -> Mapping[EvaluationName, Mapping[str, Any]]:
        """Return, for each setting, the name of its evaluation and the fields that differ.

        Args:
            name: of the sweep.
        """


@runtime_checkable
class ReadsInputs(Evaluation, Protocol):
    """An evaluation whose numbers depend on more than the model, the corpus and its fields, such as on a file."""

    def reads(self) -> Mapping[str, Any]:
        """Return inputs besides the config that affect the result, as JSON has them; it is made again when they change."""


@runtime_checkable
class ReadsFiles(Evaluation, Protocol):
    """An evaluation that reads files of the user's, whose absence should be known before anything is trained."""

    def files(self) -> Mapping[str, str]:
        """Return the files and folders on this machine that it reads, by the field that names them."""


@runtime_checkable
class OfRun(Evaluation, Protocol):
    """An evaluation that may need another run of the recipe, trained before the one that is measured."""

    def of_run(self) -> str | None:
        """Return the name of the other run; None if none is needed."""


@runtime_checkable
class HasThresholds(Evaluation, Protocol):
    """An evaluation with thresholds on rewards, which are resolved and checked on the corpus before it is made."""

    def thresholds(self) -> Mapping[str, Threshold | None]:
        """Return them by name; None for the one that the recipe's objectives have."""


@runtime_checkable
class HasWorkload(Evaluation, Protocol):
    """An evaluation that knows from its fields what it amounts to, for `phf run --dry-run`."""

    def workload(self) -> Workload:
        """Return what it amounts to.

        Raises:
            InputError: for a file of prompts or problems that cannot be read.
        """


def hashed_subset(documents: Iterable[Document], limit: int | None) -> list[Document]:
    """Choose `limit` of the documents (all if None) by a hash of their ids: the same whatever the corpus's order."""

    def rank(document: Document) -> bytes:
        return hashlib.blake2b(document.id.encode("utf-8", "surrogatepass"), digest_size=8, person=b"phf-choice").digest()

    return sorted(documents, key=rank)[:limit]


def placements_of(model: lm.LanguageModel) -> Mapping[str, lm.Placement | None]:
    """Return where a model's control token stands when texts of several segments are read, by the suffix of the metrics.

    Without a suffix it stands in front of every segment, as in training; read once at the start, it makes later segments look
    less probable than they are. Both are measured: "" and "_start". A model without a control token, or one behind a server,
    which places it nowhere else, is measured once: None.
    """
    if isinstance(model, lm.PlacesControl) and model.control is not None:
        return {"": "every", "_start": "start"}
    return {"": None}


def with_control_placement(model: lm.LanguageModel, placement: lm.Placement | None) -> lm.LanguageModel:
    """Return the model with its control token placed so; as it is for None."""
    if placement is None or not isinstance(model, lm.PlacesControl):
        return model
    return model.with_control_placement(placement)
