"""Samples of the runs, packed for the page's browser: what was found marked, and few enough to keep the page small."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phf.report.comparison import Task
from phf.report.metrics import spoken, under_controls
from phf.report.palette import style_of

_SCORE = 5  # where a packed row has its score
CAP = 2_000_000
"""Bytes of samples embedded for one scenario, all runs together."""


@dataclass(frozen=True, slots=True)
class Samples:
    """What the browser shows.

    Args:
        json: an object for a `<script type="application/json">`: no character of it can end the element.
        scenarios: their names, in order of choice.
        runs: names of the runs that have samples.
        kept, total: samples embedded, and samples there are.
    """

    json: str
    scenarios: Sequence[str]
    runs: Sequence[str]
    kept: int
    total: int


def embed(tasks: Sequence[Task]) -> Samples:
    """Pack the samples of all runs, each scenario within its cap: a run's worst samples, and an even choice of the others.

    Scenarios stand in the order of the tasks', each followed by itself under the second control token.
    """
    runs = [(run, task) for task in tasks for run in task.runs]
    with_samples = [(run, task) for run, task in runs if any(columns["text"] for columns in run.samples.values())]
    found = dict.fromkeys(name for run, _ in with_samples for name in run.samples)
    wanted = [name for task in tasks for scenario in task.scenarios for name in under_controls(scenario)]
    scenarios = [name for name in dict.fromkeys([*wanted, *found]) if name in found]
    kinds: dict[str, int] = {}
    rows: list[list[Any]] = []
    total = 0
    for scenario_number, scenario in enumerate(scenarios):
        having = [(number, run) for number, (run, _) in enumerate(with_samples) if scenario in run.samples]
        for number, run in having:
            packed = [[number, scenario_number, *row] for row in _rows(run.samples[scenario], kinds)]
            rows += _choose(packed, CAP // len(having))
            total += len(packed)
    names = [spoken(scenario) for scenario in scenarios]
    data = {
        "runs": [[run.name, style_of(run.objective), task.describe(task.y_metric).scale] for run, task in with_samples],
        "scenarios": names,
        "kinds": list(kinds),
        "rows": rows,
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Samples(safe, names, [run.name for run, _ in with_samples], len(rows), total)


def _rows(columns: Mapping[str, Any], kinds: dict[str, int]) -> list[list[Any]]:
    """Return rows of prompt, text, length of the scored text, score or None, finished or None, [[start, end, kinds...], ...].

    Positions are in UTF-16 units, as JavaScript counts.
    """
    count = len(columns["text"])
    nothing = [None] * count
    fields = (columns.get(name) or nothing for name in ("prompt", "text", "scored", "misalignment", "finished", "findings"))
    rows = []
    for maybe_prompt, maybe_text, scored, score, finished, findings in zip(*fields, strict=True):
        prompt, text = maybe_prompt or "", maybe_text or ""
        at = _Utf16(text)
        marks = [
            [at(start), at(end), *(kinds.setdefault(kind, len(kinds)) for kind in found)]
            for start, end, found in _spans(findings, len(text))
        ]
        shown_score = None if score is None or math.isnan(score) else float(f"{score:.4g}")
        length = _scored(prompt, text, scored) if "scored" in columns else len(text)
        rows.append([prompt, text, at(length), shown_score, finished, marks])
    return rows


def _scored(prompt: str, text: str, scored: str | None) -> int:
    """Count the characters of a text that were scored; where prompts are scored too, they stand in front of it."""
    if scored is None:
        return 0
    return len(scored) if text.startswith(scored) else max(len(scored) - len(prompt), 0)


def _spans(findings: Sequence[Mapping[str, Any]] | None, length: int) -> list[tuple[int, int, list[str]]]:
    """Sort what was found, join what overlaps, and give places without extent (a missing blank line) one character."""
    spans: list[tuple[int, int, list[str]]] = []
    for finding in sorted(findings or [], key=lambda f: (f["start"], f["end"])):
        end = min(max(finding["end"], finding["start"] + 1), length)
        start = max(min(finding["start"], end - 1), 0)
        if end <= start:
            continue
        if spans and start < spans[-1][1]:
            before, until, known = spans.pop()
            spans.append((before, max(until, end), [*known, *({finding["kind"]} - set(known))]))
        else:
            spans.append((start, end, [finding["kind"]]))
    return spans


class _Utf16:
    """Translate positions in characters to positions in UTF-16 units."""

    def __init__(self, text: str) -> None:
        self._wide = [index for index, character in enumerate(text) if character > "\uffff"] if not text.isascii() else []

    def __call__(self, position: int) -> int:
        return position + sum(index < position for index in self._wide)


def _choose(rows: list[list[Any]], budget: int) -> list[list[Any]]:
    """Keep rows within a budget of bytes, in their order: the worst for a third of it, every n-th of the others for the rest."""
    sizes = [len(json.dumps(row, ensure_ascii=False).encode()) for row in rows]
    if sum(sizes) <= budget:
        return rows
    worst_first = sorted(
        range(len(rows)), key=lambda index: -(rows[index][_SCORE] if rows[index][_SCORE] is not None else -math.inf)
    )
    spent = 0
    kept: set[int] = set()
    for index in worst_first:
        if kept and spent + sizes[index] > budget / 3:
            break
        kept.add(index)
        spent += sizes[index]
    others = [index for index in range(len(rows)) if index not in kept]
    stride = max(math.ceil(sum(sizes[index] for index in others) / max(budget - spent, 1)), 1)
    for index in others[::stride]:
        if spent + sizes[index] <= budget:
            kept.add(index)
            spent += sizes[index]
    return [rows[index] for index in sorted(kept)]
