"""Recipes built on others: `include: base.yaml` takes every key of another recipe and changes those that stand here."""

from pathlib import Path
from typing import Any

from phf.config.yaml import read_yaml
from phf.errors import InputError


def read_with_includes(path: Path, including: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a recipe's keys, those of the files that it includes below its own.

    `include` names one file or several, relative to the file it stands in; later ones win over earlier ones. Keys are merged
    one by one, but a component with another name replaces the one below, and a key without a value (`awr:`) removes it.

    Args:
        path: the YAML file.
        including: files on the way to this one.

    Raises:
        InputError: for a file that cannot be read, includes itself, or includes something that is no file name.
    """
    here = path.resolve()
    if here in including:
        circle = " includes ".join(str(file.name) for file in [*including[including.index(here) :], here])
        raise InputError(f"{path}: include: goes round in a circle: {circle}")
    try:
        own = read_yaml(path)
    except InputError as error:
        raise InputError(f"{including[-1]}: include: {error}" if including else str(error)) from None
    names = own.pop("include", [])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise InputError(f"{path}: include: found {names!r}; expected a file name such as base.yaml, or a list of them")
    fields: dict[str, Any] = {}
    for name in names:
        fields = merge(fields, with_long_runs(read_with_includes(path.parent / name, (*including, here))))
    return merge(fields, with_long_runs(own)) if names else own


def long_run(run: Any) -> Any:
    """Expand `mle` and `{name: rwr, beta: 1}` into a run with that objective."""
    return {"objective": run} if isinstance(run, str) or (isinstance(run, dict) and "name" in run) else run


def with_long_runs(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a recipe with every run in its long form."""
    runs = fields.get("runs")
    return {**fields, "runs": {name: long_run(run) for name, run in runs.items()}} if isinstance(runs, dict) else fields


def merge(below: Any, above: Any) -> Any:
    """Lay one value over another: mappings key by key, components of another name and anything else as a whole.

    A key whose value above is None is removed.

    Args:
        below: the value that is changed.
        above: what changes it.
    """
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    if "name" in above and "name" in below and above["name"] != below["name"] and not _is_recipe(below):
        return above
    merged = {key: value for key, value in below.items() if key not in above or above[key] is not None}
    for key, value in above.items():
        if value is not None or key not in below:
            merged[key] = merge(merged.get(key), value) if key in merged else value
    return merged


def _is_recipe(fields: dict[str, Any]) -> bool:
    """Return whether these are the keys of a whole recipe, whose `name` is that of no component."""
    return bool({"runs", "train", "annotate", "tokenize", "evaluate", "corpus", "report"} & set(fields))
