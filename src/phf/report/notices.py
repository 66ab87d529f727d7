"""What a reader must know before comparing: what is missing, unequal or not measured, and why."""

import math
import re
from collections.abc import Sequence

from phf.records import EvaluationName
from phf.report.comparability import broken_code
from phf.report.comparison import Task
from phf.report.metrics import spoken
from phf.report.prose import differences, listed, task_name
from phf.report.runs import Run

_PILE_TRAINED = re.compile(r"hf:EleutherAI/(gpt-neo|gpt-j|gpt-neox|pythia)")
"""Open models that were trained on the Pile."""


def notices(tasks: Sequence[Task]) -> list[str]:
    """Return what a reader must know before comparing: what is missing or unequal, and what an interval hides."""
    found = []
    if len(tasks) > 1:
        found.append(
            f"These runs belong to {len(tasks)} tasks ({'; '.join(map(task_name, tasks))}), compared apart: "
            "scores of different corpora or scorers are not comparable."
        )
    for task in tasks:
        missing: dict[tuple[str, ...], list[str]] = {}
        for run in task.runs:
            missing.setdefault(tuple(run.missing), []).append(run.name)
        found += [f"{listed(names)}: {listed(texts)}." for texts, names in missing.items() if texts]
        found += [notice for run in task.runs for notice in _stale(run)]
        found += [*_unmeasured(task), *_unscored(task), *broken_code(task)]
        if task.baseline is None and len(task.runs) > 1:
            found.append("No run was trained by plain maximum likelihood (mle), so no differences are given.")
        unequal = [row[0] for row in differences(task)[1]]
        if unequal:
            found.append(f"Runs differ in more than the objective: {listed(unequal)} (see “Configurations”).")
        found += [*_empty_intervals(task), *_guided_elsewhere(task), *_of_the_pile(task)]
    return list(dict.fromkeys(found))


def _guided_elsewhere(task: Task) -> list[str]:
    """Return which guided decoding went on from other prompts than the scenario of the trade-off plot, so is not in it."""
    scenario = spoken(task.split(task.y)[0])
    elsewhere = [
        f"{run.name} ({spoken(EvaluationName.parse(evaluation).base)})"
        for run, steps in task.guided
        for _, evaluation in steps
        if not task.is_of_the_plot(run, evaluation)
    ]
    return [
        f"Guided decoding of {name} has other prompts than “{scenario}”, so it is in its table alone; give both evaluations the "
        "same prompts to compare them."
        for name in dict.fromkeys(elsewhere)
    ]


def _of_the_pile(task: Task) -> list[str]:
    """Return what a reference that was trained on the Pile does to a divergence from it."""
    references: dict[str, str] = {}
    for run in task.runs:
        for evaluation, fields in run.evaluations.items():
            reference = fields.get("reference")
            if isinstance(reference, str) and _PILE_TRAINED.match(reference) and evaluation in {pair[0] for pair in run.measured}:
                references.setdefault(reference, spoken(evaluation))
    return [
        f"{name} is the divergence from {reference.removeprefix('hf:')}, which was trained on the Pile, so it also says how well "
        "a model fits the Pile: one that was trained on the Pile comes out closer than an equally good one trained on other "
        "text. Compare runs of one corpus by it; the paper's numbers have other references, which are retired."
        for reference, name in references.items()
    ]


def _unmeasured(task: Task) -> list[str]:
    """Return the metrics of the trade-off that came out as nothing, such as those over no aligned segment."""
    found = []
    keys = [task.split(task.x), *((scenario, task.y_metric) for scenario in task.scenarios)]
    for evaluation, metric in dict.fromkeys(keys):
        empty = [run.name for run in task.runs if (one := run.get(evaluation, metric)) and (one.n == 0 or math.isnan(one.value))]
        if not empty:
            continue
        hint = "not one sample could be scored"
        if "aligned" in metric:
            kind = "misaligned" if "misaligned" in metric else "aligned"
            hint = f"no held-out segment is {kind} under the threshold; p50 as threshold splits them in half"
        found.append(f"Nothing was measured by {spoken(evaluation)}, {metric}: n = 0 for {listed(empty)} ({hint}).")
    return found


def _unscored(task: Task) -> list[str]:
    """Return how many samples have no score, and why, by run and scenario."""
    found = []
    for scenario in task.scenarios:
        reasons: dict[str, list[str]] = {}
        for run in task.runs:
            columns = run.samples.get(scenario, {})
            if "scored" not in columns or "misalignment" not in columns:
                continue
            texts, scores, scored = columns.get("text", ()), columns["misalignment"], columns["scored"]
            rows = zip(texts, scores, scored, strict=True)
            unscored = [(text, piece) for text, score, piece in rows if score is None or math.isnan(score)]
            empty = sum(not text for text, _ in unscored)
            failed = sum(piece is not None for _, piece in unscored)
            cut = len(unscored) - empty - failed
            for count, why in (
                (cut, "no whole segment before the length limit"),
                (empty, "no text"),
                (failed, "the scorer failed"),
            ):
                if count:
                    reasons.setdefault(why, []).append(f"{run.name} {count:,} of {len(texts):,}")
        found += [f"Samples without a score ({spoken(scenario)}), {why}: {', '.join(counts)}." for why, counts in reasons.items()]
    return found


def _stale(run: Run) -> list[str]:
    """Return what was measured only before the last checkpoint."""
    last = max([run.checkpoint.get("step", 0), *(record.step for record in run.records)])
    old = sorted({spoken(pair[0]) for pair in run.measured if (m := run.get(*pair)) and m.step < last})
    return [f"{run.name}: {listed(old)} last measured before step {last:,}, where the run is now."] if old else []


def _empty_intervals(task: Task) -> list[str]:
    """Return runs without any hit, whose interval [0, 0] claims more than the samples can."""
    found: dict[str, list[str]] = {}
    most = 0.0
    for run in task.runs:
        for scenario in task.scenarios:
            one, share = run.get(scenario, task.y_metric), run.get(scenario, "hit_share")
            if one is not None and one.value == one.low == one.high == 0:
                found.setdefault(run.name, []).append(spoken(scenario))
                most = max(most, share.high) if share and math.isfinite(share.high) else most
    if not found:
        return []
    where = "; ".join(f"{name} ({', '.join(scenarios)})" for name, scenarios in found.items())
    bound = f"; by Wilson's interval up to {most:.2%} of a model's samples may have one" if most else ""
    return [f"Not one sample had a finding: {where}. Resampling cannot give these an interval{bound}."]
