"""Runs in one file of JSON lines, as `results/` keeps them: all that verdicts and figures need, without the run folders.

A line with `"about"` says what a run is, one with `"against"` how it differs from another run on the same documents or prompts,
and every other line is a record.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from phf.artifacts import whole_file, whole_lines
from phf.errors import InputError
from phf.records import Record
from phf.report.comparison import Task, short_path
from phf.report.differences import BY_DOCUMENT, BY_PROMPT, difference, of_one_seed
from phf.report.metrics import Difference
from phf.report.runs import Run, mapping
from phf.report.verdicts import compared

_KEPT = ("objective", "train", "tokens", "seed", "control_tokens")
"""Keys of a run's configuration that are kept."""
_CHECKPOINT = ("objective", "control_tokens", "step", "tokens")


def write_record_file(path: Path, runs: Sequence[Run], tasks: Sequence[Task]) -> None:
    """Write runs into one file, a run of a seed on its own.

    Args:
        path: the file.
        runs: as they are read from folders or from such files.
        tasks: of the report on these runs; says whose differences are kept.
    """
    pairs = [line for task in tasks for line in _pairs(task)]
    lines = []
    for run in runs:
        about = {
            "config": _shortened({key: value for key, value in run.config.items() if key in _KEPT}),
            "checkpoint": {key: value for key, value in run.checkpoint.items() if key in _CHECKPOINT},
            "tokens": {str(step): tokens for step, tokens in sorted(run.tokens_at.items()) if step in _steps(run)},
            "parameters": run.parameters,
            "recipe": run.recipe,
            "evaluations": _shortened(dict(run.evaluations)),
        }
        lines.append(json.dumps({"run": run.recorded_name, "about": about}, ensure_ascii=False))
        lines += [record.to_json() for record in run.records]
        lines += [json.dumps(line, ensure_ascii=False) for line in pairs if line["run"] == run.recorded_name]
    with whole_file(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_record_file(path: Path) -> list[Run]:
    """Read the runs of a file that `write_record_file` wrote, or of plain records.

    Raises:
        InputError: for a line that is neither, with its number, or a file without a run.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file; `phf report FOLDERS --records {path}` writes it")
    abouts: dict[str, dict[str, Any]] = {}
    records: dict[str, list[Record]] = {}
    pairs: dict[str, dict[tuple[str, str, str], Difference]] = {}
    for number, line in enumerate(whole_lines(path), start=1):
        try:
            text = line.decode() if isinstance(line, bytes) else line
            fields = json.loads(text)
            if "about" in fields:
                abouts[fields["run"]] = mapping(fields["about"])
            elif "against" in fields:
                key = (str(fields["against"]), str(fields["evaluation"]), str(fields["metric"]))
                value, low, high = (math.nan if fields[end] is None else float(fields[end]) for end in ("value", "low", "high"))
                pairs.setdefault(fields["run"], {})[key] = Difference(value, low, high, str(fields["how"]))
            else:
                record = Record.from_json(text)
                records.setdefault(record.run, []).append(record)
        except (ValueError, TypeError, KeyError, InputError) as error:
            raise InputError(f"{path}, line {number}: {error}; expected what `phf report --records` writes") from None
    names = list(dict.fromkeys([*abouts, *records]))
    if not names:
        raise InputError(f"{path}: no run in it; `phf report FOLDERS --records {path}` writes it")
    return [_run(path, name, abouts.get(name, {}), records.get(name, []), pairs.get(name, {})) for name in names]


def _run(
    path: Path, name: str, about: dict[str, Any], records: list[Record], pairs: dict[tuple[str, str, str], Difference]
) -> Run:
    tokens = {int(step): float(count) for step, count in mapping(about.get("tokens")).items()}
    missing = ["read from records alone: no training curve, no samples"]
    return Run(
        name, path, mapping(about.get("config")), mapping(about.get("checkpoint")), tokens, about.get("parameters"), (),
        records, {}, missing, str(about.get("recipe") or ""), mapping(about.get("evaluations")), pairs,
    )  # fmt: skip


def _pairs(task: Task) -> Iterator[dict[str, Any]]:
    """Yield the differences that a report reads, of runs that were measured on the same documents or prompts.

    They are those to the baseline and those that verdicts read: their number grows with the runs, not with the pairs of runs.
    """
    to_baseline = [(run, task.baseline) for run in task.runs if task.baseline is not None and run is not task.baseline]
    for pair in dict.fromkeys([*to_baseline, *compared(task)]):
        run, other = of_one_seed(*pair) or pair
        for evaluation, metric in pair[0].measured:
            apart = difference(run, other, evaluation, metric)
            if apart is not None and apart.how in (BY_DOCUMENT, BY_PROMPT):
                ends = {"value": apart.value, "low": apart.low, "high": apart.high}
                names = {"run": run.recorded_name, "against": other.recorded_name, "evaluation": evaluation, "metric": metric}
                yield {**names, **ends, "how": apart.how}


def _steps(run: Run) -> set[int]:
    return {record.step for record in run.records} | set(run.checkpoints)


def _shortened(value: Any) -> Any:
    """Return a configuration with the last two parts of every absolute path: the rest is of one machine."""
    if isinstance(value, dict):
        return {key: _shortened(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shortened(inner) for inner in value]
    return short_path(value) if isinstance(value, str) else value
