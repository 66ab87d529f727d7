"""A hook of mkdocs: the recipe reference from the schema, and every command from its own help."""

from collections.abc import Iterator
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from phf import plugins
from phf.cli import app
from phf.config import recipe_schema


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for name, lines in {"recipe": recipe_page(), "commands": commands_page()}.items():
        files.append(File.generated(config, f"reference/{name}.md", content="\n".join(lines) + "\n"))
    return files


def recipe_page() -> Iterator[str]:
    """Yield the lines of the recipe reference: each section's keys, then each component's fields."""
    schema = recipe_schema()
    yield "# Recipe reference\n"
    yield "Generated from the schema, which `phf schema` prints for editors. A component is written as its name, or as"
    yield "`{name: NAME, FIELD: VALUE}`.\n"
    yield "## Top level\n"
    yield from _fields(schema, schema)
    for key, field in schema["properties"].items():
        section = schema["$defs"].get(str(_reference(field)))
        if section and "properties" in section:
            yield f"## {key}\n"
            yield f"{_first(section.get('description', ''))}\n"
            yield from _fields(section, schema)
    for kind in plugins.GROUPS:
        yield f"## {kind.capitalize()}\n"
        for name in plugins.available(kind):
            component = plugins.find(kind, name)
            yield f"### {plugins.SINGULAR[kind]} `{name}` {{ #{kind}-{name} }}\n"
            yield f"{_escape(plugins.caption(kind, name))}\n"
            model = plugins.fields_model(component).model_json_schema()
            yield from _fields(model, model)


def _fields(section: dict[str, Any], whole: dict[str, Any]) -> Iterator[str]:
    if not section.get("properties"):
        return
    yield "| key | type | default | |"
    yield "|---|---|---|---|"
    for name, field in section["properties"].items():
        required = name in section.get("required", [])
        default = "required" if required else f"`{field['default']}`".replace("|", "\\|") if "default" in field else ""
        yield f"| `{name}` | {_type(field)} | {default} | {_escape(_first(field.get('description', '')))} |"
    yield ""


def _type(field: dict[str, Any]) -> str:
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if choices := field.get("anyOf") or field.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(choice) for choice in choices))
    if reference := _reference(field):
        return reference.lower()
    kind = field.get("type", "any")
    return f"list of {_type(field.get('items', {}))}" if kind == "array" else str(kind)


def _reference(field: dict[str, Any]) -> str:
    return str(field.get("$ref", "")).rsplit("/", 1)[-1]


def commands_page() -> Iterator[str]:
    """Yield the lines of the command reference."""
    yield "# Commands\n"
    yield "Every command, as its `--help` has it.\n"
    group = typer.main.get_command(app)
    yield from _command(group, "phf")


def _command(command: Any, name: str) -> Iterator[str]:
    if name != "phf":
        yield f"## {name}\n"
    yield f"{_dedent(command.help or '')}\n"
    rows = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    if rows:
        yield "| argument or option | |"
        yield "|---|---|"
        for parameter in rows:
            spelled = parameter.name.upper() if parameter.param_type_name == "argument" else ", ".join(parameter.opts)
            yield f"| `{spelled}` | {_escape(getattr(parameter, 'help', None) or '')} |"
        yield ""
    for child, sub in sorted(getattr(command, "commands", {}).items()):
        if not sub.hidden:
            yield from _command(sub, f"{name} {child}")


def _dedent(text: str) -> str:
    return "\n".join(line if line.startswith("    ") or not line.startswith(" ") else line.strip() for line in text.splitlines())


def _first(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
