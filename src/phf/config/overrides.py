"""Changes of a recipe from the command line: `key.sub=value`, whose values are YAML."""

import re
from typing import Any

from phf.config import yaml
from phf.errors import InputError


def override(fields: dict[str, Any], change: str) -> None:
    """Change a value in place, or add it. Of a run, what is neither `objective` nor `train` is a field of its objective.

    Args:
        fields: of a recipe.
        change: such as `train.tokens=10M`.

    Raises:
        InputError: if it is not `key=value`, the value is not YAML, or the key leads into something without keys.
    """
    key, sign, value = change.partition("=")
    if not sign or not key:
        raise InputError(f"{change!r}: expected key.sub=value, such as train.tokens=10M")
    key = re.sub(r"^evaluate\.measures\b", "evaluate.evaluations", key)  # its name in phf 0.1
    *path, last = re.sub(r"^runs\.([^.]+)\.(?!(objective|train)\b)", r"runs.\1.objective.", key).split(".")
    for depth, part in enumerate(path):
        inner = fields.get(part)
        if isinstance(inner, str) and "name" not in path:
            inner = {"name": inner}  # scorer: pii, changed by annotate.scorer.detectors=...
        if inner is None:
            inner = {}
        if not isinstance(inner, dict):
            raise InputError(f"{change!r}: {'.'.join(path[: depth + 1])} is {inner!r}, which has no keys inside")
        fields[part] = inner
        fields = inner
    fields[last] = yaml.parse(value, repr(change))
