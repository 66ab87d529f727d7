"""Changes of a recipe from the command line: `key.sub=value`, whose values are YAML."""

import re
from typing import Any

from phf.config import yaml
from phf.credentials import scrubbed
from phf.errors import InputError

_FIELD_OF_OBJECTIVE = re.compile(r"^runs\.([^.]+)\.(?!(objective|train|seeds|like|model|segmenter|control|evaluations)\b)")


def override(fields: dict[str, Any], change: str) -> None:
    """Change a value in place, or add it. Of a run, what is no key of a run is a field of its objective.

    Args:
        fields: of a recipe.
        change: such as `train.tokens=10M`. A run or an evaluation set to nothing (`evaluate.evaluations.kl=`) is removed.

    Raises:
        InputError: if it is not `key=value`, the value is not YAML, or the key leads into something without keys.
    """
    shown = scrubbed(change)
    key, sign, value = change.partition("=")
    if not sign or not key:
        raise InputError(f"{shown!r}: expected key.sub=value, such as train.tokens=10M")
    key = re.sub(r"^evaluate\.measures\b", "evaluate.evaluations", key)  # its name in phf 0.1
    *path, last = _FIELD_OF_OBJECTIVE.sub(r"runs.\1.objective.", key).split(".")
    for depth, part in enumerate(path):
        inner = fields.get(part)
        if isinstance(inner, str) and "name" not in path:
            inner = {"name": inner}  # scorer: pii, changed by annotate.scorer.detectors=...
        if inner is None:
            inner = {}
        if not isinstance(inner, dict):
            raise InputError(f"{shown!r}: {'.'.join(path[: depth + 1])} is {inner!r}, which has no keys inside")
        fields[part] = inner
        fields = inner
    parsed = yaml.parse(value, repr(shown))
    if parsed is None and path in (["runs"], ["evaluate", "evaluations"]):
        fields.pop(last, None)
    else:
        fields[last] = parsed
