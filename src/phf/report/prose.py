"""Sentences of the page: what is compared, what came out, where it was measured, and what is missing or not equal."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from phf.config import to_yaml
from phf.report.comparison import Task
from phf.report.metrics import Difference, Measure, Measured, capital, decimals, short, span, spoken, write, write_interval
from phf.report.runs import Run, mapping
from phf.statistics import LEAST_CLUSTERS


def task_name(task: Task) -> str:
    """Return the name of a task: its corpus, how it was cut, its scorer, and its budget where there are others."""
    parts = (
        task.corpus,
        f"by {task.segmenter}" if task.segmenter else "",
        f"scored by {task.scorer}" if task.scorer else "",
        task.budget,
    )
    return ", ".join(part for part in parts if part) or "unknown corpus"


def title(tasks: Sequence[Task]) -> str:
    """Return the title of the page where the recipe does not."""
    corpora = list(dict.fromkeys(task.corpus for task in tasks if task.corpus))
    return "Pretraining with human feedback" + (f": {listed(corpora)}" if corpora else "")


def lead(task: Task) -> str:
    """Return a sentence or two on what is compared."""
    runs, several = task.runs, len(task.runs) > 1
    objectives = {run.objective for run in runs if run.objective}
    what = f"{_number(len(runs))} run{'s' * several}"
    if len(objectives) == len(runs):
        what = f"{_number(len(runs))} training objective{'s' * several}"
    elif objectives:
        what += f" of {_number(len(objectives))} training objective{'s' * (len(objectives) > 1)}"
    text = capital(f"{what} {'compared' if several else 'measured'}") + (f" on the corpus {task.corpus}" if task.corpus else "")
    sizes = sorted(run.parameters for run in runs if run.parameters)
    tokens = sorted(run.tokens for run in runs if not math.isnan(run.tokens))
    samples = sorted(m.n for run in runs for scenario in task.scenarios if (m := run.get(scenario, task.y_metric)))
    details = [
        f"models of {_range(sizes)} parameters" if sizes else "",
        f"{_range(tokens)} training tokens{' each' * several}" if tokens else "",
        f"{span(samples)} samples in each scenario" if samples else "",
    ]
    text += f": {', '.join(filter(None, details))}" if any(details) else ""
    return text + (
        f". Misalignment is {task.describe(task.y_metric).words}, by the scorer {task.scorer}." if task.scorer else "."
    )


def finding(task: Task) -> str:
    """Return in words what the trade-off plot shows, from its numbers and intervals; "" if there is no difference."""
    evaluation, metric = task.split(task.y)
    measured = [(run, m) for run in task.runs if (m := run.get(evaluation, metric)) and not math.isnan(m.value)]
    measure = task.describe(metric)
    if task.baseline is None or len(measured) < 2 or measure.better != "lower":
        return ""
    base = next((m for run, m in measured if run is task.baseline), None)
    if base is None:
        return ""
    lowest, best = min(measured, key=lambda pair: pair[1].value)
    equals = [run.name for run, m in measured if m.value == best.value and run is not lowest]
    scenario = f"in the scenario “{spoken(evaluation)}”"
    places = decimals([m for _, m in measured], measure)
    if best.value == base.value:
        found = f"No run is below {task.baseline.name}, {_with_interval(base, places, measure)}, {scenario}."
        return found + _guided(task, measure)
    apart = task.difference(lowest, evaluation, metric)
    assert apart is not None
    text = (
        f"Lowest {scenario}: {lowest.name}, {_with_interval(best, places, measure)}, "
        + (f"as low as {listed(equals)}, " if equals else "")
        + f"against {_with_interval(base, places, measure)} for {task.baseline.name}; "
        f"difference {_with_interval(apart, places, measure)} {measure.words}"
    )
    if not math.isfinite(apart.low + apart.high):
        text += ", without an interval to judge it by."
    else:
        text += "." if apart.low > 0 or apart.high < 0 else ", an interval that includes 0: not told apart."
    cost = task.difference(lowest, *task.split(task.x))
    if cost is not None:
        x = task.describe(task.split(task.x)[1])
        text += f" Its capability cost differs by {_with_interval(cost, decimals([cost], x), x)} ({x.words})."
    return text + _guided(task, measure)


def _guided(task: Task, measure: Measure) -> str:
    """Return what guided decoding gives, as one more sentence for each run that was guided."""
    text = ""
    for run, steps in task.guided:
        names = [(gamma, name) for gamma, name in steps if gamma != 1 and task.is_of_the_plot(run, name)]
        guided = [(gamma, m) for gamma, name in names if (m := run.get(name, task.y_metric))]
        found = [(gamma, m) for gamma, m in guided if not math.isnan(m.value)]
        if found:
            places = decimals([m for _, m in found], measure)
            values = [f"{_with_interval(m, places, measure)} at γ\xa0=\xa0{gamma:g}" for gamma, m in found]
            text += f" Guided, {run.name} gives {listed(values)}."
    return text


def _with_interval(measured: Measured | Difference, places: int, measure: Measure) -> str:
    sign = isinstance(measured, Difference)
    interval = write_interval(measured, places, measure, sign)
    brackets = interval if interval.startswith("[") or not interval else f"({interval})"
    return f"{write(measured.value, places, measure, sign)} {brackets}".rstrip()


def facts(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Return where the numbers come from, each as (term, what it is)."""
    stamps = [record.stamp for run in runs for record in run.records]
    days = sorted({stamp.time[:10] for stamp in stamps})
    commits = sorted({stamp.commit for stamp in stamps if stamp.commit})
    versions = sorted({stamp.versions.get("phf", "") for stamp in stamps} - {""})
    found = [
        ("Measured", days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}" if days else ""),
        ("Recipe", "; ".join(sorted({run.recipe for run in runs} - {""}))),
        ("Commit of phf", ", ".join(commits)),
        ("phf", ", ".join(versions)),
        ("Machine", "; ".join(sorted({stamp.machine for stamp in stamps}))),
    ]
    return [(term, text) for term, text in found if text]


def table_caption(task: Task) -> str:
    """Return how to read the table: bold, brackets, and how each interval was made."""
    text = (
        "Bold: the best point estimate of a column. Brackets: 95% intervals, of means over samples by bootstrap-t (prompts "
        "where there are 10 or more), of shares by Wilson's method, of ratios and of few trials or seeds by Student's t. If no "
        "method is known to cover at this n, there is no interval."
    )
    few = _few_prompts(task)
    text += f" With fewer than 10 prompts ({listed(few)}) an interval is for these prompts only." if few else ""
    seeded = any(run.seeds for run in task.runs)
    if seeded:
        text += " A run of several seeds is their mean: sd is the spread between seeds, beside the error within one of them."
    if task.baseline is None or len(task.runs) < 2:
        return text
    text += (
        f" Δ: the difference to {task.baseline.name} with its 95% interval, over pairs of seeds, prompts or documents that both "
        "were measured on; where there are none, from both intervals, taken as independent. Grey where the interval includes 0."
    )
    alone = [run.name for run in task.runs if not run.seeds]
    if alone:
        text += " What is said of one trained model each leaves out that another seed may move a run by more" + (
            f" ({listed(alone)})." if seeded else "."
        )
    return text


def _few_prompts(task: Task) -> list[str]:
    """Return the scenarios with prompts, but fewer than 10."""
    few = []
    for scenario in task.scenarios:
        prompts = {prompt for run in task.runs for prompt in run.samples.get(scenario, {}).get("prompt") or () if prompt}
        if 0 < len(prompts) < LEAST_CLUSTERS:
            few.append(f"{spoken(scenario)}: {len(prompts)}")
    return few


def differences(task: Task) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Tabulate the training settings that are not the same in all runs: run names, and (setting, one value a run)."""
    configured = [(run.name, settings) for run in task.runs if (settings := _settings(run.config))]
    rows = []
    for key in dict.fromkeys(key for _, settings in configured for key in settings):
        values = [_shown(settings.get(key, "")) for _, settings in configured]
        if len(set(values)) > 1:
            rows.append((key, values))
    return [name for name, _ in configured], rows


def _settings(run: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten what should be the same in all runs of a task: how they were trained, and on which tokens."""
    tokens, train = mapping(run.get("tokens")), mapping(run.get("train"))
    corpus = mapping(tokens.get("corpus"))
    flat = {f"train.{key}": value for key, value in train.items()}
    flat |= {f"tokenize.{key}": value for key, value in mapping(tokens.get("tokenize")).items()}
    flat |= {f"corpus.{key}": value for key, value in tokens.items() if isinstance(value, int)}
    return flat | ({"corpus.inputs": corpus["inputs"]} if "inputs" in corpus else {})


def provenance(run: Run) -> list[tuple[str, str]]:
    """Return where a run is and what measured it."""
    commits = sorted({record.stamp.commit for record in run.records if record.stamp.commit})
    commands = list(dict.fromkeys(record.stamp.command for record in run.records if record.stamp.command))
    found = [
        ("Folder", str(run.folder)),
        ("Last checkpoint", f"step {run.checkpoint['step']:,}" if "step" in run.checkpoint else ""),
        ("Parameters", f"{run.parameters:,}" if run.parameters else ""),
        ("Measured at commit", ", ".join(commits)),
        ("Measured by", "; ".join(commands)),
        ("Missing", "; ".join(run.missing)),
    ]
    return [(term, text) for term, text in found if text]


def yaml_of(run: Run) -> str:
    """Write a run's configuration."""
    return to_yaml(dict(run.config)) if run.config else "config.yaml is missing\n"


def _range(values: Sequence[float]) -> str:
    return short(values[0]) if short(values[0]) == short(values[-1]) else f"{short(values[0])} to {short(values[-1])}"


def listed(items: Iterable[str]) -> str:
    """Return items as a sentence has them: "a, b and c"."""
    *first, last = list(items)
    return f"{', '.join(first)} and {last}" if first else last


def _number(count: int) -> str:
    small = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return small[count] if count < len(small) else str(count)


def _shown(value: Any) -> str:
    return short(value) if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000 else str(value)
