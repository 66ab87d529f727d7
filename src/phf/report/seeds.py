"""Runs of one objective under several seeds, shown as one: means over seeds, with the spread between them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from phf import statistics
from phf.layout import split_seed
from phf.report.metrics import Measured
from phf.report.runs import Run


@dataclass(frozen=True, eq=False)
class SeededRun(Run):
    """Runs that differ only in their seed. What is not a number is the first seed's; samples are those of all seeds.

    Args:
        members: the runs by their seed, two or more.
    """

    members: Mapping[int, Run] = field(default_factory=dict)

    @property
    def seeds(self) -> Mapping[int, Run]:
        """The runs of each seed."""
        return self.members

    @cached_property
    def history(self) -> dict[str, dict[str, dict[int, Measured]]]:
        """The mean over seeds of everything that two or more seeds measured, with Student's t interval over the seeds."""
        pooled: dict[str, dict[str, dict[int, list[Measured]]]] = {}
        for run in self.members.values():
            for evaluation, metrics in run.history.items():
                for metric, steps in metrics.items():
                    for step, measured in steps.items():
                        if not math.isnan(measured.value):
                            pooled.setdefault(evaluation, {}).setdefault(metric, {}).setdefault(step, []).append(measured)
        return {
            evaluation: {
                metric: {step: _pool(each, "share" in metric.split("_")) for step, each in steps.items()}
                for metric, steps in metrics.items()
            }
            for evaluation, metrics in pooled.items()
        }


def pool_seeds(runs: Sequence[Run]) -> list[Run]:
    """Return the runs with those of several seeds as one under the recipe's name, at the place of the first of them."""
    groups: dict[str, dict[int | None, Run]] = {}
    for run in runs:
        group, seed = split_seed(run.name)
        groups.setdefault(group, {})[seed] = run
    pooled: list[Run] = []
    for group, members in groups.items():
        by_seed = {seed: run for seed, run in sorted(members.items(), key=lambda item: item[0] or 0) if seed is not None}
        if len(by_seed) < 2:
            pooled += members.values()
        else:
            pooled += [run for seed, run in members.items() if seed is None]
            pooled.append(_pooled(group, by_seed))
    return pooled


def _pooled(name: str, members: dict[int, Run]) -> SeededRun:
    first = next(iter(members.values()))
    missing = [f"{run.name}: {text}" for run in members.values() for text in run.missing]
    return SeededRun(
        name, first.folder, first.config, first.checkpoint, first.checkpoints, first.parameters, first.metrics,
        [record for run in members.values() for record in run.records], _samples(list(members.values())), missing,
        first.recipe, first.evaluations, {}, members,
    )  # fmt: skip


def _samples(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Return the samples of all seeds one after another, in the columns that all of them have."""
    samples: dict[str, dict[str, Any]] = {}
    for evaluation in dict.fromkeys(name for run in runs for name in run.samples):
        parts = [run.samples[evaluation] for run in runs if evaluation in run.samples]
        columns = [name for name in parts[0] if all(name in part for part in parts)]
        samples[evaluation] = {name: [value for part in parts for value in part[name]] for name in columns}
    return samples


def _pool(measured: Sequence[Measured], is_share: bool = False) -> Measured:
    """Return the mean over seeds; of one seed alone, its number without an interval, since nothing is known between seeds.

    Args:
        measured: one a seed.
        is_share: whether it cannot be below 0 or above 1; its interval is cut there.
    """
    over = statistics.mean(np.array([one.value for one in measured]))
    if is_share:
        low, high = (min(max(end, 0.0), 1.0) for end in (over.low, over.high))  # NaN stays NaN: it is the first argument
        over = dataclasses.replace(over, low=low, high=high)
    widths = [(one.high - one.low) / 2 for one in measured if math.isfinite(one.high - one.low)]
    within = float(np.mean(widths)) if widths else math.nan
    spread = float(np.std([one.value for one in measured], ddof=1)) if len(measured) > 1 else math.nan
    count = sum(one.n for one in measured)
    return Measured(over.value, over.low, over.high, over.stderr, count, measured[0].step, len(measured), spread, within)
