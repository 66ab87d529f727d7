"""The commands for the recipes that come with phf: what there is, and a copy to change."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phf import artifacts
from phf.cli.options import AsJson, done, say_json
from phf.errors import InputError
from phf.formatting import short_count

if TYPE_CHECKING:
    from phf.config import Component, Recipe

app = typer.Typer(rich_markup_mode="markdown")


@app.callback(invoke_without_command=True)
def show(context: typer.Context, as_json: AsJson = False) -> None:
    """List the recipes that come with phf: `phf run NAME` runs one.

    phf recipes

    phf recipes copy pii-demo mine.yaml
    """
    from phf.cli import terminal
    from phf.config import read_recipe, shipped_recipes

    if context.invoked_subcommand is not None:
        return
    read = {name: read_recipe(path) for name, path in shipped_recipes().items()}
    shown = {name: describe(shipped_recipes()[name], recipe) for name, recipe in read.items() if recipe.runs}
    if as_json:
        say_json([{"name": name, **about} for name, about in shown.items()])
        return
    rows = [[name, about["title"], about["task"], about["size"]] for name, about in shown.items()]
    terminal.table("Recipes: phf run NAME", ["name", "what it does", "task", "size"], rows)


@app.command()
def copy(
    name: Annotated[str, typer.Argument(help="One of `phf recipes`.")],
    file: Annotated[Path | None, typer.Argument(help="File to write; NAME.yaml by default.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Copy a recipe that comes with phf, to change it.

    phf recipes copy pii-demo mine.yaml

    Files that it includes are copied with it, into the folders that it names them in.
    """
    from phf.config import shipped_recipes
    from phf.plugins import suggestion

    shipped = shipped_recipes()
    if name not in shipped:
        raise InputError(f"unknown recipe {name!r}{suggestion(name, shipped)}")
    target = file or Path(f"{name}.yaml")
    if target.is_dir():
        target /= f"{name}.yaml"
    copies = {target: shipped[name]}
    included = _included(shipped[name])
    copies |= {target.parent / os.path.relpath(path, shipped[name].parent): path for path in included}
    for path, source in copies.items():
        if path.exists() and (path == target or path.read_bytes() != source.read_bytes()):
            raise InputError(f"{path}: is there already; name another file, or delete this one")
    for path, source in copies.items():
        with artifacts.whole_file(path) as temporary:
            temporary.write_bytes(source.read_bytes())
    if as_json:
        say_json({"written": [str(path) for path in copies]})
    else:
        done(", ".join(map(str, copies)), False, f"phf run {target} --dry-run")


def describe(path: Path, recipe: "Recipe") -> dict[str, Any]:
    """Describe a recipe: the first comment up to a colon or a full stop, its task and its size."""
    comment = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#") or line.startswith("#  "):
            break
        comment.append(line.removeprefix("#").strip())
    title = re.split(r":\s|\.\s+(?=[A-Z`])", " ".join(comment))[0].rstrip(".:")
    expanded = recipe.expanded()
    trained = [name for name, run in expanded.runs.items() if run.model is None]
    tokens = sorted({train.tokens for train in map(expanded.train_of, trained) if train.tokens is not None})
    size = f"{recipe.train.model if isinstance(recipe.train.model, str) else recipe.train.model.get('preset', 'own model')}, "
    size += f"{' to '.join(map(short_count, tokens[:1] + tokens[1:][-1:]))} tokens, " if tokens else ""
    return {
        "title": title,
        "task": ", ".join(dict.fromkeys(_task(scorer) for scorer in _scorers(recipe))),
        "size": f"{size}{len(trained)} runs" if trained else f"{len(recipe.runs)} models, evaluated only",
        "file": str(path),
    }


def _scorers(recipe: "Recipe") -> "list[Component]":
    """Return what scores the samples: scorers of evaluations, second opinions (`rescore`) apart, or the corpus's."""
    from phf.config import Component

    evaluations = [component for component in recipe.evaluate.evaluations.values() if component.name != "rescore"]
    named = [component.fields["scorer"] for component in evaluations if "scorer" in component.fields]
    return [Component.model_validate(scorer) for scorer in named] or [recipe.annotate.scorer]


def _task(scorer: "Component") -> str:
    """Return what a scorer looks for, in a word."""
    from phf.config import Component

    if "samples" in scorer.fields:  # scores published with the data
        return _task(Component.model_validate(scorer.fields["samples"]))
    label = scorer.fields.get("label")
    return str(label) if label else scorer.name


def _included(path: Path) -> list[Path]:
    """Return the recipes that a recipe includes, theirs among them."""
    from phf.config import read_yaml

    names = read_yaml(path).get("include", [])
    found = [path.parent / name for name in ([names] if isinstance(names, str) else names)]
    return [*found, *(inner for file in found for inner in _included(file))]
