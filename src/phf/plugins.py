"""Components by name: built-ins and plugins alike are entry points, and importing a module registers nothing."""

import dataclasses
import difflib
import functools
import typing
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from phf.errors import InputError

GROUPS = {
    "corpora": "phf.corpora",
    "segmenters": "phf.segmenters",
    "scorers": "phf.scorers",
    "objectives": "phf.objectives",
    "evaluations": "phf.evaluations",
}
"""Kinds of components, by their plural, with the entry-point group of each."""
SINGULAR = {
    "corpora": "corpus",
    "segmenters": "segmenter",
    "scorers": "scorer",
    "objectives": "objective",
    "evaluations": "evaluation",
}


@functools.cache
def available(kind: str) -> dict[str, EntryPoint]:
    """Return every installed component of a kind ("scorers", "objectives", ...) by name, in alphabetical order."""
    entries = sorted(entry_points(group=GROUPS[kind]), key=lambda entry: entry.name)
    return {entry.name: entry for entry in entries}


def find(kind: str, name: str) -> Any:
    """Import the component called `name`.

    Raises:
        InputError: if there is none; the message names the nearest.
    """
    known = available(kind)
    if name not in known:
        raise InputError(f"unknown {SINGULAR[kind]} {name!r}{suggestion(name, known)}")
    return known[name].load()


def caption(kind: str, name: str) -> str:
    """Describe a component in a line: the first paragraph of its docstring, or its location if it cannot be imported."""
    entry = available(kind)[name]
    try:
        text = entry.load().__doc__ or ""
    except Exception as error:  # a broken plugin must not hide the others
        return f"{entry.value} (cannot be imported: {error})"
    return " ".join(text.split("\n\n")[0].split()) or entry.value


def build(kind: str, name: str, fields: Mapping[str, Any] | None = None, where: str = "") -> Any:
    """Build the component called `name` from its fields: a component's configuration is its dataclass.

    Raises:
        InputError: for an unknown name, an unknown field, or a value of the wrong type, with the key's path.
    """
    component = find(kind, name)
    return component(**check_fields(component, fields or {}, where or name))


def check_fields(component: Any, fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Validate `fields` against the dataclass `component`, strictly.

    Raises:
        InputError: naming the key and what was expected of it.
    """
    try:
        checked = fields_model(component).model_validate(dict(fields))
    except ValidationError as error:
        raise InputError(explain(error, fields_model(component), where)) from None
    return {name: getattr(checked, name) for name in checked.model_fields_set}


@functools.cache
def fields_model(component: Any) -> type[BaseModel]:
    """Describe a component's dataclass fields as a strict pydantic model (for checking and for the JSON schema)."""
    assert dataclasses.is_dataclass(component), f"{component} is not a dataclass"
    hints = typing.get_type_hints(component, include_extras=True)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(component):
        if not field.init:
            continue
        if field.default is not dataclasses.MISSING:
            default: Any = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        else:
            default = ...
        fields[field.name] = (hints[field.name], default)
    name = getattr(component, "__name__", "Component")
    config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)
    return create_model(name, __config__=config, __doc__=component.__doc__, **fields)


def explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """Describe what is wrong with a configuration, fault by fault: key path, what was expected, what was found."""
    lines = []
    for fault in error.errors():
        path = [str(part) for part in fault["loc"] if not _is_type_tag(str(part))]
        key = ".".join([where, *path] if where else path)
        if fault["type"] == "extra_forbidden":
            known = _known_keys(model, path[:-1])
            lines.append(f"{key}: unknown key{suggestion(path[-1], known)}")
        elif fault["type"] == "missing":
            hint = "; say a reward, or p50 for the median of the corpus" if path[-1] == "threshold" else ""
            lines.append(f"{key}: missing, and it has no default{hint}")
        elif fault["type"] == "value_error":
            said = str(fault["msg"]).removeprefix("Value error, ")
            lines.append(f"{key}: {said}" if key else said)
        else:
            message = fault["msg"].replace("Input should be", "expected").removesuffix(" instance")
            lines.append(f"{key}: {message[0].lower() + message[1:]}, found {fault['input']!r}")
    return "; ".join(dict.fromkeys(lines))


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the end of an error about an unknown name: the nearest known one, and all of them."""
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    nearest = f"; did you mean {near[0]!r}?" if near else ""
    return f"{nearest} (known: {', '.join(choices) or 'none'})"


def _is_type_tag(part: str) -> bool:
    """Return whether pydantic put this into a path to mark a union's member ("function-after[...]", "str"); no key of a user."""
    return "[" in part or part in ("str", "int", "float", "bool")


def _known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """List the keys allowed where `path` points, following nested models and mappings of models."""
    current: Any = model
    for part in path:
        if isinstance(current, type) and issubclass(current, BaseModel):
            current = current.model_fields[part].annotation if part in current.model_fields else None
        else:  # a mapping: the part is one of its keys
            current = typing.get_args(current)[-1] if typing.get_args(current) else None
        nested = [a for a in typing.get_args(current) if isinstance(a, type) and issubclass(a, BaseModel)]
        if nested and typing.get_origin(current) is not dict:
            current = nested[0]
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []
