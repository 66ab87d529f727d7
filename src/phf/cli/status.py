"""The command that says how far a work folder has come."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phf.cli.options import AsJson, say, say_json
from phf.formatting import duration, short_count

if TYPE_CHECKING:
    from phf.pipeline import RunStatus, WorkStatus


def status(
    work: Annotated[Path, typer.Argument(help="Work folder of a recipe, such as work/NAME.")], as_json: AsJson = False
) -> None:
    """Show what of a recipe is done, what is left, and how long it takes yet. Nothing is changed.

    phf status work/pii-demo
    """
    from phf.pipeline import find_status

    found = find_status(work)
    if as_json:
        say_json({**dataclasses.asdict(found), "training_left_seconds": found.training_left()})
    else:
        _show(found)


def _show(found: "WorkStatus") -> None:
    from phf.cli import terminal

    terminal.table(str(found.folder), ["stage", "state", "what is there"], [[s.stage, s.state, s.facts] for s in found.stages])
    if found.runs:
        columns = ["run", "state", "tokens", "tokens/s", "evaluated", "to evaluate"]
        terminal.table("Runs", columns, [_row(run) for run in found.runs])
    for run in found.runs:
        if run.fault:
            say(f"Damaged: {run.fault}")
    if found.at_work:
        since = found.at_work.get("since", "?")
        say(f"At work: phf {found.at_work.get('task', '?')}, process {found.at_work.get('pid', '?')}, since {since}.")
    left = found.training_left()
    if left is None:
        say("Training left: not known before a run has trained for some steps.")
    elif left:
        say(f"Training left: about {duration(left)} at the speed so far; evaluations come on top.")
    states = [*(stage.state for stage in found.stages), *(run.state for run in found.runs)]
    if not found.at_work and any(state != "done" for state in states):
        recipe = found.folder / "recipe.yaml"
        say(f"Next: phf run {recipe if recipe.exists() else 'RECIPE'} --out {found.folder}")


def _row(run: "RunStatus") -> list[str]:
    tokens = short_count(run.tokens) if run.total is None else f"{short_count(run.tokens)} of {short_count(run.total)}"
    speed = f"{run.speed:,.0f}" if run.speed else ""
    return [run.run, run.state, tokens, speed, ", ".join(run.evaluated), ", ".join(run.missing)]
