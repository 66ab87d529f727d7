"""Which evaluations are made of one checkpoint: under which control tokens, and in which order."""

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from phf import config, lm
from phf.evaluate.protocol import OfControl, OfSamples, Sweep
from phf.records import EvaluationName

log = logging.getLogger("phf")


@dataclass(frozen=True)
class EvaluationJob:
    """One evaluation of one checkpoint.

    Args:
        name: as its records carry it.
        component: its configuration.
        control: the control token that the model is conditioned on, as `phf.lm.load` takes it.
    """

    name: EvaluationName
    component: config.Component
    control: str | None


def list_jobs(
    options: config.Evaluate, names: Collection[str], controls: Sequence[str], asked_for: bool = False
) -> Iterator[EvaluationJob]:
    """List the evaluations to make under each control token; those that read samples come last.

    Args:
        options: the evaluations.
        names: of those to make.
        controls: the model's control tokens, the one that it is conditioned on by default first.
        asked_for: whether they were asked for by name: one that the model cannot have then raises its own error.
    """
    built = {name: config.build("evaluations", options.evaluations[name]) for name in names}
    for name in sorted(names, key=lambda name: isinstance(built[name], OfSamples)):
        evaluation, component = built[name], options.evaluations[name]
        needs_control = isinstance(evaluation, OfControl) and evaluation.needs_control
        if needs_control and not controls and not asked_for and len(names) > 1:
            log.info("%s left out: it is for models with control tokens, and this one has none", name)
            continue
        base = EvaluationName(name)
        parts = evaluation.parts(base) if isinstance(evaluation, Sweep) else {base: {}}
        for own, changes in parts.items():
            part = config.Component.model_validate(config.plain(component) | dict(changes))
            yield EvaluationJob(own, part, None)
            if name in options.misaligned and len(controls) > 1:
                yield EvaluationJob(own.under("misaligned"), part, controls[1])
            if name in options.plain and controls and not needs_control:
                yield EvaluationJob(own.under("plain"), part, lm.NO_CONTROL)
