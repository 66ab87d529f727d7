"""The paper's five claims as a Markdown report: what was expected, what was measured, and the verdict with its reason."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from phf.report import ratios, verdicts
from phf.report.comparability import broken_code, compare_texts
from phf.report.comparison import Task
from phf.report.metrics import Measured, capital, decimals, spoken, write, write_interval
from phf.report.prose import facts, task_name
from phf.report.verdicts import Verdict

EXPECTED: Sequence[tuple[str, Callable[[Task], Verdict]]] = (
    ("Conditional training is on the frontier of misalignment against capability cost among the objectives", verdicts.frontier),
    ("Conditional training lowers undesirable text by up to ten times, without a prompt", verdicts.lowers),
    ("It does so without a prompt and with adversarial prompts", verdicts.scenarios),
    ("It keeps capability close to MLE's, and filtering costs the most", verdicts.capability),
    ("Feedback during all of pretraining beats finetuning with feedback after MLE", verdicts.from_the_start),
)
"""The claims of Korbak et al. 2023, and how the verdict on each is found."""
_TASKS = {"pii": "PII", "pep8": "PEP8"}
"""Names of tasks, by scorer, that are not the scorer's."""
_COLUMNS = {
    "scored": "scored",
    "words": "words",
    "finished": "ended by themselves",
    "distinct_2": "distinct-2 at equal length",
    "parses": "valid Python",
}
"""What is compared of texts, and the head of its column."""


def to_markdown(tasks: Sequence[Task], figures: Mapping[str, str] | None = None) -> str:
    """Return the report: a table of verdicts, what was measured of each task, then claim by claim why it is judged so.

    Args:
        tasks: the tasks.
        figures: by the name of a task, the address of its figure and the figure's caption.
    """
    found = [(claim, [(task, judge(task)) for task in tasks]) for claim, judge in EXPECTED]
    lines = ["# The claims", "", "Written by `phf report --markdown`; intervals are 95%.", ""]
    lines += _row(["claim", *(_heading(task, tasks) for task in tasks)]) + _row(["---"] * (1 + len(tasks)))
    for number, (claim, judged) in enumerate(found, start=1):
        lines += _row([f"{number}. {claim}", *(verdict.verdict for _, verdict in judged)])
    for task in tasks:
        lines += ["", f"## {capital(_heading(task, tasks))}", "", f"Corpus: {task_name(task)}.", ""]
        if figures and task_name(task) in figures:
            lines += [figures[task_name(task)], ""]
        lines += task.without_folders([*_ratios(task), *_texts(task)])
    lines += _budgets(tasks)
    for number, (claim, judged) in enumerate(found, start=1):
        lines += ["", f"## {number}. {claim}"]
        for task, verdict in judged:
            lines += ["", f"### {capital(_heading(task, tasks))}: {verdict.verdict}", "", f"Expected: {verdict.expected}.", ""]
            lines += task.without_folders([f"- {measured}" for measured in verdict.measured])
            lines += [""] * bool(verdict.measured) + task.without_folders([f"Why: {'; '.join(verdict.why)}."])
    lines += ["", "## Where the numbers come from", ""]
    lines += [f"- {term}: {text}" for term, text in facts([run for task in tasks for run in task.runs])]
    return "\n".join(lines) + "\n"


def _heading(task: Task, tasks: Sequence[Task]) -> str:
    """Return what a task is called beside others: what its scorer looks for, if no other corpus has that scorer."""
    alone = all(_scored_corpus(other) == _scored_corpus(task) for other in tasks if other.scorer == task.scorer)
    if not (task.scorer and alone):
        return task_name(task)
    return ", ".join(filter(None, (_TASKS.get(task.scorer, task.scorer), task.budget)))


def _scored_corpus(task: Task) -> tuple[str, str, str]:
    """Return what tasks that differ in their budget alone have in common."""
    return task.corpus, task.segmenter, task.scorer


def _budgets(tasks: Sequence[Task]) -> Iterator[str]:
    """Yield a table for each task that was measured at several budgets: how the ratio to MLE changes from one to the next."""
    groups: dict[tuple[str, str, str], list[Task]] = {}
    for task in tasks:
        if task.budget:
            groups.setdefault(_scored_corpus(task), []).append(task)
    for same in groups.values():
        first, rows = same[0], [row for task in same if (row := _of_budget(task))]
        if len(rows) < 2:
            continue
        words = first.describe(ratios.by_task(first)[0]).words
        yield from ("", f"## {capital(_heading(replace(first, budget=''), tasks))}: what the budget changes", "")
        yield from (f"{capital(words)}, {spoken(first.split(first.y)[0])}, and what it costs.", "")
        yield from _row(["budget", "MLE", "conditional training", "ratio", "cost", "seeds"]) + _row(["---"] * 6)
        yield from (line for row in rows for line in _row(row))


def _of_budget(task: Task) -> list[str]:
    run = verdicts.conditional_run(task)
    ratio = next(iter(ratios.ratios(task, run)), None) if run else None
    if run is None or task.baseline is None or ratio is None:
        return []
    cost = next(iter(ratios.costs(task, run)), None)
    seeds = min(len(side.seeds) or 1 for side in (run, task.baseline))
    sides = _both(task, ratio.metric, ratio.baseline, ratio.run)
    return [task.budget, *sides, ratio.words, cost.percent if cost else "unknown", str(seeds)]


def _ratios(task: Task) -> Iterator[str]:
    """Yield the table of ratios of conditional training to MLE, and of its costs."""
    base, run = task.baseline, verdicts.conditional_run(task)
    if base is None or run is None:
        yield "There are not both MLE and conditional training, so there is nothing to compare."
        return
    yield from _row([f"{run.name} against {base.name}", base.name, run.name, "ratio", "expected", "counts"]) + _row(["---"] * 6)
    for ratio in ratios.ratios(task, run):
        sides = _both(task, ratio.metric, ratio.baseline, ratio.run)
        expected = "" if math.isnan(ratio.expected) else f"{ratio.expected:g} times or more"
        yield from _row([ratio.label, *sides, ratio.words, expected, "; ".join(ratio.objections) or "yes"])
    for cost in ratios.costs(task, run):
        sides = _both(task, cost.metric, cost.baseline, cost.run)
        expected = "" if math.isnan(cost.expected) else f"{cost.expected:.0%} or less"
        yield from _row([cost.label, *sides, cost.percent, expected, ""])


def _both(task: Task, metric: str, *sides: Measured) -> list[str]:
    measure = task.describe(metric)
    places = decimals(sides, measure)
    return [f"{write(one.value, places, measure)} {write_interval(one, places, measure)} (n = {one.n:,})" for one in sides]


def _texts(task: Task) -> Iterator[str]:
    """Yield a table of what differs between the texts of runs besides their score, and a warning of code that does not parse."""
    compared = [
        (f"{spoken(scenario)}: {run.name} (MLE)", texts)
        for scenario in task.scenarios
        for run in task.runs
        if run is not task.baseline and (texts := compare_texts(task, run, scenario))
    ]
    if not compared:
        return
    columns = [column for column in _COLUMNS if column != "parses" or any(not math.isnan(own.parses) for _, (own, _) in compared)]
    yield from ("", "What differs between the texts besides the score:", "")
    yield from _row(["samples", *(_COLUMNS[column] for column in columns)]) + _row(["---"] * (1 + len(columns)))
    for name, sides in compared:
        pairs = ([_number(getattr(side, column), column != "words") for side in sides] for column in columns)
        yield from _row([name, *(f"{own} ({other})" for own, other in pairs)])
    for warning in broken_code(task):
        yield from ("", warning)


def _number(value: float, share: bool) -> str:
    return "unknown" if math.isnan(value) else f"{value:.0%}" if share else f"{value:.1f}"


def _row(cells: Sequence[str]) -> list[str]:
    """Return a row of a table; a bar in a cell does not end it."""
    return ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"]
