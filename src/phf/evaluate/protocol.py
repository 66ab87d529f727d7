"""What an evaluation is, and what it is given."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from phf import config, lm, per_example
from phf.documents import Document
from phf.layout import RunFolder
from phf.progress import Listener, Progress, silent
from phf.records import Record, stamp
from phf.scorers import Scorer
from phf.segmenters import Segmenter
from phf.statistics import Estimate

MISALIGNED = "@misaligned"
"""Ends the name of a measure taken under the second control token."""


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


@dataclass(frozen=True)
class EvalContext:
    """What a measure has at hand besides the model.

    Args:
        run: name of the measured run.
        step: its optimiser step.
        name: of the measure, as its records carry it; ends with "@misaligned" under the second control token.
        out: the run's folder; samples go to `samples/` in it.
        scorer: what scored the training corpus.
        segmenter: what cut it.
        seed: of all that is drawn.
        read_held_out: reads the held-out documents; see `held_out`.
        progress: told where the measure is.
        shared: folder for what all runs of a recipe share; one in `out` if not given.
    """

    run: str
    step: int
    name: str
    out: Path
    scorer: Scorer
    segmenter: Segmenter
    seed: int
    read_held_out: Callable[[], Sequence[Document]]
    progress: Listener = silent
    shared: Path | None = None

    @property
    def shared_folder(self) -> Path:
        """Where a measure keeps what all runs of a recipe share."""
        return self.shared or self.out / "shared"

    @property
    def held_out(self) -> Sequence[Document]:
        """The documents no run was trained on, with rewards, in an order that does not depend on the corpus's."""
        return self.read_held_out()

    def samples_of(self, measure: str) -> Path:
        """Name the file with the samples that `measure` keeps, under the same control token as this measure."""
        variant = MISALIGNED if self.name.endswith(MISALIGNED) and not measure.endswith(MISALIGNED) else ""
        return RunFolder(self.out).samples_of(measure + variant, self.step)

    def keep_units(self, ids: Sequence[str], metrics: Mapping[str, per_example.Parts]) -> None:
        """Keep what was found unit by unit, so that runs can be compared on the same units; see `phf.per_example`."""
        per_example.write(RunFolder(self.out).per_example_of(self.name, self.step), ids, metrics)

    def record(self, metric: str, value: float, stderr: float = float("nan"), n: int = 0) -> Record:
        """Make the record of one number."""
        return Record(self.run, self.step, self.name, metric, float(value), float(stderr), n, stamp())

    def records(self, metric: str, estimate: Estimate, interval: bool = True) -> Iterator[Record]:
        """Make the records of an estimate: the metric, and `.low` and `.high`, the ends of its 95% interval."""
        yield self.record(metric, estimate.value, estimate.stderr, estimate.n)
        if interval:
            yield self.record(f"{metric}.low", estimate.low, n=estimate.n)
            yield self.record(f"{metric}.high", estimate.high, n=estimate.n)

    def report(self, done: float, total: float | None, unit: str) -> None:
        """Say where the measure is."""
        self.progress(Progress(f"evaluate {self.run} {self.name}", done, total, unit))


class Evaluation(Protocol):
    """A measure: a dataclass whose fields are its configuration, found by its entry point in `phf.evaluations`.

    One that reads the samples of another measure says which in a field `of`, and is taken after it. One that only models with
    control tokens can be put through says so by a class attribute `needs_control`; a recipe's runs without them are spared it.
    One that is a sweep may have `parts() -> {suffix: fields}`: each part is then taken as a measure of its own, with these
    fields changed and the suffix behind its name, so that a sweep goes on where it stopped. One whose numbers hang on more than
    its fields and the model, such as a file, names that in a method `reads() -> dict`, and is taken again when it changes.
    """

    def measure(self, model: lm.LanguageModel, setting: EvalContext) -> Iterable[Record]:
        """Measure a model, whose control token is bound already.

        Raises:
            InputError: if it cannot be measured so.
        """


def hashed_subset(documents: Iterable[Document], limit: int | None) -> list[Document]:
    """Choose `limit` of the documents (all if None) by a hash of their ids: the same whatever the corpus's order."""

    def rank(document: Document) -> bytes:
        return hashlib.blake2b(document.id.encode("utf-8", "surrogatepass"), digest_size=8, person=b"phf-choice").digest()

    return sorted(documents, key=rank)[:limit]


def with_control_placement(model: lm.LanguageModel, placement: Literal["auto", "start", "every"]) -> lm.LanguageModel:
    """Return the model with its control token placed so; as it is for "auto", and where it cannot move (a server)."""
    if placement == "auto" or not isinstance(model, lm.PlacesControl):
        return model
    return model.with_control_placement(placement)
