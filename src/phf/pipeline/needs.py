"""What a recipe needs besides itself: models, tokenizers and data sets of the hub, servers, files. Nothing is downloaded."""

import dataclasses
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from phf import config, lm
from phf.errors import InputError
from phf.evaluate import ReadsFiles
from phf.hub import HubModel

Kind = Literal["model", "tokenizer", "data set", "server", "file", "spaCy model"]


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that a recipe needs besides itself.

    Args:
        key: of the recipe, where it is named first.
        kind: what it is.
        name: on the hub, with its revision if the recipe says one; of a server its address, of a file its path.
        here: whether it is on this machine, of the hub's in its cache; None for what is streamed or asked when it is used.
    """

    key: str
    kind: Kind
    name: str
    here: bool | None

    @property
    def command(self) -> str | None:
        """The command that downloads it ahead of a run; None where there is nothing to download."""
        if self.here is not False or self.kind == "file":
            return None
        if self.kind == "spaCy model":
            return f"python -m spacy download {self.name}"
        name, _, revision = self.name.partition("@")
        return f"hf download {name}" + (f" --revision {revision}" if revision else "")


def find_needs(recipe: config.Recipe) -> list[Need]:
    """Return what a recipe needs from elsewhere, each thing once, in the recipe's order.

    Raises:
        InputError: for a name that the hub cannot have, or a server's address that holds a secret.
    """
    unique: dict[tuple[Kind, str], Need] = {}
    fields = config.plain(recipe)
    for name, component in recipe.evaluate.evaluations.items():  # their defaults name things too
        fields["evaluate"]["evaluations"][name] = dataclasses.asdict(config.build("evaluations", component))
    for key, value in _texts(fields, ""):
        if (named := _need(key, value)) is not None:
            unique.setdefault((named.kind, named.name), named)
    for need in _files(recipe, list(recipe.runs)):
        unique.setdefault((need.kind, need.name), need)
    return list(unique.values())


def check_files(recipe: config.Recipe, names: Sequence[str]) -> None:
    """Check that the files which the evaluations of these runs read are there, before anything is started.

    Raises:
        InputError: naming each that is missing, and its key.
    """
    missing = [f"{need.key}: {need.name} is not on this machine" for need in _files(recipe, names) if not need.here]
    if missing:
        raise InputError(
            f"{'; '.join(missing)}. Put the file there, say where it is with KEY=PATH, or leave the evaluation out with "
            f"{missing[0].partition(':')[0].rpartition('.')[0]}="
        )


def _files(recipe: config.Recipe, names: Sequence[str]) -> Iterator[Need]:
    wanted = {name for run in names for name in (recipe.runs[run].evaluations or recipe.evaluate.evaluations)}
    for name, component in recipe.evaluate.evaluations.items():
        evaluation = config.build("evaluations", component) if name in wanted else None
        if isinstance(evaluation, ReadsFiles):
            for field, path in evaluation.files().items():
                yield Need(f"evaluate.evaluations.{name}.{field}", "file", path, Path(path).exists())


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield every text of a recipe with its key."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)
    elif isinstance(value, str):
        yield key, value


def _need(key: str, value: str) -> Need | None:
    """Return what a text of a recipe names; None for what is on this machine or is no name."""
    field = key.rpartition(".")[2]
    if value.startswith(lm.SERVER):
        return Need(key, "server", lm.check_spec(value).removeprefix(lm.SERVER), None)
    if value.startswith("hf:"):
        name = value.removeprefix("hf:")
        name = name.partition("?")[0]
        if field in ("inputs", "data", "prompts", "problems"):
            return Need(key, "data set", name, None)
        return _of_hub(key, "model", name)
    if field == "spacy_model" and value != "auto" and not Path(value).exists():
        return Need(key, "spaCy model", value, importlib.util.find_spec(value) is not None)
    if field == "model" and value.startswith("from:"):
        return _of_hub(key, "model", value.removeprefix("from:"))
    if field == "model" and "scorer" in key:
        return _of_hub(key, "model", value)
    if key == "tokenize.tokenizer" and value != "train":
        return _of_hub(key, "tokenizer", value)
    return None


def _of_hub(key: str, kind: Kind, name: str) -> Need | None:
    if Path(name).exists() or Path(name.rpartition("@")[0] or name).exists():  # a folder, or RUN@STEP
        return None
    return Need(key, kind, name, HubModel.parse(name).cached(weights=kind == "model") is not None)
