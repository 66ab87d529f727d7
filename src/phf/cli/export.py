"""The command that writes what an objective trains on, in the format of another trainer."""

from pathlib import Path
from typing import Annotated

import typer

from phf import object_store
from phf.cli.options import Overrides, Quiet, RecipeFile, resolved, say


def export(
    tokens: Annotated[str, typer.Argument(help="Folder or address that tokenize wrote.")],
    out: Annotated[Path, typer.Argument(help="File (jsonl, parquet), folder (datasets) or prefix (megatron) to write.")],
    changes: Overrides = None,
    objective: Annotated[str, typer.Option(help="Objective, by name, or a run of the recipe.")] = "conditional",
    to: Annotated[str, typer.Option(help="jsonl, parquet, datasets or megatron.")] = "jsonl",
    epoch: Annotated[int, typer.Option(min=0, help="Decides the order, and which control tokens are dropped.")] = 0,
    recipe: RecipeFile = None,
    quiet: Quiet = False,
) -> None:
    """Write what an objective trains on, for another trainer.

        phf export work/tokens out.jsonl --objective conditional --to jsonl runs.conditional.threshold=0

    jsonl and parquet hold text with control tokens, datasets and megatron token ids; see docs/integrations.md.
    """
    from phf.cli import terminal
    from phf.export import export as run_export

    recipe_runs = resolved(recipe, changes if recipe else None).runs
    if objective in recipe_runs:
        made = resolved(recipe, changes)
    else:
        made = resolved(recipe, [f"runs.{objective}.name={objective}", *(changes or [])])
    component = made.runs[objective].objective
    store = object_store.local_copy(tokens)
    with terminal.progress(quiet) as progress:
        summary = run_export(store, out, component, to, seed=made.train.seed, epoch=epoch, on_progress=progress)  # type: ignore[arg-type]
    if summary.remark:
        say(f"Note: {summary.remark}")
    say(f"Wrote: {', '.join(map(str, summary.files))}: {summary.documents:,} documents, {summary.tokens:,} tokens")
