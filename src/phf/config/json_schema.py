"""The JSON Schema of a recipe, for editors."""

from typing import Any

from phf import plugins
from phf.config.recipe import Recipe
from phf.config.values import COMPONENT


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe, with the fields of every installed component."""
    whole = _with_references(Recipe.model_json_schema())
    definitions = whole.setdefault("$defs", {})
    run = definitions["Run"]
    run.pop("required")  # a run may be `like` another, or change one that an included recipe has
    changes = {"type": "object", "not": {"required": ["name"]}, "description": "Fields that differ from the other run's."}
    run["properties"]["objective"] = {"anyOf": [run["properties"]["objective"], changes]}
    definitions["Run"] = {"anyOf": [{"$ref": "#/$defs/objectives"}, definitions["Run"], {"type": "null"}]}
    description = "Recipes that this one is built on: file names, relative to this file. A key without a value removes theirs."
    names = {"type": "array", "items": {"type": "string"}}
    whole["properties"]["include"] = {"anyOf": [{"type": "string"}, names], "description": description}
    for kind in plugins.GROUPS:
        choices: list[dict[str, Any]] = [{"enum": list(plugins.available(kind))}]
        for name in plugins.available(kind):
            fields = plugins.fields_model(plugins.find(kind, name)).model_json_schema()
            definitions.update(fields.pop("$defs", {}))
            properties = {"name": {"const": name}, **fields.get("properties", {})}
            choices.append({**fields, "properties": properties, "required": ["name", *fields.get("required", [])], "title": name})
        definitions[kind] = {"anyOf": choices}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "phf recipe", **whole}


def _with_references(value: Any) -> Any:
    if isinstance(value, dict):
        if COMPONENT in value:
            rest = {key: inner for key, inner in value.items() if key != COMPONENT}
            return {"$ref": f"#/$defs/{value[COMPONENT]}"} | rest
        return {key: _with_references(inner) for key, inner in value.items()}
    return [_with_references(inner) for inner in value] if isinstance(value, list) else value
