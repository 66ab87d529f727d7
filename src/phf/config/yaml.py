"""Files of keys and values: YAML read by the rules of YAML 1.2, written, and changed by `key.sub=value`."""

import re
from pathlib import Path
from typing import Any

import yaml

from phf.errors import InputError


def to_yaml(value: Any) -> str:
    """Write keys and values as YAML, in the order they stand."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read keys and values from a YAML file.

    Raises:
        InputError: for a missing file, one that is not UTF-8, or invalid YAML, with its line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such recipe") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; expected a YAML recipe") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start}); expected a YAML recipe") from None
    return _parse(text, str(path))


def override(fields: dict[str, Any], change: str) -> None:
    """Change a value in place, or add it; in a run, what is not its objective or its training is a field of its objective.

    Args:
        fields: of a recipe.
        change: such as `train.tokens=10M`; the value is YAML.

    Raises:
        InputError: if it does not fit.
    """
    key, sign, value = change.partition("=")
    if not sign or not key:
        raise InputError(f"{change!r}: expected key.sub=value, such as train.tokens=10M")
    *path, last = re.sub(r"^runs\.([^.]+)\.(?!(objective|train)\b)", r"runs.\1.objective.", key).split(".")
    for depth, part in enumerate(path):
        inner = fields.get(part)
        if isinstance(inner, str) and "name" not in path:
            inner = {"name": inner}  # scorer: pii, overridden by annotate.scorer.detectors=...
        if inner is None:
            inner = {}
        if not isinstance(inner, dict):
            raise InputError(f"{change!r}: {'.'.join(path[: depth + 1])} is {inner!r}, which has no keys inside")
        fields[part] = inner
        fields = inner
    try:
        fields[last] = yaml.load(value, Loader)
    except yaml.YAMLError as error:
        raise InputError(f"{change!r}: the value is not valid YAML: {error}") from None


class Loader(yaml.SafeLoader):
    """YAML 1.2 numbers and booleans: 5e-4 is a number, and yes, no, on and off are words. Repeated keys are errors."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a repeated key, else as usual."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is repeated", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":float", ":bool", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)
Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF"))


class _Dumper(yaml.SafeDumper):
    """Puts in quotes whatever the loader would not read as the text that it is."""


_Dumper.yaml_implicit_resolvers = Loader.yaml_implicit_resolvers


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        fields = yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{where}{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not valid YAML: {error}") from None
    if fields is None:
        raise InputError(f"{where}: empty; expected a recipe with corpus, runs, ...")
    if not isinstance(fields, dict):
        raise InputError(f"{where}: found a {type(fields).__name__}, expected keys and values")
    return fields
