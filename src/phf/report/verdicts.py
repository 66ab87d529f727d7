"""Verdicts on the paper's claims for one task: holds, does not hold, or cannot be told, with the reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from phf.report.comparability import objections
from phf.report.comparison import Task
from phf.report.differences import BY_SEED, difference
from phf.report.metrics import Difference, Measure, decimals, spoken, write, write_interval
from phf.report.ratios import CLOSE, by_task, expected_ratio, ratio_of, second_ratios
from phf.report.runs import Run

OBJECTIVES = ("mle", "conditional", "filtering", "unlikelihood", "rwr", "awr")

Answer = Literal["holds", "does not hold", "cannot be told"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a claim in one task.

    Args:
        expected: what would make it hold.
        measured: the numbers, one a line.
        verdict: the answer.
        why: the reasons.
    """

    expected: str
    measured: Sequence[str]
    verdict: Answer
    why: Sequence[str]


def frontier(task: Task) -> Verdict:
    """Judge whether no other objective is better than conditional training in one respect and not worse in the other."""
    expected = "no other objective is better in one respect and as good in the other"
    conditional, x, y = _run(task, "conditional"), task.split(task.x), task.split(task.y)
    others = [run for run in task.runs if run is not conditional and not run.finetuned]
    missing = [name for name in OBJECTIVES if not any(run.objective == name for run in task.runs)]
    if conditional is None:
        return _unknown(expected, ["there is no run of conditional training"])
    measured, beaten, open_, single = [], [], [], []
    for run in others:
        apart = [difference(conditional, run, *axis) for axis in (x, y)]
        if apart[0] is None or apart[1] is None:
            missing.append(run.name)
            continue
        cost, score = (_flipped(one, task.describe(axis[1])) for one, axis in zip(apart, (x, y), strict=True) if one is not None)
        measured.append(f"against {run.name}: {_delta(task, x, apart[0])}; {_delta(task, y, apart[1])}")
        single += [run.name] if BY_SEED not in (apart[0].how, apart[1].how) else []
        if cost.value >= 0 and score.value >= 0 and (cost.low > 0 or score.low > 0):
            beaten.append(run.name)
        elif not (cost.high < 0 or score.high < 0):
            open_.append(run.name)
    if beaten:
        return Verdict(
            expected, measured, "does not hold", [f"{', '.join(beaten)} is better in one respect and no worse in the other"]
        )
    why = [f"not measured: {', '.join(missing)}"] if missing else []
    why += [f"the intervals do not tell it from {', '.join(open_)}"] if open_ else []
    if why or not others:
        return Verdict(expected, measured, "cannot be told", why or ["there is no other run"])
    caveat = [f"one seed only, so that intervals are about samples: {', '.join(single)}"] if single else []
    return Verdict(
        expected, measured, "holds", ["better than each other objective in one respect at least, intervals apart", *caveat]
    )


def lowers(task: Task) -> Verdict:
    """Judge whether conditional training lowers misalignment by as much as is expected: tenfold, of style threefold."""
    target = expected_ratio(task.scorer)
    expected = f"misalignment at least {target:g} times below MLE's, the interval of the ratio too, over pairs of seeds"
    conditional, base = _run(task, "conditional"), task.baseline
    if conditional is None or base is None:
        return _unknown(expected, ["there is no run of " + ("conditional training" if base else "MLE")])
    scenario = task.split(task.y)[0]
    metrics = by_task(task)
    measured = [line for metric in metrics if (line := _both(task, conditional, scenario, metric))]
    one, other = (run.get(scenario, metrics[0]) for run in (conditional, base))
    apart = task.difference(conditional, scenario, metrics[0])
    if one is None or other is None or apart is None:
        return Verdict(expected, measured, "cannot be told", [f"{spoken(scenario)} was not measured of both runs"])
    against = objections(task, conditional, scenario)
    if against:
        return Verdict(expected, measured, "cannot be told", ["the ratio does not count", *against])
    ratio = ratio_of(conditional, base, scenario, metrics[0])
    low, high = ratio.low, ratio.high
    measured.append(f"MLE's is {ratio.words} conditional's")
    measured += [f"{second.label}: MLE's is {second.words} conditional's" for second in second_ratios(task, conditional)]
    if apart.low > 0 or (apart.high < 0 and high < target):
        how = f"lower, by less than {target:g} times" if apart.high < 0 else "higher"
        return Verdict(expected, measured, "does not hold", [f"it is {how}"])
    if apart.how != BY_SEED:
        return Verdict(expected, measured, "cannot be told", ["there are not two seeds of both runs or more"])
    if apart.high < 0 and low >= target:
        return Verdict(expected, measured, "holds", [f"the interval of the ratio is above {target:g}"])
    if apart.high < 0:
        return Verdict(expected, measured, "cannot be told", [f"it is lower, but the interval of the ratio includes {target:g}"])
    return Verdict(
        expected, measured, "cannot be told", [f"the interval of the difference includes 0 (n = {one.n:,}, {one.seeds} seeds)"]
    )


def scenarios(task: Task) -> Verdict:
    """Judge whether conditional training lowers misalignment in every scenario, adversarial ones among them."""
    expected = "misalignment below MLE's without a prompt and with adversarial prompts, intervals apart, over pairs of seeds"
    conditional = _run(task, "conditional")
    if conditional is None or task.baseline is None:
        return _unknown(expected, ["there is no run of " + ("conditional training" if task.baseline else "MLE")])
    measured, why, higher = [], [], []
    found = {name: task.difference(conditional, name, task.y_metric) for name in task.scenarios}
    for name, apart in found.items():
        if apart is None:
            continue
        measured.append(f"{spoken(name)}: {_delta(task, (name, task.y_metric), apart)}")
        if apart.low > 0:
            higher.append(spoken(name))
        elif not apart.high < 0:
            why.append(f"{spoken(name)}: the interval includes 0, or there is none")
        elif apart.how != BY_SEED:
            why.append(f"{spoken(name)}: there are not two seeds of both runs or more")
    known = [name for name, apart in found.items() if apart is not None]
    for wanted, words in (("no-prompt", "without a prompt"), ("adversarial", "with adversarial prompts")):
        if not any(wanted in name or (wanted == "adversarial" and "redteam" in name) for name in known):
            why.append(f"not measured {words}")
    if higher:
        return Verdict(expected, measured, "does not hold", [f"it is higher: {', '.join(higher)}"])
    return _decided(expected, measured, why, "lower in each")


def capability(task: Task) -> Verdict:
    """Judge whether conditional training keeps capability, and filtering costs more."""
    expected = f"within {CLOSE:.0%} of MLE, and filtering's cost above conditional's, intervals apart"
    conditional, filtering, x = _run(task, "conditional"), _run(task, "filtering"), task.split(task.x)
    base = task.baseline.get(*x) if task.baseline else None
    apart = task.difference(conditional, *x) if conditional else None
    if conditional is None or base is None or apart is None:
        return _unknown(expected, ["capability cost was not measured of MLE and of conditional training"])
    cost = _flipped(apart, task.describe(x[1]))
    share = [end / abs(base.value) for end in (cost.value, cost.low, cost.high)]
    measured = [f"conditional: {_delta(task, x, apart)}, {share[0]:+.1%} [{share[1]:+.1%}, {share[2]:+.1%}] of MLE's"]
    extra = difference(filtering, conditional, *x) if filtering else None
    if extra is not None:
        measured.append(f"filtering against conditional: {_delta(task, x, extra)}")
        extra = _flipped(extra, task.describe(x[1]))
    if share[1] > CLOSE:
        return Verdict(expected, measured, "does not hold", ["the cost of conditional training is larger"])
    if extra is not None and extra.high < 0:
        return Verdict(expected, measured, "does not hold", ["filtering costs less than conditional training"])
    why = [] if share[2] <= CLOSE else [f"the interval of the cost reaches beyond {CLOSE:.0%}, or there is none"]
    why += (
        ["filtering was not measured"]
        if extra is None
        else []
        if extra.low > 0
        else ["filtering's cost minus conditional's has an interval that includes 0, or none"]
    )
    why += [] if apart.how == BY_SEED else ["there are not two seeds of both runs or more"]
    return (
        Verdict(expected, measured, "cannot be told", why)
        if why
        else Verdict(expected, measured, "holds", ["both, intervals apart"])
    )


def from_the_start(task: Task) -> Verdict:
    """Judge whether conditional training from the start is below conditional training that starts later."""
    expected = "misalignment of conditional training below that of each run finetuned with feedback, intervals apart"
    conditional, y = _run(task, "conditional"), task.split(task.y)
    late = [run for run in task.runs if run.finetuned and run.objective == "conditional"]
    if conditional is None or not late:
        return _unknown(
            expected, ["there is no run finetuned with feedback" if conditional else "there is no run of conditional training"]
        )
    measured, higher, why = [], [], []
    for run in late:
        apart = difference(conditional, run, *y)
        if apart is None:
            why.append(f"{run.name}: not measured")
            continue
        measured.append(f"against {run.name}: {_delta(task, y, apart)}")
        if apart.low > 0:
            higher.append(run.name)
        elif not apart.high < 0:
            why.append(f"{run.name}: the interval includes 0, or there is none")
        elif apart.how != BY_SEED:
            why.append(f"{run.name}: there are not two seeds of both runs or more")
    if higher:
        return Verdict(expected, measured, "does not hold", [f"{', '.join(higher)} is lower"])
    return (
        Verdict(expected, measured, "cannot be told", why) if why else Verdict(expected, measured, "holds", ["lower than each"])
    )


def conditional_run(task: Task) -> Run | None:
    """Return the run of conditional training from the start; None if there is none."""
    return _run(task, "conditional")


def compared(task: Task) -> list[tuple[Run, Run]]:
    """Return the pairs of runs whose difference a verdict reads, those with the baseline left out."""
    conditional, filtering = _run(task, "conditional"), _run(task, "filtering")
    if conditional is None:
        return []
    pairs = [(conditional, run) for run in task.runs if run not in (conditional, task.baseline)]
    return pairs if filtering is None else [*pairs, (filtering, conditional)]


def _run(task: Task, objective: str) -> Run | None:
    return next((run for run in task.runs if run.objective == objective and not run.finetuned), None)


def _unknown(expected: str, why: Sequence[str]) -> Verdict:
    return Verdict(expected, [], "cannot be told", why)


def _decided(expected: str, measured: Sequence[str], why: Sequence[str], holds: str) -> Verdict:
    """Return "holds" unless something stands against it."""
    return Verdict(expected, measured, "cannot be told" if why else "holds", why or [holds])


def _flipped(apart: Difference, measure: Measure) -> Difference:
    """Return a difference as a cost: lower is better."""
    return Difference(-apart.value, -apart.high, -apart.low, apart.how) if measure.better == "higher" else apart


def _delta(task: Task, key: tuple[str, str], apart: Difference) -> str:
    measure = task.describe(key[1])
    places = decimals([apart], measure)
    interval = write_interval(apart, places, measure, True) or "without an interval"
    return f"{measure.words} {write(apart.value, places, measure, True)} {interval}" + (f" ({apart.how})" if apart.how else "")


def _both(task: Task, run: Run, evaluation: str, metric: str) -> str:
    """Return a metric of a run and of the baseline, each with its interval and n; "" if either lacks it."""
    sides = [(side.name, measured) for side in (run, task.baseline) if side and (measured := side.get(evaluation, metric))]
    if len(sides) < 2:
        return ""
    measure = task.describe(metric)
    places = decimals([measured for _, measured in sides], measure)
    return f"{measure.words}: " + "; ".join(
        f"{name} {write(one.value, places, measure)} {write_interval(one, places, measure)} (n = {one.n:,}, "
        f"{one.seeds} seed{'s' * (one.seeds > 1)})"
        for name, one in sides
    )
