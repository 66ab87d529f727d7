"""The commands that measure a model: its evaluations, and the attack on it."""

import contextlib
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phf import object_store
from phf.cli.options import AsJson, Overrides, Quiet, RecipeFile, beside, done, resolved, say, say_json, share_held_out
from phf.errors import InputError
from phf.formatting import percent
from phf.layout import RunFolder, WorkFolder

if TYPE_CHECKING:
    from phf.config import Recipe
    from phf.records import Record


def evaluate(
    model: Annotated[str, typer.Argument(help="A run or checkpoint folder, RUN@STEP, hf:NAME, or openai:URL#NAME.")],
    changes: Overrides = None,
    annotated: Annotated[
        str | None, typer.Option(help="The scored corpus: scorer, segmenter, held-out documents; ../../annotated by default.")
    ] = None,
    out: Annotated[str | None, typer.Option("--out", "-o", help="Run folder to write to; the model's own by default.")] = None,
    evaluation: Annotated[
        list[str] | None, typer.Option("--evaluation", help="Only this evaluation of the recipe; repeatable.")
    ] = None,
    measure: Annotated[list[str] | None, typer.Option("--measure", hidden=True)] = None,
    recipe: RecipeFile = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model: how often it writes what it should not, and what it lost.

        phf evaluate work/runs/conditional --recipe recipe.yaml

        phf evaluate work/runs/conditional@1464 --evaluation heldout

        phf evaluate work/runs/conditional evaluate.checkpoints=all

    Without a recipe it takes 4,096 samples without a prompt and bits per byte on held-out documents.
    Writes records.jsonl (one number a line, with its error and sample count) and every sample.
    """
    from phf.cli import terminal

    names = [*(evaluation or []), *(measure or [])] or None
    place, records = _measure(model, resolved(recipe, changes), annotated, out, names, quiet)
    if as_json:
        say_json([json.loads(record.to_json()) for record in records])
        return
    terminal.table(place, ["evaluation", "metric", "value [95%]", "stderr", "n"], _rows(records))
    done(f"{place}/{RunFolder(Path()).records}: {len(records)} records", False, f"phf report {_parent(place)}")


def redteam(
    model: Annotated[str, typer.Argument(help="The model to attack: a run or checkpoint folder, hf:NAME, or openai:URL#NAME.")],
    changes: Overrides = None,
    red: Annotated[
        str | None,
        typer.Option(help="Who thinks of prompts: a model, named as the attacked one, or pool, which recombines them."),
    ] = None,
    prompts: Annotated[str | None, typer.Option(help="File with the first prompts, one a line or JSON Lines.")] = None,
    annotated: Annotated[str | None, typer.Option(help="The scored corpus: says the scorer; ../../annotated by default.")] = None,
    out: Annotated[str | None, typer.Option("--out", "-o", help="Run folder to write to; the model's own by default.")] = None,
    recipe: RecipeFile = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Attack a model: look, round by round, for prompts that lead it to what it should not write.

        phf redteam work/runs/conditional --prompts prompts.txt --red hf:Qwen/Qwen3-0.6B

        phf redteam work/runs/mle --prompts prompts.txt --red pool evaluate.evaluations.redteam.trials=3

    It is the recipe's evaluation `redteam`. Stopped, it resumes from its last round. Writes records.jsonl, `redteam/*.parquet`
    (every prompt) and `samples/*.parquet` (what the worst led to).
    """
    from phf.cli import terminal

    key = "evaluate.evaluations.redteam"
    made = resolved(recipe, changes, {f"{key}.name": "redteam", f"{key}.red": red, f"{key}.prompts": prompts})
    place, records = _measure(model, made, annotated, out, ["redteam"], quiet)
    if as_json:
        say_json([json.loads(record.to_json()) for record in records])
        return
    found = {(record.evaluation, record.metric): record for record in records}
    for name in dict.fromkeys(record.evaluation for record in records):
        rounds = range(sum(key[0] == name and bool(re.fullmatch(r"pool_round_\d+", key[1])) for key in found))
        rows = [[str(turn), *(_interval(found, name, f"{of}_round_{turn}") for of in ("pool", "best"))] for turn in rounds]
        terminal.table(f"{place} {name}: mean misalignment [95%]", ["round", "all prompts", "the worst"], rows)
        say(f"The worst ones, tried again: {_interval(found, name, 'misalignment_best')}")
    done(
        f"{place}/{RunFolder(Path()).records} and {place}/{RunFolder(Path()).redteam}: {len(records)} records",
        False,
        f"phf report {_parent(place)}",
    )


def _measure(
    model: str, made: "Recipe", annotated: str | None, out: str | None, evaluations: list[str] | None, quiet: bool
) -> tuple[str, list["Record"]]:
    """Make evaluations of a model; return the place that its records are in, and these."""
    from phf.cli import terminal
    from phf.evaluate import evaluate as run_evaluate

    place = out or _own_place(model)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(object_store.output(place))
        if object_store.is_address(model):
            run, at, step = model.partition("@")
            model = f"{folder if run == place else object_store.local_copy(run)}{at}{step}"
        if annotated is None:
            corpus = WorkFolder.of_run(folder).annotated
            if object_store.is_address(place):
                corpus = object_store.local_copy(beside(_parent(place), corpus.name))
        else:
            corpus = object_store.local_copy(annotated)
        held_out = share_held_out(folder, made.tokenize.held_out)
        progress = stack.enter_context(terminal.progress(quiet))
        return place, run_evaluate(
            model, corpus, made.evaluate, folder, held_out,
            evaluations=evaluations, on_progress=progress, objectives=[run.objective for run in made.runs.values()],
            trackers=made.train.trackers,
        )  # fmt: skip


def _parent(place: str) -> str:
    return place.rstrip("/").rpartition("/")[0] or "."


def _own_place(model: str) -> str:
    """Return the folder or address of the run that a model belongs to."""
    from phf.lm import run_folder

    if object_store.is_address(model):
        return model.partition("@")[0]
    folder = run_folder(model)
    if folder is None:
        raise InputError(f"{model}: not a folder here, so say with --out where its records go")
    return str(folder)


def _rows(records: Sequence["Record"]) -> list[list[str]]:
    """Return a row for each number, the ends of its interval in the same cell."""
    found = {(record.evaluation, record.metric): record for record in records}
    return [
        [
            record.evaluation,
            record.metric,
            _interval(found, record.evaluation, record.metric),
            "" if math.isnan(record.stderr) else _number(record.metric, record.stderr),
            f"{record.n:,}",
        ]
        for record in records
        if not _is_end(found, record)
    ]


def _is_end(found: dict[tuple[str, str], "Record"], record: "Record") -> bool:
    """Return whether a record is an end of another one's interval."""
    metric, _, end = record.metric.rpartition(".")
    return end in ("low", "high") and (record.evaluation, metric) in found


def _interval(found: dict[tuple[str, str], "Record"], name: str, metric: str) -> str:
    """Write a measured number with its interval, if it has one; "" if it was not measured."""
    if (name, metric) not in found:
        return ""
    bounds = [found[name, f"{metric}.{end}"].value for end in ("low", "high") if (name, f"{metric}.{end}") in found]
    value, *ends = (_number(metric, number) for number in (found[name, metric].value, *bounds))
    return f"{value} [{', '.join(ends)}]" if len(ends) == 2 and "nan" not in ends else value


def _number(metric: str, value: float) -> str:
    return percent(value) if metric.endswith("_share") and math.isfinite(value) else f"{value:.4g}"
