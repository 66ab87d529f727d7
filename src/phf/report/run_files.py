"""Run folders read from disk, as much of each as there is; a damaged file is an error that names it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from phf import checksums
from phf.artifacts import read_json, read_object, whole_lines
from phf.config import read_yaml
from phf.errors import InputError
from phf.layout import CHECKPOINT_NOTES, RunFolder, WorkFolder
from phf.records import read_records
from phf.report.comparison import task_key
from phf.report.record_files import read_record_file
from phf.report.runs import Run, mapping

_SAMPLE_COLUMNS = ("prompt", "text", "finished", "scored", "misalignment", "findings")
_LONGEST_HEADER = 100_000_000
"""Bytes of a safetensors header at most, by its format."""
_TYPES = {
    "prompt": pa.types.is_string,
    "text": pa.types.is_string,
    "finished": pa.types.is_boolean,
    "scored": pa.types.is_string,
    "misalignment": pa.types.is_floating,
    "findings": pa.types.is_list,
}


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read run folders and files of records, in the order given; a recipe's work folder stands for its runs.

    A folder given twice is read once. A run of a file counts only where no folder has the run of that name and task: what is
    there is newer than what was written down.

    Raises:
        InputError: if there are none, one is not a run folder, or one of its files is broken, with the line.
    """
    files = list(dict.fromkeys(folder for folder in folders if folder.suffix == ".jsonl"))
    folders = [run for folder in folders if folder not in files for run in _runs_in(folder)]
    unique = list({folder.resolve(): folder for folder in folders}.values())
    runs = [(folder.resolve().parts, _read_run(folder, folder.name)) for folder in unique]
    there = {(run.recorded_name, task_key(run)) for _, run in runs}
    for file in files:
        for run in read_record_file(file):
            if (run.recorded_name, task_key(run)) not in there:
                runs.append(((*file.resolve().with_suffix("").parts, run.name), run))
    if not runs:
        raise InputError("no runs to report on; expected run folders such as runs/mle runs/conditional (`phf train` makes them)")
    names = _names([parts for parts, _ in runs])
    return [replace(run, name=name) for (_, run), name in zip(runs, names, strict=True)]


def _runs_in(folder: Path) -> list[Path]:
    """Return the run folders of a recipe's work folder, or of a folder of runs; the folder itself if it is neither."""
    for parent in (WorkFolder(folder).runs, folder):
        inside = [path for path in sorted(parent.iterdir()) if RunFolder(path).config.is_file()] if parent.is_dir() else []
        if inside and not RunFolder(folder).config.is_file():
            return inside
    return [folder]


def _names(parts: Sequence[Sequence[str]]) -> list[str]:
    """Return the names of runs: their folders, with as many parents as it takes to tell them apart."""
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
    config = _read_config(files.config)
    checkpoints = _checkpoints(files)
    checkpoint = checkpoints[max(checkpoints)] if checkpoints else {}
    tokens = {step: about["tokens"] for step, about in checkpoints.items() if isinstance(about.get("tokens"), int | float)}
    metrics = _read_metrics(files.metrics)
    records = list(read_records(files.records)) if files.records.exists() else []
    samples, skipped = _read_samples(files)
    if not (config or checkpoint or metrics or records or samples):
        raise InputError(
            f"{folder}: not a run folder, nor a folder of runs: no config.yaml, metrics.jsonl, records.jsonl or checkpoints"
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
    origin = WorkFolder.of_run(folder).recipe_origin
    parameters = _count_parameters(files.checkpoint(max(checkpoints))) if checkpoints else None
    missing += skipped
    return Run(
        name, folder, config, checkpoint, tokens, parameters, metrics, records, samples, missing, origin, _read_evaluations(files)
    )


def _read_evaluations(run: RunFolder) -> dict[str, dict[str, Any]]:
    """Return the fields of each evaluation, by its name, as `evaluations.json` has them: those of the last checkpoint."""
    path = run.find_evaluations()
    notes = read_object(path) if path else {}
    return {key.rpartition(" ")[2]: mapping(mapping(note).get("evaluation")) for key, note in notes.items()}


def _read_config(path: Path) -> dict[str, Any]:
    """Read config.yaml; {} if there is none."""
    if not path.exists():
        return {}
    config: Any = read_yaml(path)
    if config is not None and not isinstance(config, Mapping):
        raise InputError(f"{path}: holds {type(config).__name__}, not keys and values; restore it from a copy")
    return dict(config or {})


def _checkpoints(run: RunFolder) -> dict[int, dict[str, Any]]:
    """Read phf.json of every checkpoint, by step."""
    notes = {step: path / CHECKPOINT_NOTES for step, path in run.checkpoints().items()}
    for path in run.checkpoints().values():
        checksums.check_folder(path)
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
        if not isinstance(fields.get("tokens", 0), int | float):
            raise InputError(f"{path}, line {number}: tokens is {fields['tokens']!r}; expected a number, as `phf train` logs")
        by_step[fields["step"]] = fields
    return [by_step[step] for step in sorted(by_step)]


def _read_samples(run: RunFolder) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Read the newest samples of each evaluation, and say which files were passed over."""
    newest: dict[str, tuple[int, Path]] = {}
    for evaluation, step, path in run.all_samples():
        newest[evaluation] = max(newest.get(evaluation, (step, path)), (step, path))
    samples: dict[str, dict[str, Any]] = {}
    written = [folder / name for folder in (run.samples, run.per_example) for name in checksums.read(folder)]
    skipped = [
        f"{path.parent.name}/{path.name} was written, but is missing; evaluate again" for path in written if not path.exists()
    ]
    for evaluation, (_, path) in newest.items():
        checksums.verify(path)
        try:
            names = pq.read_schema(path).names
            if "text" not in names:
                skipped.append(f"samples/{path.name} not shown: it has no column 'text'")
                continue
            table = pq.read_table(path, columns=[name for name in _SAMPLE_COLUMNS if name in names])
            for field in table.schema:
                if not _TYPES[field.name](field.type):
                    raise InputError(f"{path}: column {field.name!r} holds {field.type}, not what `phf evaluate` writes")
            samples[evaluation] = table.to_pydict()
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path}: not a Parquet file that can be read ({_one_line(error)}); delete it and evaluate again"
            ) from None
        _check_samples(path, samples[evaluation])
    return samples, skipped


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _check_samples(path: Path, columns: Mapping[str, Any]) -> None:
    """Refuse scores that are infinite, and findings that are none."""
    for row, score in enumerate(columns.get("misalignment", ())):
        if score is not None and math.isinf(score):
            raise InputError(f"{path}, row {row}: misalignment is {score}; expected a finite number, or null; evaluate again")
    for row, findings in enumerate(columns.get("findings", ())):
        for finding in findings or ():
            ends = [mapping(finding).get(name) for name in ("start", "end")]
            if not all(isinstance(end, int) for end in ends) or not isinstance(finding.get("kind"), str):
                raise InputError(f"{path}, row {row}: a finding is {finding!r}; expected start, end and kind; evaluate again")


def _count_parameters(checkpoint: Path) -> int | None:
    """Count a model's weights from the headers of its safetensors files: 8 bytes of length, then JSON."""
    total = 0
    for path in checkpoint.glob("model*.safetensors"):
        try:
            with path.open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(min(size, _LONGEST_HEADER)))
            total += sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
        except (ValueError, TypeError, KeyError, AttributeError):
            raise InputError(f"{path}: damaged: its header is not that of a safetensors file; restore it from a copy") from None
    return total or None
