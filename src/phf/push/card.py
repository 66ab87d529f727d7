"""What the cards of models and corpora share: their destination, the licence as given, and how an input is named in public."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phf import plugins
from phf.config import to_yaml
from phf.credentials import without_secrets
from phf.errors import require

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
"""An identifier of a licence on the hub, such as cc-by-4.0; anything else is free text."""


@dataclass(frozen=True, slots=True)
class Card:
    """Where a card is going to stand, and what its reader is given beside what files say.

    Args:
        name: OWNER/NAME on the hub.
        revision: the branch; None for the default one.
        data_license: licence of the data, as given; None if it was not.
    """

    name: str
    revision: str | None
    data_license: str | None

    @property
    def license_fields(self) -> dict[str, str]:
        """The licence of a data set as the hub's metadata has it: an identifier, or `other` with the text as its name."""
        if self.data_license is None:
            return {}
        if _LICENSE.fullmatch(self.data_license):
            return {"license": self.data_license}
        return {"license": "other", "license_name": self.data_license}

    def render(self, template: str, metadata: Mapping[str, Any], **values: Any) -> str:
        """Return the card: metadata in front, then a template of this package filled in.

        Raises:
            MissingExtra: without jinja2.
        """
        jinja2 = require("jinja2", "report", "phf push")
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters["cell"] = cell
        environment.globals["named"] = _named
        body: str = environment.get_template(template).render(
            values | {"name": self.name, "revision": self.revision, "data_license": self.data_license}
        )
        return f"---\n{to_yaml(dict(metadata))}---\n\n{body}"


def cell(value: Any) -> str:
    """Write a value into a cell of a Markdown table, where a bar would end it."""
    return " ".join(str(value).replace("|", "\\|").split())


def public_name(address: str) -> str:
    """Return how an input is named in public: a hub name as it is, a path without its folders, an address without secrets."""
    if address.startswith("hf:"):
        return address
    return without_secrets(address) if "://" in address else Path(address).name


def inputs_of(corpus: Mapping[str, Any]) -> list[str]:
    """Return what a corpus was read from, named in public; [] if nothing says.

    Args:
        corpus: the section `corpus` of a recipe, as outputs record it.
    """
    source = _component(corpus.get("source"))
    return [f"`{source['name']}`"] if source else [f"`{public_name(str(address))}`" for address in corpus.get("inputs") or ()]


def hub_datasets(corpus: Mapping[str, Any]) -> list[str]:
    """Return the names of the hub's data sets among the inputs of a corpus."""
    inputs = [str(address) for address in corpus.get("inputs") or () if str(address).startswith("hf:")]
    names = [address.removeprefix("hf:").partition("@")[0] for address in inputs]
    return [name for name in names if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name)]


def described(kind: str, component: Any) -> dict[str, str]:
    """Return a component's name, its fields in a line and what it is; {} if it is not known.

    Args:
        kind: such as "scorers".
        component: `{"name": ..., field: value}`, as outputs record it.
    """
    found = _component(component)
    if not found:
        return {}
    name = str(found.pop("name"))
    fields = ", ".join(f"{key}: {_shown(value)}" for key, value in found.items())
    caption = plugins.caption(kind, name) if name in plugins.available(kind) else ""
    return {"name": name, "fields": fields, "caption": caption}


def _named(component: Mapping[str, str]) -> str:
    """Write a described component's name and fields, for a cell of a table as well."""
    return f"`{cell(component['name'])}`" + (f" ({cell(component['fields'])})" if component["fields"] else "")


def _component(component: Any) -> dict[str, Any]:
    return dict(component) if isinstance(component, Mapping) and component.get("name") else {}


def _shown(value: Any) -> str:
    """Write a component's field in public: a path in it without its folders."""
    return (
        public_name(value)
        if isinstance(value, str) and ("://" in value or value.startswith(("/", "./", "../", "~")))
        else str(value)
    )
