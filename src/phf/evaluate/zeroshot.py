"""What a model can do without finetuning: any task of the Language Model Evaluation Harness, under the model's control token."""

import difflib
import functools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from phf import artifacts, config
from phf.corpora import mark_of
from phf.errors import InputError, Stopped, require
from phf.evaluate.harness import adapter, quiet, seeded
from phf.evaluate.protocol import EvalContext, placements_of, with_control_placement
from phf.hub import offline_if_unreachable
from phf.lm import LanguageModel
from phf.records import Record

_NEEDED_BY = "the evaluation zeroshot"
_RESAMPLES = 1000  # of the harness's bootstrap, where a metric's error has no closed form


@dataclass(frozen=True)
class ZeroShot:
    """Tasks of lm-evaluation-harness: accuracy, perplexity, whatever each is judged by.

    Args:
        tasks: names of the harness's tasks, groups or tags; YAML files of tasks; or a task with its documents in a local file,
            as `{task: lambada_openai, path: lambada.jsonl}`, where any other key of the task's configuration can be changed
            too, and `name` is what records call it.
        include: folders with YAML files of more tasks.
        fewshot: examples in front of each question; as each task says by default.
        limit: take at most so many documents of each task.
        max_new_tokens: of tasks that let the model write; as each task says by default.
        batch: texts written in one forward pass, or requests at a time.
        placement: of no effect since phf 0.2: both are measured, see `measure`.
        run_code: run tasks that the harness marks as unsafe, since they execute what the model wrote.
    """

    tasks: Annotated[list[str | dict[str, Any]], Field(min_length=1)]
    include: list[str] = field(default_factory=list)
    fewshot: Annotated[int, Field(ge=0)] | None = None
    limit: config.Count | None = None
    max_new_tokens: config.Count | None = None
    batch: config.Count = 64
    placement: Literal["auto", "start", "every"] = "auto"
    run_code: bool = False

    def __post_init__(self) -> None:
        for task in self.tasks:
            if isinstance(task, dict) and not isinstance(task.get("task"), str):
                raise InputError(f"tasks: {task!r} names no task; expected {{task: NAME, path: FILE, ...}}")

    def files(self) -> dict[str, str]:
        """Return the documents of tasks in local files, and the folders of tasks."""
        paths = [task["path"] for task in self.tasks if isinstance(task, dict) and isinstance(task.get("path"), str)]
        return {f"tasks.{number}.path": path for number, path in enumerate(paths)} | {
            f"include.{number}": path for number, path in enumerate(self.include)
        }

    def reads(self) -> dict[str, Any]:
        """Return inputs besides the config that affect the result: local files, and the harness."""
        paths = [Path(task) for task in self.tasks if isinstance(task, str) and task.endswith((".yaml", ".yml"))]
        paths += [Path(task["path"]) for task in self.tasks if isinstance(task, dict) and isinstance(task.get("path"), str)]
        paths += [file for folder in self.include for file in sorted(Path(folder).rglob("*"))]
        marks = {str(file): mark_of(file) for file in paths if file.is_file()}
        return {"lm_eval": require("lm_eval", "eval", _NEEDED_BY).__version__, "files": artifacts.fingerprint(marks)}

    def measure(self, model: LanguageModel, setting: EvalContext) -> Iterator[Record]:
        """Measure each task's metrics, as "lambada_openai.acc", with the harness's standard errors; n = documents.

        A conditional model reads its control token in front of every segment, and again, in metrics that end in `_start`, once.

        Raises:
            InputError: for a task that does not exist or whose data cannot be had, or a model without log-probabilities.
        """
        for suffix, placement in placements_of(model).items():
            results = self._run(with_control_placement(model, placement), setting)
            for task, metrics in results["results"].items():
                yield from _records(setting, task, metrics, results["n-samples"].get(task), suffix)

    def _run(self, model: LanguageModel, setting: EvalContext) -> Any:
        """Return what the harness makes of a model."""
        lm_eval: Any = require("lm_eval", "eval", _NEEDED_BY)
        with quiet() as aloud:
            manager = _manager(tuple(self.include))
            tasks = self._tasks(manager)
            asked = adapter(model, self.batch, setting, aloud)
            try:
                with seeded(setting.seed), offline_if_unreachable():
                    return lm_eval.evaluate(
                        asked,
                        self._prepared(manager.load(tasks), setting.seed),
                        limit=self.limit,
                        bootstrap_iters=_RESAMPLES,
                        log_samples=False,
                        confirm_run_unsafe_code=self.run_code,
                    )
            except (InputError, Stopped):
                raise
            except Exception as error:  # whatever a task's own code, its templates and its data set's loader raise
                raise InputError(f"{setting.name}: {_reason(error, self.run_code)}") from error

    def _prepared(self, loaded: Any, seed: int) -> Any:
        """Apply the fields to every task, as the harness's `simple_evaluate` does, which also queries git and pip."""
        for task in loaded["tasks"].values():
            if self.max_new_tokens and task.get_config("output_type") == "generate_until":
                task.set_config(key="generation_kwargs", value={"max_gen_toks": self.max_new_tokens}, update=True)
            if task.get_config("num_fewshot") is None or (self.fewshot is not None and task.get_config("num_fewshot") != 0):
                task.set_config(key="num_fewshot", value=self.fewshot or 0)  # a task that says 0 means it
            task.set_fewshot_seed(seed=seed)
        return loaded

    def _tasks(self, manager: Any) -> list[str | dict[str, Any]]:
        """Return tasks as the harness takes them."""
        tasks: list[str | dict[str, Any]] = []
        for task in self.tasks:
            name = task if isinstance(task, str) else task["task"]
            if name not in manager.task_index and not (isinstance(task, str) and Path(task).is_file()):
                near = difflib.get_close_matches(name, manager.all_tasks, n=3)
                hint = (
                    f"; did you mean {' or '.join(near)}?" if near else f" (it has {len(manager.all_tasks):,}: lm-eval ls tasks)"
                )
                raise InputError(f"lm-evaluation-harness has no task {name!r}{hint}")
            tasks.append(task if isinstance(task, str) else _local(task, manager.task_index[name]))
        return tasks


@functools.cache
def _manager(include: tuple[str, ...]) -> Any:
    """Index the harness's tasks, and those of folders: seconds."""
    from lm_eval.tasks import TaskManager

    for folder in include:
        if not Path(folder).is_dir():
            raise InputError(f"include: {folder}: no such folder; expected one with YAML files of tasks")
    return TaskManager(include_path=list(include) or None)


def _local(task: Mapping[str, Any], entry: Any) -> dict[str, Any]:
    """Return the configuration of one of the harness's tasks with other fields, and its documents from a local file."""
    import datasets
    from lm_eval.tasks._yaml_loader import load_yaml

    if entry.yaml_path is None or "task" not in entry.cfg or not isinstance(entry.cfg["task"], str):
        raise InputError(f"tasks: {task['task']} is a group or a tag; name one task to change it or read it from a file")
    known = load_yaml(entry.yaml_path, resolve_func=True)
    changed = {**known, **{key: value for key, value in task.items() if key not in ("path", "name")}}
    changed["task"] = str(task.get("name", task["task"]))
    for key in ("tag", "group"):
        changed.pop(key, None)
    if "path" in task:
        rows = _rows(Path(task["path"]))
        split = changed.get("test_split") or changed.get("validation_split") or "test"
        changed |= {
            "dataset_path": "json", "dataset_name": None, "dataset_kwargs": None, "test_split": split,
            "validation_split": None, "training_split": None, "fewshot_split": split,
            "custom_dataset": lambda **_: datasets.DatasetDict({split: datasets.Dataset.from_list(rows)}),
        }  # fmt: skip
    return changed


def _rows(path: Path) -> list[dict[str, Any]]:
    """Read the documents of a task."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{path}: no such file; expected the task's documents as JSON Lines") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start}); expected JSON Lines") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{path}, line {number}: not JSON ({error.msg})") from None
            if not isinstance(row, dict):
                raise InputError(f"{path}, line {number}: found {line[:40]!r}, expected a JSON object")
            rows.append(row)
    if not rows:
        raise InputError(f"{path}: no documents in it")
    return rows


def _records(
    setting: EvalContext, task: str, metrics: Mapping[str, Any], samples: Mapping[str, int] | None, suffix: str
) -> Iterator[Record]:
    """Record a task's or group's metrics: "acc,none" of the harness is "acc", "acc,strict" is "acc.strict"."""
    n = int((samples or {}).get("effective") or metrics.get("sample_len") or 0)
    for key, value in metrics.items():
        metric, comma, filtered = key.partition(",")
        if not comma or metric.endswith("_stderr") or isinstance(value, str) or not isinstance(value, int | float):
            continue
        stderr = metrics.get(f"{metric}_stderr,{filtered}")
        error = float(stderr) if isinstance(stderr, int | float) else math.nan
        name = f"{task}.{metric}" if filtered == "none" else f"{task}.{metric}.{filtered}"
        yield setting.record(name + suffix, float(value), error, n)


def _reason(error: Exception, run_code: bool) -> str:
    """Return what went wrong inside the harness, in a line."""
    said = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    if "unsafe" in said and not run_code:
        return f"{said.split('. ')[0]}; set run_code: true to let it execute what the model writes"
    if isinstance(error, OSError) or type(error).__module__.startswith(("datasets", "huggingface_hub", "httpx", "requests")):
        return f"a task's data cannot be had ({said}); give it a local file, as {{task: NAME, path: FILE.jsonl}}"
    return f"lm-evaluation-harness fails: {type(error).__name__}: {said}"
