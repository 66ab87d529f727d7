"""What a model can do untaught: any task of the Language Model Evaluation Harness, under the model's control token."""

import contextlib
import difflib
import functools
import io
import json
import logging
import math
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from phf import artifacts, config
from phf.corpora import files
from phf.errors import InputError, Stopped, require
from phf.evaluate.protocol import EvalContext, with_control_placement
from phf.lm import LanguageModel, Sampling
from phf.records import Record

_NEEDED_BY = "the measure zeroshot"
_RESAMPLES = 1000  # of the harness's bootstrap, where a metric's error has no closed form
_GREEDY = 1e-6  # top_p that leaves the most probable token alone
_LONGEST = 256  # tokens to generate where a task does not say; the harness's own default


@dataclass(frozen=True)
class ZeroShot:
    """Tasks of lm-evaluation-harness: accuracy, perplexity, whatever each is judged by.

    Args:
        tasks: names of the harness's tasks, groups or tags; YAML files of tasks; or a task with its documents in a local file,
            as `{task: lambada_openai, path: lambada.jsonl}`, where any other key of the task's configuration can be changed
            too, and `name` is what records call it.
        include: folders with YAML files of more tasks.
        fewshot: examples in front of each question; as each task says if not given.
        limit: take at most so many documents of each task.
        max_new_tokens: of tasks that let the model write; as each task says if not given.
        batch: texts written in one forward pass, or requests at a time.
        placement: where a conditional model reads its control token: once, at the document's "start"; in front of "every"
            segment; or "auto", as it is sampled by default (every on lines, else start).
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

    def reads(self) -> dict[str, Any]:
        """Name what the numbers hang on beside the configuration: local files, and the harness."""
        paths = [Path(task) for task in self.tasks if isinstance(task, str) and task.endswith((".yaml", ".yml"))]
        paths += [Path(task["path"]) for task in self.tasks if isinstance(task, dict) and isinstance(task.get("path"), str)]
        paths += [file for folder in self.include for file in sorted(Path(folder).rglob("*"))]
        marks = {str(file): files.mark(found).hex() for file in paths if file.is_file() for found in files.expand(str(file))}
        return {"lm_eval": require("lm_eval", "eval", _NEEDED_BY).__version__, "files": artifacts.fingerprint(marks)}

    def measure(self, model: LanguageModel, setting: EvalContext) -> Iterator[Record]:
        """Measure each task's metrics, as "lambada_openai.acc", with the harness's standard errors; n = documents.

        Raises:
            InputError: for a task that does not exist or whose data cannot be had, or a model without log-probabilities.
        """
        lm_eval: Any = require("lm_eval", "eval", _NEEDED_BY)
        with _quiet() as aloud:
            manager = _manager(tuple(self.include))
            tasks = self._tasks(manager)
            adapter = _adapter(with_control_placement(model, self.placement), self, setting, aloud)
            try:
                with _seeded(setting.seed):
                    results = lm_eval.evaluate(
                        adapter,
                        self._prepared(manager.load(tasks), setting.seed),
                        limit=self.limit,
                        bootstrap_iters=_RESAMPLES,
                        log_samples=False,
                        confirm_run_unsafe_code=self.run_code,
                    )
            except (InputError, Stopped):
                raise
            except Exception as error:  # whatever a task's own code, its templates and its data set's loader raise
                raise InputError(f"{setting.name}: {_blamed(error, self.run_code)}") from error
        for task, metrics in results["results"].items():
            yield from _records(setting, task, metrics, results["n-samples"].get(task))

    def _prepared(self, loaded: Any, seed: int) -> Any:
        """Set what the fields say of every task, as the harness's `simple_evaluate` does, which also asks git and pip things."""
        for task in loaded["tasks"].values():
            if self.max_new_tokens and task.get_config("output_type") == "generate_until":
                task.set_config(key="generation_kwargs", value={"max_gen_toks": self.max_new_tokens}, update=True)
            if task.get_config("num_fewshot") is None or (self.fewshot is not None and task.get_config("num_fewshot") != 0):
                task.set_config(key="num_fewshot", value=self.fewshot or 0)  # a task that says 0 means it
            task.set_fewshot_seed(seed=seed)
        return loaded

    def _tasks(self, manager: Any) -> list[str | dict[str, Any]]:
        """Give tasks as the harness takes them."""
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
    """Give the configuration of one of the harness's tasks with other fields, and its documents from a local file."""
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
        lines = path.read_text(encoding="utf-8").split("\n")
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


def _adapter(model: LanguageModel, options: ZeroShot, setting: EvalContext, aloud: Callable[[], Any]) -> Any:
    """Make of a language model what the harness asks. A class made here, since its base must not be imported before."""
    from lm_eval.api.model import LM

    class Adapter(LM):  # type: ignore[misc]
        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            found = self._ask([request.args[1] for request in requests], [request.args[0] for request in requests])
            if any(likelihood.greedy is None for likelihood in found):
                raise InputError(
                    "the server does not say which token is the most probable one (top_logprobs), so no task's accuracy"
                )
            return [(likelihood.nats, bool(likelihood.greedy)) for likelihood in found]

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            return [likelihood.nats for likelihood in self._ask([request.args[0] for request in requests], None)]

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            kinds: dict[str, list[int]] = {}
            for place, request in enumerate(requests):
                kinds.setdefault(repr(sorted(request.args[1].items())), []).append(place)
            texts = [""] * len(requests)
            with aloud():
                for places in kinds.values():
                    asked = dict(requests[places[0]].args[1])
                    sampling = _sampling(asked, options.batch, setting.seed)
                    contexts = [requests[place].args[0] for place in places]
                    found = model.generate(contexts, sampling, lambda done: setting.report(done, len(requests), "texts"))
                    for place, text in zip(places, found, strict=True):
                        texts[place] = _until(text, asked.get("until"))
            return texts

        def _ask(self, texts: Sequence[str], contexts: Sequence[str] | None) -> Any:
            with aloud():
                return model.likelihoods(texts, contexts, on_progress=lambda done: setting.report(done, len(texts), "texts"))

    return Adapter()


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Fix what tasks draw from the global generators, and put these back."""
    states = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _sampling(asked: Mapping[str, Any], batch: int, seed: int) -> Sampling:
    """Read the harness's way to ask for sampling."""
    longest = int(asked.get("max_gen_toks") or asked.get("max_new_tokens") or asked.get("max_tokens") or _LONGEST)
    temperature = float(asked.get("temperature") or 0.0)
    if not asked.get("do_sample", temperature > 0) or temperature == 0:
        return Sampling(1.0, _GREEDY, 0, longest, seed, batch)
    return Sampling(temperature, float(asked.get("top_p") or 1.0), 0, longest, seed, batch)


def _until(text: str, stops: Any) -> str:
    """Cut a text off at the first of the strings that end it."""
    for stop in [stops] if isinstance(stops, str) else stops or []:
        if stop:
            text = text.split(stop)[0]
    return str(text)


def _records(setting: EvalContext, task: str, metrics: Mapping[str, Any], samples: Mapping[str, int] | None) -> Iterator[Record]:
    """Record a task's or group's metrics: "acc,none" of the harness is "acc", "acc,strict" is "acc.strict"."""
    n = int((samples or {}).get("effective") or metrics.get("sample_len") or 0)
    for key, value in metrics.items():
        metric, comma, filtered = key.partition(",")
        if not comma or metric.endswith("_stderr") or isinstance(value, str) or not isinstance(value, int | float):
            continue
        stderr = metrics.get(f"{metric}_stderr,{filtered}")
        error = float(stderr) if isinstance(stderr, int | float) else math.nan
        name = f"{task}.{metric}" if filtered == "none" else f"{task}.{metric}.{filtered}"
        yield setting.record(name, float(value), error, n)


def _blamed(error: Exception, run_code: bool) -> str:
    """Say what went wrong inside the harness, in a line."""
    said = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    if "unsafe" in said and not run_code:
        return f"{said.split('. ')[0]}; set run_code: true to let it execute what the model writes"
    if isinstance(error, OSError) or type(error).__module__.startswith(("datasets", "huggingface_hub", "httpx", "requests")):
        return f"a task's data cannot be had ({said}); give it a local file, as {{task: NAME, path: FILE.jsonl}}"
    return f"lm-evaluation-harness fails: {type(error).__name__}: {said}"


@contextlib.contextmanager
def _quiet() -> Iterator[Callable[[], Any]]:
    """Keep what the harness prints, draws and logs out of the terminal; gives a context in which phf is heard again."""
    logger, level = logging.getLogger("lm_eval"), logging.getLogger("lm_eval").level
    logger.setLevel(logging.ERROR)
    out, err = sys.stdout, sys.stderr
    # A pool of processes for a thousand resamples costs more than it saves, and may not be begun from where signals are handled.
    before = os.environ.get("DISABLE_MULTIPROC")
    os.environ["DISABLE_MULTIPROC"] = "1"

    @contextlib.contextmanager
    def aloud() -> Iterator[None]:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield

    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield aloud
    finally:
        logger.setLevel(level)
        if before is None:
            del os.environ["DISABLE_MULTIPROC"]
        else:
            os.environ["DISABLE_MULTIPROC"] = before
