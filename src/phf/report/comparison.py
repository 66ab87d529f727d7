"""Runs of one task set against each other: which belong together, their differences to MLE, the frontier."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePath
from typing import Any

from phf import config
from phf.artifacts import fingerprint
from phf.records import EvaluationName
from phf.report.differences import difference
from phf.report.metrics import Difference, Measure, describe, short
from phf.report.runs import Run, mapping


@dataclass(frozen=True)
class Task:
    """Runs that can be compared: the same corpus, cut and scored the same way, and MLE of one budget.

    Args:
        corpus, segmenter, scorer: their names, "" if no run says.
        runs: in the order given.
        baseline: the first run of plain maximum likelihood, before those that were finetuned by it; None if there is none.
        x, y: capability cost and misalignment, as "evaluation.metric".
        budget: model and training tokens, as far as other tasks of the same corpus have others; "" if there are none.
    """

    corpus: str
    segmenter: str
    scorer: str
    runs: Sequence[Run]
    baseline: Run | None
    x: str
    y: str
    budget: str = ""

    @property
    def evaluations(self) -> list[str]:
        """Everything that was measured, in the order first met, other control tokens and guided decoding left out."""
        names = (evaluation for run in self.runs for evaluation in run.history)
        return [name for name in dict.fromkeys(names) if EvaluationName.parse(name) == EvaluationName(name)]

    @property
    def guided(self) -> list[tuple[Run, list[tuple[float, str]]]]:
        """The runs that were measured under guidance, each with (gamma, evaluation) from the least to the most."""
        found = []
        for run in self.runs:
            names = [(EvaluationName.parse(name), name) for name in run.history]
            guided = [(name.gamma, text) for name, text in names if name.gamma is not None and name.control == "own"]
            if guided:
                found.append((run, sorted(guided)))
        return found

    def is_of_the_plot(self, run: Run, evaluation: str) -> bool:
        """Return whether an evaluation of a run went on from the same prompts as the scenario on the y axis."""
        plotted, other = (run.evaluations.get(name, {}) for name in (self.split(self.y)[0], evaluation))
        return all(plotted.get(name) == other.get(name) for name in ("prompts", "score_prompt"))

    @property
    def y_metric(self) -> str:
        """The metric of misalignment: "misalignment" of "no-prompt.misalignment"."""
        return self.split(self.y)[1]

    @property
    def scenarios(self) -> list[str]:
        """Evaluations that measured misalignment, the one on the y axis first."""
        found = [e for e in self.evaluations if any(run.get(e, self.y_metric) for run in self.runs)]
        return sorted(found, key=lambda evaluation: evaluation != self.split(self.y)[0])

    @cached_property
    def _differences(self) -> dict[tuple[str, str, str], Difference | None]:
        return {}

    def difference(self, run: Run, evaluation: str, metric: str) -> Difference | None:
        """Return a run's difference to the baseline, cached; None for the baseline itself and where either was not measured."""
        key = (run.name, evaluation, metric)
        if self.baseline is None or run is self.baseline:
            return None
        if key not in self._differences:
            self._differences[key] = difference(run, self.baseline, evaluation, metric)
        return self._differences[key]

    def split(self, key: str) -> tuple[str, str]:
        """Split "evaluation.metric" where the records do; at the first dot where there are none."""
        known = (pair for run in self.runs for pair in run.measured if ".".join(pair) == key)
        evaluation, _, metric = key.partition(".")
        return next(known, (evaluation, metric))

    def without_folders(self, texts: Iterable[str]) -> list[str]:
        """Return texts with the names of runs without the folders or the file that all runs of the task are in."""
        folders = {run.name.rpartition("/")[0] for run in self.runs}
        folder = folders.pop() if len(folders) == 1 else ""
        return [text.replace(f"{folder}/", "") if folder else text for text in texts]

    def describe(self, metric: str) -> Measure:
        """Describe how a metric is shown where this scorer measured misalignment."""
        return describe(metric, self.scorer)


def tasks_of(runs: Sequence[Run], options: config.Report) -> list[Task]:
    """Group runs of the same corpus, segmenter and scorer, in the order given.

    Where there is MLE of several models or numbers of training tokens, each with the runs of its own is a task, from the
    smallest number of tokens to the largest: a difference to MLE of another budget would be one of budgets. A run that does not
    say what it was trained on, or for how many tokens, joins the first task.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(task_key(run), []).append(run)
    silent = groups.pop("", [])
    first = next(iter(groups), "")
    groups[first] = [run for run in runs if run in groups.get(first, []) or run in silent]
    return [task for group in groups.values() for task in _by_budget(group, options)]


def task_key(run: Run) -> str:
    """Return what runs of one task have in common: a fingerprint of corpus, segmenter and scorer; "" if nothing says it."""
    corpus, annotate = _made_from(run)
    if corpus.get("inputs"):
        corpus = {**corpus, "inputs": [short_path(str(name)) for name in corpus["inputs"]]}
    said = [corpus, annotate.get("segmenter"), annotate.get("scorer")]
    return fingerprint(said) if any(said) else ""


def short_path(name: str) -> str:
    """Return the last two parts of an absolute path, as files of records have it; anything else as it is."""
    path = PurePath(name)
    return "/".join(path.parts[-2:]) if path.is_absolute() else name


def frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Index the points that no other point beats or equals in both coordinates (lower is better), by the first coordinate."""
    order = sorted(range(len(points)), key=lambda index: points[index])
    best, kept = math.inf, []
    for index in order:
        if points[index][1] < best:
            best = points[index][1]
            kept.append(index)
    return kept


def _by_budget(runs: Sequence[Run], options: config.Report) -> list[Task]:
    """Return one task, or one for each model and number of training tokens if MLE was trained with several."""
    of_mle = {budget for run in runs if run.objective == "mle" and not run.finetuned and (budget := _budget(run))}
    if len(of_mle) < 2:
        return [_task(runs, options)]
    first = min(of_mle)
    budgets = [_budget(run) or first for run in runs]
    several_tokens, several_models = (len({budget[part] for budget in budgets}) > 1 for part in (0, 1))
    tasks = []
    for budget in sorted(set(budgets)):
        words = (f"{short(budget[0])} tokens" if several_tokens else "", budget[1] if several_models else "")
        task = _task([run for run, its in zip(runs, budgets, strict=True) if its == budget], options)
        tasks.append(replace(task, budget=" of ".join(filter(None, words))))
    return tasks


def _budget(run: Run) -> tuple[int, str] | None:
    """Return training tokens (of a finetuned run the whole budget) and model as configured; None if that is not known."""
    train = mapping(run.config.get("train"))
    tokens = train.get("tokens")
    return (tokens, str(train.get("model") or "")) if isinstance(tokens, int) else None


def _task(runs: Sequence[Run], options: config.Report) -> Task:
    corpus, annotate = next((made for run in runs if any(made := _made_from(run))), ({}, {}))
    names = _name(corpus.get("source")) or ", ".join(str(name).rstrip("/").split("/")[-1] for name in corpus.get("inputs") or [])
    of_mle = sorted((run for run in runs if run.objective == "mle"), key=lambda run: run.finetuned)
    baseline = next(iter(of_mle), None)
    return Task(names, _name(annotate.get("segmenter")), _name(annotate.get("scorer")), runs, baseline, options.x, options.y)


def _made_from(run: Run) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the corpus and the annotation behind a run's tokens; of published scored data, its files and nothing."""
    tokens = run.config.get("tokens")
    made = tokens.get("corpus") if isinstance(tokens, Mapping) else None
    if isinstance(made, list):
        return {"inputs": [name for name, _ in made]}, {}
    return (made.get("corpus") or {}, made.get("annotate") or {}) if isinstance(made, Mapping) else ({}, {})


def _name(component: Any) -> str:
    return str(component.get("name", "") if isinstance(component, Mapping) else component or "")
