"""GLUE after finetuning: classification tasks, several seeds each, evaluated on their dev rows."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from phf import artifacts, config, lm, statistics
from phf.errors import InputError
from phf.evaluate.finetune import glue
from phf.evaluate.protocol import EvalContext
from phf.layout import RunFolder
from phf.lm import LanguageModel
from phf.records import Record

_MAX_STOP_ROWS = 2000
"""Rows of train held out for early stopping, at most."""


@dataclass(frozen=True)
class FineTune:
    """GLUE's classification tasks after finetuning: the metric of each and their mean, over seeds. Higher is better.

    Args:
        data: folder with GLUE's folders of TSV files (CoLA, SST-2, ...); or `hf:` and a data set of the hub.
        tasks: names of the tasks.
        seeds: how many times each is finetuned; a seed sets the new head's weights and the order of the rows.
        epochs: most passes over the rows.
        patience: epochs without a better score after which finetuning stops.
        stop_on: rows for early stopping: a tenth of "train" (2,000 at most) that is not trained on, or "dev" itself, as is
            common, which flatters the result a little.
        lr: peak learning rate.
        batch: rows a step.
        warmup: share of the steps over which the learning rate rises; then it falls to 0 at the last epoch's end.
        weight_decay: of AdamW.
        max_length: tokens of a row; longer rows are cut, the longer sentence of a pair first.
        train_rows: number of rows of train to use, sampled with the seed; all if not set.
    """

    data: str = "hf:nyu-mll/glue"
    tasks: Annotated[list[glue.Name], Field(min_length=1)] = field(default_factory=lambda: ["cola", "sst2", "mrpc", "rte"])
    seeds: config.Count = 3
    epochs: config.Count = 10
    patience: config.Count = 2
    stop_on: Literal["train", "dev"] = "train"
    lr: Annotated[float, Field(gt=0)] = 2e-5
    batch: config.Count = 32
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.06
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    max_length: Annotated[int, Field(ge=8)] = 128
    train_rows: config.Count | None = None

    def files(self) -> dict[str, str]:
        """Return the folder of the tasks."""
        return {} if self.data.startswith("hf:") else {"data": self.data}

    def measure(self, model: LanguageModel, setting: EvalContext) -> Iterator[Record]:
        """Measure each task's metrics, as "cola.mcc", and `score`, the mean of the tasks' scores; n = seeds.

        A conditional model reads its control token in front of every row. The result of each task and seed is stored in
        `finetune/` and reused if nothing that affects it has changed.

        Raises:
            InputError: if the model is behind a server, cannot classify, or the data is missing.
        """
        if not isinstance(model, lm.LocalWeights):
            raise InputError(
                f"{setting.name}: finetuning needs a model's weights; expected a run's folder or hf:NAME, not a server"
            )
        from phf.evaluate.finetune.training import TrainingOptions, finetune

        weights = lm.fingerprint(model.checkpoint.folder)
        names = (option.name for option in dataclasses.fields(TrainingOptions))
        training = TrainingOptions(**{name: getattr(self, name) for name in names})
        scores = np.zeros((self.seeds, len(self.tasks)))
        for column, name in enumerate(self.tasks):
            task, rows = glue.TASKS[name], glue.read(name, self.data)
            per_seed: list[dict[str, float]] = []
            for seed in range(setting.seed, setting.seed + self.seeds):
                path = RunFolder(setting.out).finetune_of(setting.name, setting.step) / f"{name}-seed-{seed}.json"
                made_from = {"model": weights, "control": model.control, "rows": _rows_fingerprint(rows), **self._options()}
                result = _cached(path, made_from)
                if result is None:
                    train, stop = self._split(rows, seed)
                    on_progress = functools.partial(self._report, setting, f"steps of {name}, seed {seed}")
                    result = finetune(model, task, train, stop, rows.dev, training, seed, on_progress)
                    artifacts.write_json(path, {"made_from": made_from, **result}, recorded=True)
                per_seed.append(result["metrics"])
                scores[seed - setting.seed, column] = task.score(per_seed[-1])
            for metric in task.metrics:
                yield from _over_seeds(setting, f"{name}.{metric}", [values[metric] for values in per_seed])
        yield from _over_seeds(setting, "score", scores.mean(axis=1))

    @staticmethod
    def _report(setting: EvalContext, unit: str, done: int, total: int) -> None:
        setting.report(done, total, unit)

    def _options(self) -> dict[str, Any]:
        """Return the options that affect the result of one task and seed."""
        names = ("epochs", "patience", "stop_on", "lr", "batch", "warmup", "weight_decay", "max_length", "train_rows")
        return {name: getattr(self, name) for name in names}

    def _split(self, rows: glue.Rows, seed: int) -> tuple[Sequence[glue.Row], Sequence[glue.Row]]:
        """Return the rows to train on and the rows for early stopping."""
        order = np.random.default_rng(seed).permutation(len(rows.train))
        sampled = [rows.train[index] for index in order[: self.train_rows]]
        if self.stop_on == "dev":
            return sampled, rows.dev
        held_out = min(max(1, len(sampled) // 10), _MAX_STOP_ROWS)
        if len(sampled) <= held_out:
            raise InputError(f"finetuning needs at least 2 rows of train, found {len(sampled)}; use more rows, or stop_on: dev")
        return sampled[held_out:], sampled[:held_out]


def _rows_fingerprint(rows: glue.Rows) -> str:
    return artifacts.fingerprint([[[*row.texts, row.label] for row in split] for split in (rows.train, rows.dev)])


def _cached(path: Path, made_from: dict[str, Any]) -> dict[str, Any] | None:
    """Return the stored result if it was made from the same inputs, else None."""
    if not path.exists():
        return None
    stored = artifacts.read_object(path, "made_from", "metrics")
    return stored if stored.get("made_from") == made_from else None


def _over_seeds(setting: EvalContext, metric: str, values: Sequence[float] | np.ndarray) -> Iterator[Record]:
    """Yield the mean over seeds with Student's t interval, which covers the choice of seed but not of dev rows."""
    yield from setting.records(metric, statistics.mean(np.asarray(values, np.float64)))
