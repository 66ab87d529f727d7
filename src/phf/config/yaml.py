"""Keys and values in YAML files: read by the rules of YAML 1.2, written, and parsed from single values."""

import re
from pathlib import Path
from typing import Any

import yaml

from phf import checksums
from phf.errors import InputError


def to_yaml(value: Any) -> str:
    """Return keys and values as YAML, in their own order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def to_flow(value: Any) -> str:
    """Return a value as YAML in one line, as it can stand behind a key."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read keys and values from a YAML file.

    Raises:
        InputError: for a missing file, one that is not UTF-8, one that phf wrote and that is damaged, or invalid YAML, with its
            line.
    """
    checksums.verify(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; expected a YAML file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start}); expected a YAML file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected a YAML file") from None
    fields = parse(text, str(path))
    if fields is None:
        raise InputError(f"{path}: empty; expected keys and values")
    if not isinstance(fields, dict):
        raise InputError(f"{path}: found a {type(fields).__name__}, expected keys and values")
    return fields


def parse(text: str, where: str) -> Any:
    """Parse one YAML document.

    Args:
        text: the document.
        where: what an error calls it, such as its file.

    Raises:
        InputError: if it is not valid YAML, with its line.
    """
    try:
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{where}{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise InputError(f"{where}: not valid YAML: brackets or lists are nested too deeply to be read") from None


class Loader(yaml.SafeLoader):
    """YAML 1.2 numbers and booleans: 5e-4 is a number, and yes, no, on and off are words. Repeated keys are errors."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct a value; one that its tag (`!!int abc`) cannot hold is an error with its line."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, IndexError, OverflowError, AttributeError):
            kind = node.tag.rsplit(":", 1)[-1]
            problem = f"{str(node.value)[:40]!r} cannot be read as {kind}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping whose keys are single values, each once."""
        if not isinstance(node, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(None, None, f"expected keys and values, found a {node.id}", node.start_mark)
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                problem = f"a {key_node.id} stands as a key; expected a word or a number (is a quote or a bracket missing?)"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
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
    """Quotes whatever the loader would not read as text."""


_Dumper.yaml_implicit_resolvers = Loader.yaml_implicit_resolvers
