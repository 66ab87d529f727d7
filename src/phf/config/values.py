"""Values as people write them: counts (3.7M), moments of a run (50%), and components by name."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from phf import plugins

LONGEST_NAME = 100
"""Letters of a run, an evaluation or a recipe: file names made from it must stay below 255 bytes."""

_UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9}
_MEANT = {"k": "k", "b": "B", "g": "B", "": ""}  # by the small letter; others, such as m, are taken for millions


def _count(value: Any) -> Any:
    """Read 3.7M as 3,700,000, and refuse what is no number of anything."""
    counted = _plain_count(value)
    if isinstance(counted, str):
        digits = re.match(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*(\w?)", counted)
        unit = _MEANT.get(digits[2].lower(), "M") if digits else ""
        say = f"; say {digits[1]}{unit}" if digits else ""
        raise ValueError(f"found {counted!r}, expected a count such as 250000, 250k, 10M or 3.3B{say}")
    return counted


def _plain_count(value: Any) -> Any:
    """Read 3.7M as 3,700,000; anything else stays as it is."""
    match = re.fullmatch(r"([0-9][0-9_]*(?:\.[0-9]+)?)([kKMB]?)", value) if isinstance(value, str) else None
    if match:
        return round(float(match[1].replace("_", "")) * _UNITS[match[2]])
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, BeforeValidator(_count, json_schema_input_type=int | str), Field(gt=0)]
"""A number of things, such as 250000, 250k, 3.7M or 3.3B."""


def read_moment(value: Any) -> Any:
    """Read 1.6B as a count of tokens, and leave a share such as 50% as it is."""
    counted = _plain_count(value)
    if isinstance(counted, int) and not isinstance(counted, bool) and counted > 0:
        return counted
    if isinstance(value, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)?%", value) and 0 < float(value[:-1]) <= 100:
        return value
    raise ValueError(f"found {value!r}; expected a count of tokens such as 1.6B, or a share such as 50%")


def check_name(name: str, what: str) -> None:
    """Check a name that becomes that of a file or folder below the output folder.

    Raises:
        ValueError: if it could lead elsewhere, or is too long for a file system.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or len(name) > LONGEST_NAME:
        shown = name if len(name) <= LONGEST_NAME else f"{name[:20]}... ({len(name)} letters)"
        expected = f"at most {LONGEST_NAME} letters, digits, '.', '_' and '-'"
        raise ValueError(f"{what} {shown!r}: expected {expected} (it names a file or folder)")


class Component(BaseModel):
    """A component by name, with its fields beside it: `{name: conditional, threshold: 0}`, or just `conditional`."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    name: str

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def fields(self) -> dict[str, Any]:
        """The fields, without the name."""
        return dict(self.__pydantic_extra__ or {})


COMPONENT = "component"  # marks, in an unfinished JSON schema, where a component of a kind may stand


def component_of(kind: str) -> Any:
    """Return the type of a component of one kind, whose name and fields are checked as soon as the recipe is read."""

    def check(component: Component) -> Component:
        plugins.check_fields(plugins.find(kind, component.name), component.fields, component.name)
        return component

    return Annotated[Component, AfterValidator(check), WithJsonSchema({COMPONENT: kind})]


def build(kind: str, component: Component) -> Any:
    """Build the component that a recipe names."""
    return plugins.build(kind, component.name, component.fields)
