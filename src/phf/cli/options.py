"""What the commands share: options, recipes read from files, flags and KEY=VALUE changes, and what is said at the end."""

import json
import math
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phf.credentials import scrubbed
from phf.errors import InputError

if TYPE_CHECKING:
    from phf.config import Recipe

_SECTIONS = "name|corpus|annotate|tokenize|train|runs|evaluate|report|jobs|engine"

RecipeFile = Annotated[
    Path | None,
    typer.Option(
        "--recipe", "-r", help="YAML recipe, or the name of one in `phf recipes`; this stage reads its own section of it."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Change the recipe, such as train.tokens=10M.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead, for programs.")]
Out = Annotated[str, typer.Option("--out", "-o", help="Folder to write, or an address such as s3://bucket/folder.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; warnings and errors only.")]


def beside(place: str, name: str) -> str:
    """Return a path or an address beside another one."""
    parent, slash, _ = place.rstrip("/").rpartition("/")
    return f"{parent}{slash}{name}"


def split(words: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Separate inputs from KEY=VALUE changes of the recipe."""
    changes = [word for word in words or [] if re.match(rf"({_SECTIONS})(\.[^=]+)?=", word)]
    return [word for word in words or [] if word not in changes], changes


def resolved(path: Path | None, changes: Sequence[str] | None, options: dict[str, Any] | None = None) -> "Recipe":
    """Read a recipe; options of the command line go over it, and KEY=VALUE changes over both."""
    from phf.config import find_recipe, read_recipe

    flags = [f"{key}={json.dumps(value)}" for key, value in (options or {}).items() if value is not None]
    return read_recipe(path and find_recipe(path), [*flags, *(changes or [])])


def origin_of(recipe: Path) -> str:
    """Describe where a recipe comes from: its file, or the name of one that comes with phf, and its commit if it has one."""
    from phf import __version__
    from phf.config import find_recipe
    from phf.records import commit_of

    commit = commit_of(find_recipe(recipe).absolute())
    shipped = "" if recipe.exists() else f", which comes with phf {__version__}"
    return f"{recipe}{shipped}" + (f" at commit {commit}" if commit else "")


def share_held_out(run: Path, otherwise: float) -> float:
    """Return the share of documents that a run was not trained on: what its own config.yaml says, or the recipe."""
    from phf.config import read_yaml
    from phf.layout import RunFolder

    about = RunFolder(run).config
    tokens = read_yaml(about).get("tokens") if about.exists() else None  # a run that is only evaluated has none
    try:
        return float(tokens["tokenize"]["held_out"]) if tokens else otherwise
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{about}: not what `phf train` wrote (no tokens.tokenize.held_out); restore it from a copy") from None


def scorer_named(name: str | None) -> Any:
    """Return a scorer by name, or the one that a folder of `phf reward train` holds."""
    if name is None or not Path(name).is_dir():
        return name
    return {"name": "classifier", "model": name} if (Path(name) / "config.json").exists() else {"name": "toxicity", "path": name}


def number(value: float | int | None) -> str:
    """Write a number for a table."""
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def say_json(value: Any) -> None:
    """Print a value as JSON on standard output; a number that is not finite becomes null."""
    from phf.cli import terminal

    terminal.write(json.dumps(_finite(value), indent=2, ensure_ascii=False, default=str) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def done(what: str, already: bool, next_step: str) -> None:
    """Print what was written, and what can be done with it."""
    say(f"{'Already there, left alone' if already else 'Wrote'}: {what}")
    say(f"Next: {next_step}")


def say(text: str) -> None:
    """Print on standard output."""
    from phf.cli import terminal

    terminal.say(text)


def fail(text: str, code: int) -> None:
    """Print an error in one line on standard error, and exit."""
    try:
        from phf.cli import terminal

        terminal.fail(text)
    except (MemoryError, ImportError):  # what prints it cannot be loaded any more
        os.write(2, f"phf: {scrubbed(text)}\n".encode(errors="backslashreplace"))
    sys.exit(code)
