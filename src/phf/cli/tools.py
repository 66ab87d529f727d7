"""The commands for the pieces: a look at rewards, reward models, what there is to name."""

import dataclasses
import shutil
from pathlib import Path
from typing import Annotated

import typer

from phf import object_store
from phf.cli.options import AsJson, Quiet, done, number, say, say_json
from phf.errors import InputError


def inspect(
    annotated: Annotated[str, typer.Argument(help="Folder or address that annotate wrote, or published scored data.")],
    column: Annotated[str, typer.Option(help="Column of rewards.")] = "rewards",
    threshold: Annotated[str, typer.Option(help="Reward, or quantile of the segments, to look around.")] = "p50",
    svg: Annotated[Path | None, typer.Option(help="Also draw the histogram into this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show how rewards are distributed, and what a threshold would call aligned.

    phf inspect work/annotated --threshold p50
    """
    from phf.inspection import inspect as run_inspect
    from phf.inspection import plot, text

    found = run_inspect(object_store.local_copy(annotated), column, threshold)
    if svg is not None:
        plot(found, svg)
    if as_json:
        say_json(dataclasses.asdict(found))
        return
    say(text(found, shutil.get_terminal_size().columns))
    if svg is not None:
        say(f"Wrote: {svg}")


def reward_train(
    labels: Annotated[
        Path, typer.Argument(help="Parquet, CSV, TSV or JSONL of labelled texts or of pairs; or an annotated corpus.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; `phf annotate --scorer FOLDER` loads it.")] = Path(
        "reward"
    ),
    text: Annotated[str, typer.Option(help="Column of texts.")] = "text",
    label: Annotated[str, typer.Option(help="Column of labels; 1 (or true) is undesirable.")] = "toxic",
    source: Annotated[str | None, typer.Option(help="Column that says where a text is from.")] = None,
    split: Annotated[str | None, typer.Option(help="Column that says train or test.")] = None,
    base: Annotated[str | None, typer.Option(help="Finetune this Hugging Face model instead of a linear one.")] = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds of the cross-validation.")] = 5,
    kind: Annotated[str, typer.Option(help="classification, regression (of an annotated corpus) or pairs; auto looks.")] = "auto",
    threshold: Annotated[str | None, typer.Option(help="Classes of an annotated corpus: lower rewards are undesirable.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a reward model from labels of people or of another scorer.

        phf reward train labels.parquet --text text --label toxic --out work/reward

    Writes a folder with the model, metrics.json and calibration.svg. A text's reward is -P(undesirable).
    """
    from phf.cli import terminal
    from phf.reward import TrainOptions
    from phf.reward import train as train_reward

    options = TrainOptions(
        kind=kind,  # type: ignore[arg-type]  # checked there
        text=text,
        label=label,
        source=source,
        split=split,
        threshold=threshold,
        base=base,
        folds=folds,
    )
    with terminal.progress(quiet) as progress:
        found = train_reward(labels, out, options, progress)
    if as_json:
        say_json(found)
        return
    for how, sources in found["measured"].items():
        columns = list(dict.fromkeys(name for numbers in sources.values() for name in numbers))
        rows = [[name, *(number(numbers.get(column)) for column in columns)] for name, numbers in sources.items()]
        terminal.table(f"Measured on {how}", ["source", *columns], rows)
    for side, words in found.get("words", {}).items():
        say(f"{side}: {', '.join(word for word, _ in words[:20])}")
    done(f"{out}", False, f"phf annotate CORPUS --scorer {out}")


def list_components(
    kind: Annotated[str | None, typer.Argument(help="corpora, segmenters, scorers, objectives or evaluations.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what can be named in a recipe, built in and from plugins.

    phf list scorers
    """
    from phf import plugins
    from phf.cli import terminal

    if kind is not None and kind not in plugins.GROUPS:
        raise InputError(f"unknown kind {kind!r}{plugins.suggestion(kind, plugins.GROUPS)}")
    listed = {
        group: {name: plugins.caption(group, name) for name in plugins.available(group)}
        for group in ([kind] if kind else plugins.GROUPS)
    }
    if as_json:
        say_json(listed)
        return
    for group, captions in listed.items():
        rows = [[name, caption] for name, caption in captions.items()]
        terminal.table(group, ["name", "what it is"], rows)
        say("")


def schema() -> None:
    """Print the JSON Schema of recipes, for editors.

    phf schema > recipe.schema.json
    """
    import json

    from phf.config import recipe_schema

    say(json.dumps(recipe_schema(), indent=2))
