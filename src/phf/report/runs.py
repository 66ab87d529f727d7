"""Run folders read back, whatever of each exists: configuration, training curve, measurements, samples."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import Any

from phf.layout import RunFolder, split_seed
from phf.records import Record
from phf.report.metrics import Difference, Measured
from phf.statistics import share

_EVERY, _START = "_every", "_start"
_NORMAL_95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, eq=False)
class Run:
    """One run folder, as much of it as there is.

    Args:
        name: of the folder, made unique among the runs compared.
        folder: where it is.
        config: config.yaml; empty if missing.
        checkpoint: phf.json of the last checkpoint; empty if missing.
        checkpoints: training tokens of each checkpoint, by its step.
        parameters: weights of the model, counted in its safetensors headers; None if unknown.
        metrics: lines of metrics.jsonl in the order of steps; a step logged again after a resume counts once, the last time.
        records: every whole line of records.jsonl.
        samples: evaluation -> columns of its newest samples file, each a list of one length.
        missing: what the folder lacks, in words.
        recipe: the file of the recipe it is of, and its commit; "" if it is of none.
        evaluations: the fields of each evaluation as it was made last.
        pairs: differences to other runs on the same documents or prompts, by (their recorded name, evaluation, metric), where
            they are read from a file of records; run folders have what they are computed from.
    """

    name: str
    folder: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Mapping[str, Any] = field(default_factory=dict)
    checkpoints: Mapping[int, float] = field(default_factory=dict)
    parameters: int | None = None
    metrics: Sequence[Mapping[str, Any]] = ()
    records: Sequence[Record] = ()
    samples: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    missing: Sequence[str] = ()
    recipe: str = ""
    evaluations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pairs: Mapping[tuple[str, str, str], Difference] = field(default_factory=dict)

    @property
    def recorded_name(self) -> str:
        """The name that the run's records have; that of its folder without any."""
        return self.records[0].run if self.records else self.name.rpartition("/")[2]

    @property
    def seed(self) -> int:
        """The seed that it was trained with, 0 where nothing says it."""
        seed = split_seed(self.name)[1]
        trained = mapping(self.config.get("train")).get("seed")
        return seed if seed is not None else trained if isinstance(trained, int) else 0

    @property
    def records_file(self) -> Path:
        """The file that its records are in."""
        return self.folder if self.folder.is_file() else RunFolder(self.folder).records

    @property
    def seeds(self) -> Mapping[int, "Run"]:
        """The runs of each seed, where runs of several seeds are shown as one; {} for a run of its own."""
        return {}

    @property
    def objective(self) -> str:
        """The objective's name, "" if nothing says it."""
        return str(_named(self.checkpoint.get("objective") or self.config.get("objective")).get("name", ""))

    @property
    def objective_fields(self) -> dict[str, Any]:
        """The objective's fields beside its name."""
        fields = _named(self.checkpoint.get("objective") or self.config.get("objective"))
        return {key: value for key, value in fields.items() if key != "name"}

    @property
    def control_tokens(self) -> list[str]:
        """Control tokens of the checkpoint, or of a model by name; the first is the one it is sampled under."""
        return list(self.checkpoint.get("control_tokens") or self.config.get("control_tokens") or [])

    @property
    def finetuned(self) -> bool:
        """Whether training began from another checkpoint."""
        train = mapping(self.config.get("train"))
        return bool(train.get("init")) or str(train.get("model")).startswith("from:")

    @cached_property
    def tokens_at(self) -> dict[int, float]:
        """Training tokens by step, as the metrics and the checkpoints say."""
        known = {line["step"]: line["tokens"] for line in self.metrics if "step" in line and "tokens" in line}
        return known | dict(self.checkpoints)

    @property
    def tokens(self) -> float:
        """Tokens trained on, NaN if unknown."""
        return max(self.tokens_at.values(), default=math.nan)

    @cached_property
    def history(self) -> dict[str, dict[str, dict[int, Measured]]]:
        """Everything measured: evaluation -> metric -> step. A number measured again counts once, the last time."""
        last = {(r.evaluation, r.metric, r.step): r for r in self.records}
        history: dict[str, dict[str, dict[int, Measured]]] = {}
        for (evaluation, metric, step), record in last.items():
            if metric.endswith((".low", ".high")):
                continue
            ends = [last.get((evaluation, f"{metric}.{end}", step)) for end in ("low", "high")]
            if ends[0] is not None and ends[1] is not None:
                low, high = ends[0].value, ends[1].value
            elif metric.endswith("_share") and not math.isnan(record.value):
                whole = share(round(record.value * record.n), record.n)
                low, high = whole.low, whole.high
            else:
                low, high = (record.value + sign * _NORMAL_95 * record.stderr for sign in (-1, 1))
            measured = Measured(record.value, low, high, record.stderr, record.n, step)
            history.setdefault(evaluation, {}).setdefault(metric, {})[step] = measured
        return {evaluation: _by_placement(metrics) for evaluation, metrics in history.items()}

    def recorded_metric(self, evaluation: str, metric: str) -> str:
        """Return the name under which a metric of `history` stands in the run's own files."""
        names = {record.metric for record in self.records if record.evaluation == evaluation}
        base = metric.removesuffix(_START)
        if base + _EVERY not in names:
            return metric
        return base if metric.endswith(_START) else base + _EVERY

    def get(self, evaluation: str, metric: str) -> Measured | None:
        """Return a metric at the last step it was measured at; None if it never was."""
        steps = self.history.get(evaluation, {}).get(metric)
        return steps[max(steps)] if steps else None

    @property
    def measured(self) -> list[tuple[str, str]]:
        """Every (evaluation, metric) measured."""
        return [(evaluation, metric) for evaluation, metrics in self.history.items() for metric in metrics]


def _by_placement(metrics: dict[str, dict[int, Measured]]) -> dict[str, dict[int, Measured]]:
    """Rename metrics of phf 0.1, so that a name means one placement of the control token in every run.

    Since 0.2 the name alone is the token in front of every segment and `_start` the token once at the document's start; before,
    the name alone was the token at the start where there was also `_every`.
    """
    former = {name.removesuffix(_EVERY) for name in metrics if name.endswith(_EVERY)}
    renamed = {base: base + _START for base in former} | {base + _EVERY: base for base in former}
    return {renamed.get(name, name): steps for name, steps in metrics.items()}


def mapping(value: Any) -> dict[str, Any]:
    """Return what a file holds where keys and values are expected; {} if it holds something else."""
    return dict(value) if isinstance(value, Mapping) else {}


def _named(value: Any) -> dict[str, Any]:
    return {"name": value} if isinstance(value, str) else mapping(value)
