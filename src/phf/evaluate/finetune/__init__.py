"""GLUE after finetuning: its tasks, several seeds each, evaluated on their dev rows."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from phf import config, lm, plugins, statistics
from phf.errors import InputError
from phf.evaluate.finetune import glue
from phf.evaluate.finetune.options import TrainingOptions
from phf.evaluate.finetune.sweep import Sweep, Tried, run_sweep
from phf.evaluate.finetune.trials import Trial
from phf.evaluate.protocol import EvalContext
from phf.layout import RunFolder
from phf.lm import LanguageModel, LocalWeights
from phf.per_example import Parts
from phf.records import Record


@dataclass(frozen=True)
class FineTune:
    """GLUE's tasks after finetuning: the metrics of each and the mean of their scores, over seeds. Higher is better.

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
        sweep: `{lr: [...], batch: [...], on: RUN}`: learning rates and batches to try for each task on one run, with one seed;
            the best, by the rows for early stopping, takes the place of `lr` and `batch` for all runs. See `sweep.Sweep`.
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
    sweep: dict[str, Any] | None = None
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.06
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    max_length: Annotated[int, Field(ge=8)] = 128
    train_rows: config.Count | None = None

    def __post_init__(self) -> None:
        self._sweep  # noqa: B018 -- raises for fields that make no sense
        if "wnli" in self.tasks:
            raise InputError(f"finetune.tasks: found wnli. {glue.WHY_NOT_WNLI}; leave it out")
        if len(set(self.tasks)) < len(self.tasks):
            raise InputError(f"finetune.tasks: found {self.tasks}, expected different tasks")

    @property
    def _sweep(self) -> Sweep | None:
        return None if self.sweep is None else Sweep(**plugins.check_fields(Sweep, self.sweep, "finetune.sweep"))

    def of_run(self) -> str | None:
        """Return the run that the sweep is made on."""
        sweep = self._sweep
        return sweep.on if sweep else None

    def files(self) -> dict[str, str]:
        """Return the folder of the tasks."""
        return {} if self.data.startswith("hf:") else {"data": self.data}

    def measure(self, model: LanguageModel, setting: EvalContext) -> Iterator[Record]:
        """Measure each task's metrics, as "cola.mcc", and `score`, the mean of the tasks' scores; n = seeds.

        A conditional model reads its control token in front of every row. The result of each task and seed, with its predictions,
        is stored in `finetune/` and reused if nothing that affects it has changed. Of a sweep, `TASK.lr` and `TASK.batch` are
        what it chose; the run that it was made on has what it tried, as "cola.sweep.lr=0.0001,batch=16".

        Raises:
            InputError: if the model is behind a server, cannot classify, or the data or the sweep's run is missing.
        """
        if not isinstance(model, LocalWeights):
            raise InputError(
                f"{setting.name}: finetuning needs a model's weights; expected a run's folder or hf:NAME, not a server"
            )
        scores = np.zeros((self.seeds, len(self.tasks)))
        examples = _Examples(self.seeds)
        for column, name in enumerate(self.tasks):
            task, rows = glue.TASKS[name], glue.read(name, self.data)
            options, tried = self._options(name, rows, setting)
            yield from self._of_sweep(name, tried, setting)
            results = [
                self._trial(name, rows, options, seed).result(
                    model,
                    RunFolder(setting.out).finetune_of(setting.name, setting.step) / f"{name}-seed-{seed}.json",
                    functools.partial(self._report, setting, f"steps of {name}, seed {seed}"),
                )
                for seed in range(setting.seed, setting.seed + self.seeds)
            ]
            scores[:, column] = [task.score(result["metrics"]) for result in results]
            for metric in results[0]["metrics"]:
                yield from _over_seeds(setting, f"{name}.{metric}", [result["metrics"][metric] for result in results])
            examples.add(name, rows, [result["predictions"] for result in results])
        setting.write_per_example(*examples.columns())
        yield from _over_seeds(setting, "score", scores.mean(axis=1))

    def _options(self, name: str, rows: glue.Rows, setting: EvalContext) -> tuple[TrainingOptions, Tried | None]:
        """Return the hyperparameters of a task, and what a sweep tried for them."""
        names = (option.name for option in dataclasses.fields(TrainingOptions))
        options = TrainingOptions(**{name: getattr(self, name) for name in names})
        sweep = self._sweep
        if sweep is None:
            return options, None
        folder = str(sweep.folder(setting.out))
        tried = run_sweep(
            sweep, self._trial(name, rows, options, setting.seed), functools.partial(_load_weights, folder),
            lm.fingerprint(folder), setting.shared_folder, functools.partial(self._report, setting, f"steps of {name}, sweep"),
        )  # fmt: skip
        lr, batch = tried.chosen
        return dataclasses.replace(options, lr=lr, batch=batch), tried

    def _of_sweep(self, name: str, tried: Tried | None, setting: EvalContext) -> Iterator[Record]:
        """Yield what a sweep chose, and, of the run that it was made on, what it tried."""
        sweep = self._sweep
        if tried is None or sweep is None:
            return
        for metric, value in zip(("lr", "batch"), tried.chosen, strict=True):
            yield setting.record(f"{name}.{metric}", value, n=len(tried.scores))
        if setting.out.name == sweep.on:
            for (lr, batch), score in tried.scores.items():
                yield setting.record(f"{name}.sweep.lr={lr:g},batch={batch}", score, n=1)

    def _trial(self, name: str, rows: glue.Rows, options: TrainingOptions, seed: int) -> Trial:
        return Trial(name, rows, options, seed, self.stop_on, self.train_rows)

    @staticmethod
    def _report(setting: EvalContext, unit: str, done: int, total: int) -> None:
        setting.report(done, total, unit)


class _Examples:
    """What each dev row adds to the metrics that are means or ratios over rows, averaged over seeds."""

    def __init__(self, seeds: int) -> None:
        self.seeds = seeds
        self.ids: list[str] = []
        self.parts: dict[str, tuple[slice, np.ndarray, np.ndarray]] = {}

    def add(self, name: str, rows: glue.Rows, predictions: Sequence[dict[str, list[float]]]) -> None:
        """Add a task's rows and what each seed predicted for them."""
        for suffix, split in rows.dev.items():
            where = slice(len(self.ids), len(self.ids) + len(split))
            self.ids += [f"{name}{suffix} {number}" for number in range(len(split))]
            labels = np.array([row.label for row in split])
            per_seed = [glue.parts(np.array(found[suffix]), labels) for found in predictions]
            for metric in glue.TASKS[name].metrics:
                # Of several seeds the mean of ratios is not the ratio of means, but for accuracy, whose denominators are all 1.
                if metric in per_seed[0] and (self.seeds == 1 or metric == "acc"):
                    numerators, weights = (np.mean([found[metric][side] for found in per_seed], axis=0) for side in (0, 1))
                    self.parts[f"{name}.{metric}{suffix}"] = (where, numerators, weights)

    def columns(self) -> tuple[list[str], dict[str, Parts]]:
        """Return the ids of all rows, and each metric's parts, which are 0 for the rows of other tasks."""
        found = {}
        for metric, (where, *sides) in self.parts.items():
            whole = [np.zeros(len(self.ids)), np.zeros(len(self.ids))]
            for array, side in zip(whole, sides, strict=True):
                array[where] = side
            found[metric] = (whole[0], whole[1])
        return self.ids, found


def _load_weights(folder: str) -> LocalWeights:
    model = lm.load(folder)
    assert isinstance(model, LocalWeights)
    return model


def _over_seeds(setting: EvalContext, metric: str, values: Sequence[float] | np.ndarray) -> Iterator[Record]:
    """Yield the mean over seeds with Student's t interval, which covers the choice of seed but not of dev rows."""
    yield from setting.records(metric, statistics.mean(np.asarray(values, np.float64)))
