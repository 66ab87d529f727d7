"""Run folders read back, whatever of each exists: configuration, training curve, measurements, samples."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from phf.artifacts import read_json, whole_lines
from phf.config import read_yaml
from phf.errors import InputError
from phf.layout import CHECKPOINT_NOTES, RunFolder
from phf.records import Record, read_records
from phf.report.metrics import Measured
from phf.statistics import share

_EVERY, _START = "_every", "_start"
_NORMAL_95 = NormalDist().inv_cdf(0.975)
_SAMPLE_COLUMNS = ("prompt", "text", "finished", "scored", "misalignment", "findings")


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
        """Control tokens of the checkpoint; the first is the one it is sampled under."""
        return list(self.checkpoint.get("control_tokens") or [])

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


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read run folders, in the order given; a folder given twice is read once.

    Raises:
        InputError: if there are none, one is not a run folder, or one of its files is broken, with the line.
    """
    unique = list({folder.resolve(): folder for folder in folders}.values())
    if not unique:
        raise InputError("no runs to report on; expected run folders such as runs/mle runs/conditional (`phf train` makes them)")
    names = _names(unique)
    return [_read_run(folder, name) for folder, name in zip(unique, names, strict=True)]


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


def _names(folders: Sequence[Path]) -> list[str]:
    """Return the names of runs: their folders, with as many parents as it takes to tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def _read_run(folder: Path, name: str) -> Run:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such run folder; expected one that `phf train` made")
    missing = []
    files = RunFolder(folder)
    config = read_yaml(files.config) if files.config.exists() else {}
    checkpoints = _checkpoints(files)
    checkpoint = checkpoints[max(checkpoints)] if checkpoints else {}
    tokens = {step: about["tokens"] for step, about in checkpoints.items() if "tokens" in about}
    metrics = _read_metrics(files.metrics)
    records = list(read_records(files.records)) if files.records.exists() else []
    samples, skipped = _read_samples(files)
    if not (config or checkpoint or metrics or records or samples):
        inside = [path.name for path in sorted(folder.iterdir()) if RunFolder(path).config.exists()]
        hint = f"; it holds run folders ({', '.join(inside[:5])}): give {folder}/*" if inside else ""
        raise InputError(
            f"{folder}: not a run folder: no config.yaml, metrics.jsonl, records.jsonl, samples or checkpoints{hint}"
        )
    for found, what in (
        (config, "configuration (config.yaml)"),
        (checkpoint, "checkpoint"),
        (metrics, "training curve (metrics.jsonl)"),
        (records, "measurements (records.jsonl; `phf evaluate` writes it)"),
        (samples, "samples"),
    ):
        if not found:
            missing.append(f"no {what}")
    parameters = _count_parameters(files.checkpoint(max(checkpoints))) if checkpoints else None
    return Run(name, folder, config, checkpoint, tokens, parameters, metrics, records, samples, [*missing, *skipped])


def _checkpoints(run: RunFolder) -> dict[int, dict[str, Any]]:
    """Read phf.json of every checkpoint, by step."""
    notes = {step: path / CHECKPOINT_NOTES for step, path in run.checkpoints().items()}
    return {step: {"step": step, **(mapping(read_json(path)) if path.exists() else {})} for step, path in notes.items()}


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl; a torn last line is skipped, a step logged twice counts the last time."""
    by_step: dict[Any, dict[str, Any]] = {}
    for number, line in enumerate(whole_lines(path), start=1):
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}, line {number}: not JSON ({error}); expected one object a line") from None
        if not isinstance(fields, dict) or not isinstance(fields.get("step"), int):
            raise InputError(f"{path}, line {number}: no whole number 'step'; expected what `phf train` logs")
        by_step[fields["step"]] = fields
    return [by_step[step] for step in sorted(by_step)]


def _read_samples(run: RunFolder) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Read the newest samples of each evaluation, and say which files were passed over."""
    newest: dict[str, tuple[int, Path]] = {}
    for evaluation, step, path in run.all_samples():
        newest[evaluation] = max(newest.get(evaluation, (step, path)), (step, path))
    samples, skipped = {}, []
    for evaluation, (_, path) in newest.items():
        try:
            names = pq.read_schema(path).names
            if "text" not in names:
                skipped.append(f"samples/{path.name} not shown: it has no column 'text'")
                continue
            samples[evaluation] = pq.read_table(path, columns=[c for c in _SAMPLE_COLUMNS if c in names]).to_pydict()
        except pa.ArrowInvalid as error:
            raise InputError(f"{path}: not a Parquet file ({error}); delete it and evaluate again") from None
    return samples, skipped


def _count_parameters(checkpoint: Path) -> int | None:
    """Count a model's weights from the headers of its safetensors files: 8 bytes of length, then JSON."""
    total = 0
    for path in checkpoint.glob("model*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        total += sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return total or None


def _named(value: Any) -> dict[str, Any]:
    return {"name": value} if isinstance(value, str) else mapping(value)
