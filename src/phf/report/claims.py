"""The paper's five claims as a Markdown report: what was expected, what was measured, and the verdict with its reason."""

import math
from collections.abc import Callable, Iterator, Sequence

from phf.report import verdicts
from phf.report.comparability import compare_texts
from phf.report.comparison import Task
from phf.report.metrics import spoken
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


def to_markdown(tasks: Sequence[Task]) -> str:
    """Return the report: a table of verdicts, then claim by claim and task by task what was measured and why it is judged so."""
    found = [(claim, [(task, judge(task)) for task in tasks]) for claim, judge in EXPECTED]
    lines = ["# The claims", "", "Written by `phf report --markdown`; intervals are 95%.", ""]
    lines += _row(["claim", *map(task_name, tasks)]) + _row(["---"] * (1 + len(tasks)))
    for number, (claim, judged) in enumerate(found, start=1):
        lines += _row([f"{number}. {claim}", *(verdict.verdict for _, verdict in judged)])
    for number, (claim, judged) in enumerate(found, start=1):
        lines += ["", f"## {number}. {claim}"]
        for task, verdict in judged:
            lines += ["", f"### {task_name(task)}: {verdict.verdict}", "", f"Expected: {verdict.expected}", ""]
            lines += [f"- {measured}" for measured in verdict.measured]
            lines += [""] * bool(verdict.measured) + [f"Why: {'; '.join(verdict.why)}."]
    for task in tasks:
        lines += _texts(task)
    lines += ["", "## Where the numbers come from", ""]
    lines += [f"- {term}: {text}" for term, text in facts([run for task in tasks for run in task.runs])]
    return "\n".join(lines) + "\n"


def _texts(task: Task) -> Iterator[str]:
    """Yield a table of what differs between the texts of runs besides their score."""
    rows: list[str] = []
    for scenario in task.scenarios:
        for run in task.runs:
            texts = compare_texts(task, run, scenario)
            if texts is None or run is task.baseline:
                continue
            cells = [f"{spoken(scenario)}: {run.name} (MLE)"]
            for name, share in (("scored", True), ("words", False), ("finished", True), ("distinct_2", True)):
                own, other = (_number(getattr(one, name), share) for one in texts)
                cells.append(f"{own} ({other})")
            rows += _row(cells)
    if rows:
        yield from ("", f"## What differs between the texts besides the score: {task_name(task)}", "")
        yield from _row(["samples", "scored", "words", "ended by themselves", "distinct-2 at equal length"]) + _row(["---"] * 5)
        yield from rows


def _number(value: float, share: bool) -> str:
    return "unknown" if math.isnan(value) else f"{value:.0%}" if share else f"{value:.1f}"


def _row(cells: Sequence[str]) -> list[str]:
    """Return a row of a table; a bar in a cell does not end it."""
    return ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"]
