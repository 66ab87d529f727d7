"""The page that compares runs: figures, tables and samples in one self-contained HTML file, and the numbers beside it."""

import csv
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from phf import config, plugins
from phf.artifacts import read_object, whole_file, write_json
from phf.errors import InputError, require
from phf.locks import locks_output
from phf.progress import Listener, Progress, silent
from phf.report import claims, figures, glossary, guidance, notices, prose, samples, tables, trade_off
from phf.report.comparison import Task, tasks_of
from phf.report.figures import Figure
from phf.report.metrics import Measured as Measured
from phf.report.metrics import decimals as decimals
from phf.report.metrics import describe as describe
from phf.report.metrics import rank as rank
from phf.report.metrics import spoken as spoken
from phf.report.metrics import write as write
from phf.report.metrics import write_interval as write_interval
from phf.report.palette import MARKERS, STYLES, colours, style_of
from phf.report.plots import WIDE
from phf.report.ratios import PROBABILITIES
from phf.report.record_files import write_record_file
from phf.report.run_files import read_runs as read_runs
from phf.report.runs import Run as Run
from phf.report.runs import mapping as mapping
from phf.report.seeds import pool_seeds

_COLUMNS = (
    *("task", "run", "objective", "step", "tokens", "evaluation", "metric", "value", "low", "high", "stderr", "n"),
    *("seeds", "between_seeds", "difference", "difference_low", "difference_high", "difference_how"),
)


@locks_output("report")
def report(
    runs: Sequence[Path],
    out: Path,
    options: config.Report | None = None,
    progress: Listener = silent,
    markdown: Path | None = None,
    records: Path | None = None,
) -> Path:
    """Compare runs on one page.

    Writes `out`/index.html (one file that asks nothing of the network), figures/*.svg, and report.json and report.csv (the
    numbers of the tables). The same runs give the same bytes.

    Args:
        runs: run folders, the work folder of a recipe, or files that `records` wrote. What one lacks is said on the page; runs
            of another corpus or scorer are compared apart.
        out: the folder to write into.
        options: the title, and what the axes of the trade-off plot show.
        progress: called with every step.
        markdown: a file for the verdict on each claim of the paper, with a figure of each task beside it; none by default.
        records: a file for all that a report needs of the runs but samples and training curves; none by default.

    Returns:
        The page.

    Raises:
        InputError: for no runs, a folder that is no run, a broken file (with its line), or an axis that nothing measured.
        MissingExtra: without matplotlib or jinja2.
    """
    options = options or config.Report()
    steps = ("read", "plot", "compare", "write")

    def show(step: str) -> None:
        progress(Progress("report", steps.index(step), len(steps), "steps", {"now": step}))

    show("read")
    found = read_runs(runs)
    compared = pool_seeds(found)
    _check_axes(compared, options)
    tasks = tasks_of(compared, options)
    show("plot")
    plots = [figures.draw(task, f"task{number}-" if len(tasks) > 1 else "") for number, task in enumerate(tasks, start=1)]
    show("compare")
    numbers = [row for task in tasks for row in _numbers(task)]
    show("write")
    page = _page(tasks, plots, compared, options, out)
    files = {f"{figure.name}.svg": figure.wide for some in plots for figure in some.values() if figure}
    if markdown is not None:
        _write_claims(markdown, tasks, options)
    if records is not None:
        write_record_file(records, found, tasks)
    findings = [section["finding"] for section in page["sections"] if section["finding"]]
    shown = {key: page[key] for key in ("title", "lead", "notices")}
    _write(out, _render(page), files, shown | {"findings": findings, "numbers": numbers})
    progress(Progress("report", len(steps), len(steps), "steps"))
    return out / "index.html"


def _page(
    tasks: Sequence[Task], plots: Sequence[dict[str, Figure | None]], runs: Sequence[Run], options: config.Report, out: Path
) -> dict[str, Any]:
    """Return everything that the page's template shows."""
    return {
        "title": options.title or prose.title(tasks),
        "lead": [prose.lead(task) for task in tasks],
        "facts": prose.facts(runs),
        "notices": notices.notices(tasks),
        "sections": [_section(task, figures, len(tasks) > 1) for task, figures in zip(tasks, plots, strict=True)],
        "samples": samples.embed(tasks),
        "score": " or ".join(dict.fromkeys(task.describe(task.y_metric).words for task in tasks)),
        "blurred": any(task.scorer in ("toxicity", "classifier") for task in tasks),
        "code": all(task.segmenter == "lines" for task in tasks),
        "configurations": [(run.name, style_of(run.objective), prose.provenance(run), prose.yaml_of(run)) for run in runs],
        "objectives": [
            (style_of(name), name, glossary.OBJECTIVES[name])
            for name in dict.fromkeys(run.objective for run in runs)
            if name in glossary.OBJECTIVES
        ],
        "links": [
            (one.name, Path(os.path.relpath(one.records_file.resolve(), out.resolve())).as_posix())
            for run in runs
            for one in run.seeds.values() or (run,)
            if one.records
        ],
        "light": colours(dark=False),
        "dark": colours(dark=True),
        "markers": {name: MARKERS[marker] for name, (_, marker) in STYLES.items()},
    }


def _check_axes(runs: Sequence[Run], options: config.Report) -> None:
    """Refuse an axis that somebody asked for and no run has; the default ones may be missing, which the page says."""
    measured = {".".join(pair) for run in runs for pair in run.measured}
    for axis in ("x", "y"):
        key = getattr(options, axis)
        if measured and key not in measured and key != config.Report.model_fields[axis].default:
            raise InputError(f"report.{axis}: no run measured {key!r}{plugins.suggestion(key, measured)}")


def _section(task: Task, plots: dict[str, Figure | None], several: bool) -> dict[str, Any]:
    """Return what the page shows of one task."""
    return {
        "heading": prose.task_name(task) if several else "",
        "finding": prose.finding(task),
        "figures": plots,
        "summary": tables.summary(task) if any(run.records for run in task.runs) else None,
        "caption": prose.table_caption(task),
        "evaluations": [tables.of_evaluation(task, evaluation) for evaluation in task.evaluations],
        "differences": prose.differences(task),
        "guided": guidance.table(task),
    }


def _numbers(task: Task) -> Iterator[dict[str, Any]]:
    """Yield every number of the tables, one row per run and metric; unknown is NaN."""
    for run in [alone for pooled in task.runs for alone in (pooled, *pooled.seeds.values())]:
        for evaluation, metric in run.measured:
            one = run.get(evaluation, metric)
            assert one is not None
            apart = task.difference(run, evaluation, metric) if run in task.runs else None
            row = (
                *(prose.task_name(task), run.name, run.objective, one.step, run.tokens_at.get(one.step, math.nan)),
                *(evaluation, metric, one.value, one.low, one.high, one.stderr, one.n, one.seeds, one.between),
                *((apart.value, apart.low, apart.high, apart.how) if apart else (math.nan, math.nan, math.nan, "")),
            )
            yield dict(zip(_COLUMNS, row, strict=True))


def _write_claims(path: Path, tasks: Sequence[Task], options: config.Report) -> None:
    """Write the verdicts, and beside them the figure of each task; of probabilities, on shares of hits unless asked otherwise."""
    if "y" not in options.model_fields_set:
        shares = f"{tasks[0].split(options.y)[0]}.hit_share"
        tasks = [replace(task, y=shares) if task.scorer in PROBABILITIES else task for task in tasks]
    shown: dict[str, str] = {}
    for number, task in enumerate(tasks, start=1):
        planned = trade_off.effects(task)
        if planned is None:
            continue
        title, caption, drawing = planned
        same = [other for other in tasks if (other.scorer, other.budget) == (task.scorer, task.budget)]
        parts = (task.scorer or str(number), re.sub(r"[^\w.-]+", "-", task.budget), str(number) if len(same) > 1 else "")
        name = f"{'-'.join(filter(None, (path.stem, *parts)))}.svg"
        with whole_file(path.with_name(name)) as temporary:
            temporary.write_text(drawing(WIDE), encoding="utf-8")
        shown[prose.task_name(task)] = f"![{title}: {prose.task_name(task)}]({name})\n\n{caption}"
    with whole_file(path) as temporary:
        temporary.write_text(claims.to_markdown(tasks, shown), encoding="utf-8")


def _render(page: dict[str, Any]) -> str:
    jinja2 = require("jinja2", "report", "phf report")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    html: str = environment.get_template("page.html").render(page)
    return html


def _write(out: Path, html: str, files: dict[str, str], numbers: dict[str, Any]) -> None:
    """Write everything, each file whole or not at all; figures of an earlier report that are no more are deleted."""
    old = read_object(out / "report.json").get("figures", []) if (out / "report.json").exists() else []
    for name in old:
        if Path(name).name == name and name not in files:
            (out / "figures" / name).unlink(missing_ok=True)
    for name, text in {**{f"figures/{name}": svg for name, svg in files.items()}, "index.html": html}.items():
        with whole_file(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    rows = numbers["numbers"]
    with whole_file(out / "report.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: "" if _unknown(value) else value for key, value in row.items()} for row in rows)
    plain = [{key: None if _unknown(value) else value for key, value in row.items()} for row in rows]
    write_json(out / "report.json", {**numbers, "figures": sorted(files), "numbers": plain})


def _unknown(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
