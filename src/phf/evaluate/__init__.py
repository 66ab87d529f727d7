"""The stage that measures a model: each measure of the recipe, under each control token asked for, into records."""

import dataclasses
import functools
import logging
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from phf import artifacts, config, lm
from phf.documents import AnnotatedCorpus, Document, is_held_out
from phf.errors import InputError
from phf.evaluate.journal import Journal
from phf.evaluate.protocol import MISALIGNED, EvalContext, hashed_subset
from phf.evaluate.protocol import NamedModel as NamedModel
from phf.layout import WorkFolder
from phf.plugins import suggestion
from phf.progress import Listener, silent
from phf.records import Record

log = logging.getLogger("phf")


def evaluate(
    model: str,
    annotated: Path,
    options: config.Evaluate,
    out: Path,
    held_out: float,
    measures: Collection[str] | None = None,
    progress: Listener = silent,
    named: NamedModel | None = None,
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
        named: what is known of a model that phf did not train; its scorer and segmenter serve where there is no corpus.

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
        found += _evaluate(one, annotated, options, out, held_out, measures, progress, named)
    return found


def _evaluate(
    model: str,
    annotated: Path,
    options: config.Evaluate,
    out: Path,
    held_out: float,
    measures: Collection[str] | None,
    progress: Listener,
    named: NamedModel | None,
) -> list[Record]:
    run, step, controls = _identity(model)
    if named is None:
        named = NamedModel(run)
    run = named.run
    corpus = AnnotatedCorpus(annotated, named.segmenter, named.scorer)
    scorer = config.build("scorers", named.scorer or corpus.require("scorer"))
    segmenter = config.build("segmenters", named.segmenter or corpus.require("segmenter"))
    read_held_out = functools.cache(lambda: _held_out(corpus, held_out))
    weights = lm.fingerprint(model)
    shared = WorkFolder.of_annotated(annotated).shared
    load = functools.cache(lambda control: lm.load(model, control))

    journal = Journal(out, run, step)
    kept: list[Record] = []
    for name, component, control in _jobs(options, measures, controls):
        made_from = {
            "model": weights,
            "measure": config.plain(component),
            "seed": options.seed,
            "held_out": held_out,
            **({} if named == NamedModel(run) else {"named": _recorded(named)}),
            "corpus": artifacts.fingerprint(corpus.made_from),
        }
        evaluation: Any = config.build("evaluations", component)
        if reads := evaluation.reads() if hasattr(evaluation, "reads") else {}:
            made_from["reads"] = reads
        found = journal.find(name, made_from)
        if found is None:
            setting = EvalContext(run, step, name, out, scorer, segmenter, options.seed, read_held_out, progress, shared)
            found = list(evaluation.measure(load(control), setting))
            journal.add(name, made_from, found)
        kept += found
    return kept


def _recorded(named: NamedModel) -> dict[str, Any]:
    """Return what of a model's description its records depend on."""
    components = {"segmenter": named.segmenter, "scorer": named.scorer}
    return {role: config.plain(component) for role, component in components.items() if component is not None}


def _identity(model: str) -> tuple[str, int, tuple[str, ...]]:
    if model.startswith("openai:"):
        return model, 0, ()
    checkpoint = lm.find_checkpoint(model)
    return checkpoint.run, checkpoint.step, checkpoint.control_tokens


def _held_out(corpus: AnnotatedCorpus, share: float) -> list[Document]:
    return hashed_subset((document for document in corpus.documents() if is_held_out(document.id, share)), None)


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
