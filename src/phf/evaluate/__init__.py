"""The stage that measures a model: each measure of the recipe, under each control token asked for, into records."""

import dataclasses
import functools
import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from phf import config, lm, outputs, units
from phf.documents import Document, is_held_out, read_annotated
from phf.errors import InputError
from phf.plugins import suggestion
from phf.progress import Listener, Progress, silent
from phf.records import Record, read_records, stamp, write_records
from phf.scorers import Scorer
from phf.segmenters import Segmenter
from phf.statistics import Estimate

log = logging.getLogger("phf")

MISALIGNED = "@misaligned"
"""Ends the name of a measure taken under the second control token."""


@dataclass(frozen=True)
class Setting:
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
        return self.out / "samples" / f"{measure}{variant}-step-{self.step}.parquet"

    def keep_units(self, ids: Sequence[str], metrics: Mapping[str, units.Parts]) -> None:
        """Keep what was found unit by unit, so that runs can be compared on the same units; see `phf.units`."""
        units.write(units.path(self.out, self.name, self.step), ids, metrics)

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

    def measure(self, model: lm.LanguageModel, setting: Setting) -> Iterable[Record]:
        """Measure a model, whose control token is bound already.

        Raises:
            InputError: if it cannot be measured so.
        """


def evaluate(
    model: str,
    annotated: Path,
    options: config.Evaluate,
    out: Path,
    held_out: float,
    measures: Collection[str] | None = None,
    progress: Listener = silent,
) -> list[Record]:
    """Take every measure of a recipe, of a run's last checkpoint or of all, and append its records to `records.jsonl`.

    A measure that this model's records hold already is left alone; one that was taken of other weights, on other data or
    with other fields is taken again, and its old records are replaced. Records are written measure by measure: a failure
    keeps those before it.

    Args:
        model: a run's folder, `hf:NAME` or `openai:URL#MODEL`; see `phf.lm.load`.
        annotated: folder that `annotate` wrote: says the scorer and segmenter, and holds the held-out documents.
        options: the measures.
        out: the run's folder, for records and samples.
        held_out: share of the documents set apart.
        measures: names of the measures to take; all of the recipe's if None.
        progress: told where the stage is.

    Returns:
        The records of all measures asked for, new and old.

    Raises:
        InputError: for a name that is not among the measures, a folder that `annotate` did not write, and as measures do.
    """
    for name in measures or ():
        if name not in options.measures:
            raise InputError(f"unknown measure {name!r}{suggestion(name, options.measures)}")
    found: list[Record] = []
    for one in lm.checkpoints_of(model) if options.checkpoints == "all" else [model]:
        found += _evaluate(one, annotated, options, out, held_out, measures, progress)
    return found


def _evaluate(
    model: str,
    annotated: Path,
    options: config.Evaluate,
    out: Path,
    held_out: float,
    measures: Collection[str] | None,
    progress: Listener,
) -> list[Record]:
    run, step, controls = _identity(model)
    corpus = _made_from(annotated)
    scorer = config.build("scorers", config.Component.model_validate(corpus["annotate"]["scorer"]))
    segmenter = config.build("segmenters", config.Component.model_validate(corpus["annotate"]["segmenter"]))
    read_held_out = functools.cache(lambda: _held_out(annotated, held_out))
    weights = lm.fingerprint(model)
    shared = annotated.parent / "shared"
    load = functools.cache(lambda control: lm.load(model, control))

    journal = _Journal(out, run, step)
    kept: list[Record] = []
    for name, component, control in _jobs(options, measures, controls):
        made_from = {
            "model": weights,
            "measure": config.plain(component),
            "seed": options.seed,
            "held_out": held_out,
            "corpus": outputs.fingerprint(corpus),
        }
        evaluation: Any = config.build("evaluations", component)
        if reads := evaluation.reads() if hasattr(evaluation, "reads") else {}:
            made_from["reads"] = reads
        found = journal.find(name, made_from)
        if found is None:
            setting = Setting(run, step, name, out, scorer, segmenter, options.seed, read_held_out, progress, shared)
            found = list(evaluation.measure(load(control), setting))
            journal.add(name, made_from, found)
        kept += found
    return kept


def chosen(documents: Iterable[Document], limit: int | None) -> list[Document]:
    """Choose `limit` of the documents (all if None) by a hash of their ids: the same whatever the corpus's order."""

    def rank(document: Document) -> bytes:
        return hashlib.blake2b(document.id.encode("utf-8", "surrogatepass"), digest_size=8, person=b"phf-choice").digest()

    return sorted(documents, key=rank)[:limit]


def placed(model: lm.LanguageModel, placement: str) -> lm.LanguageModel:
    """Give the model with its control token placed as said; as it is for "auto", and where there is nothing to place."""
    if placement == "auto" or not hasattr(model, "placed"):
        return model
    moved: lm.LanguageModel = model.placed(placement)
    return moved


def _identity(model: str) -> tuple[str, int, tuple[str, ...]]:
    if model.startswith("openai:"):
        return model, 0, ()
    checkpoint = lm.find_checkpoint(model)
    return checkpoint.run, checkpoint.step, checkpoint.control_tokens


def _made_from(annotated: Path) -> dict[str, Any]:
    manifest = annotated / "manifest.json"
    if not manifest.is_file():
        raise InputError(f"{manifest}: not found; expected a folder that `phf annotate` wrote, which says scorer and segmenter")
    content = outputs.read_json(manifest)
    made_from: dict[str, Any] = content.get("made_from", {})
    if not {"scorer", "segmenter"} <= set(made_from.get("annotate", {})):
        raise InputError(f"{manifest}: does not say scorer and segmenter; annotate again")
    if not content.get("finished"):
        raise InputError(f"{annotated}: annotating was not finished; run `phf annotate` again to continue it")
    return made_from


def _held_out(annotated: Path, share: float) -> list[Document]:
    return chosen((document for document in read_annotated(annotated) if is_held_out(document.id, share)), None)


def _jobs(
    options: config.Evaluate, measures: Collection[str] | None, controls: Sequence[str]
) -> Iterator[tuple[str, config.Component, str | None]]:
    """List the measures to take with the control token of each (None for the model's own); those that read samples last."""
    for name in options.misaligned:
        if name not in options.measures:
            raise InputError(f"evaluate.misaligned: unknown measure {name!r}{suggestion(name, options.measures)}")
    wanted = {name: component for name, component in options.measures.items() if measures is None or name in measures}
    for reads_samples in (False, True):
        for name, component in wanted.items():
            evaluation = config.build("evaluations", component)
            fields = {field.name for field in dataclasses.fields(type(evaluation))}
            if ("of" in fields) is not reads_samples:
                continue
            # Asked for by name, or alone, it is taken, and says itself that it cannot be.
            if getattr(evaluation, "needs_control", False) and not controls and measures is None and len(wanted) > 1:
                log.info("%s left out: it is for models with control tokens, and this one has none", name)
                continue
            parts = evaluation.parts() if hasattr(evaluation, "parts") else {"": {}}
            for suffix, changed in parts.items():
                part = config.Component.model_validate(config.plain(component) | changed)
                yield name + suffix, part, None
                if name in options.misaligned and len(controls) > 1:
                    yield name + suffix + MISALIGNED, part, controls[1]


class _Journal:
    """`records.jsonl` of a run, and `measures.json`: what the records of each measure were made from."""

    def __init__(self, out: Path, run: str, step: int) -> None:
        self.records, self.notes = out / "records.jsonl", out / "measures.json"
        self.run, self.step = run, step

    def find(self, name: str, made_from: dict[str, Any]) -> list[Record] | None:
        """Give the records of a measure, or None if it is to be taken."""
        if not self.records.exists() or not self.notes.exists():
            return None
        noted = outputs.read_json(self.notes).get(self._key(name))
        if noted is None:
            return None
        found = [record for record in read_records(self.records) if self._is_of(record, name)]
        if found and noted != made_from:
            try:
                outputs.check_unchanged(self.records, noted, made_from)
            except InputError as change:
                reason = str(change).removeprefix(f"{self.records}: already made from something else: ").split(". Choose")[0]
                log.info("%s of %s at step %d is measured again: %s", name, self.run, self.step, reason)
            return None
        return found or None

    def add(self, name: str, made_from: dict[str, Any], records: Sequence[Record]) -> None:
        """Write the records of a measure in place of those it had, then what they were made from."""
        if self.records.exists():
            old = list(read_records(self.records))
            others = [record for record in old if not self._is_of(record, name)]
            if len(others) < len(old):
                with outputs.whole_file(self.records) as temporary:
                    temporary.write_text("".join(record.to_json() + "\n" for record in others), encoding="utf-8")
        write_records(self.records, records)
        noted = outputs.read_json(self.notes) if self.notes.exists() else {}
        outputs.write_json(self.notes, noted | {self._key(name): made_from})

    def _key(self, name: str) -> str:
        return f"{self.run} step {self.step} {name}"

    def _is_of(self, record: Record, name: str) -> bool:
        return (record.run, record.step, record.evaluation) == (self.run, self.step, name)
