"""What `phf run --dry-run` prints: the runs and what they need besides the recipe. Nothing is started, downloaded or asked."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phf.config import Recipe


def show_plan(recipe: "Recipe", only: Sequence[str], as_json: bool = False) -> None:
    """Print the stages and runs of a recipe, and what it needs from the hub, from servers and of files.

    Raises:
        InputError: as running the recipe would, for what can be known before anything is started.
    """
    from phf.cli import terminal
    from phf.cli.options import say_json
    from phf.pipeline import find_needs, select

    names = select(recipe, only)
    rows = []
    for name in names:
        run, train = recipe.runs[name], recipe.train_of(name)
        what = f"evaluate {run.model}" if run.model else f"train {train.tokens or 0:,} tokens, evaluate"
        rows.append([name, run.objective.name, what, ", ".join(run.evaluations or recipe.evaluate.evaluations)])
    chosen = recipe.model_copy(update={"runs": {name: recipe.runs[name] for name in names}})
    states = {True: "on this machine", None: "used when it is asked for", False: "NOT on this machine"}
    needs = [[need.kind, need.name, need.key, need.command or states[need.here]] for need in find_needs(chosen)]
    if as_json:
        columns = ("run", "objective", "to do", "evaluations"), ("kind", "name", "key", "where")
        say_json({
            kind: [dict(zip(names, row, strict=True)) for row in table]
            for kind, names, table in zip(("runs", "needs"), columns, (rows, needs), strict=True)
        })  # fmt: skip
        return
    terminal.table("Runs", ["run", "objective", "to do", "evaluations"], rows)
    if needs:
        terminal.table("Needed from elsewhere", ["kind", "name", "key", "where it is, or the command that downloads it"], needs)
    terminal.say("Dry run: nothing was started.")
