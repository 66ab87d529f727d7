"""The recipe: one YAML file that says corpus, objectives and evaluations; overridden by `key.sub=value`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from phf import plugins
from phf.config import yaml
from phf.config.overrides import override
from phf.config.sections import Annotate, Corpus, Evaluate, Report, Strict, Tokenize, Train
from phf.config.values import component_of
from phf.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


def _long_form(run: Any) -> Any:
    """Expand `mle` and `{name: rwr, beta: 1}` into a run with that objective."""
    return {"objective": run} if isinstance(run, str) or (isinstance(run, dict) and "name" in run) else run


class Run(Strict):
    """One model to train: an objective, and what differs from the recipe's `train` for it."""

    objective: component_of("objectives")  # type: ignore[valid-type]
    train: dict[str, Any] = Field(default={})
    """Keys of `train` that differ for this run."""

    @model_validator(mode="before")
    @classmethod
    def _from_objective(cls, value: Any) -> Any:
        return _long_form(value)


class Recipe(Strict):
    """The whole job."""

    name: str = "phf"
    corpus: Corpus = Corpus()
    annotate: Annotate = Annotate()
    tokenize: Tokenize = Tokenize()
    train: Train = Train()
    runs: dict[str, Run] = Field(default={})
    """Models to train, by name."""
    evaluate: Evaluate = Evaluate()
    report: Report = Report()
    jobs: int | None = Field(default=None, ge=1)
    """Runs trained and evaluated side by side; by default one on a GPU, as many as cores (at most the runs) without."""

    @model_validator(mode="after")
    def _runs_train(self) -> Self:
        for name, run in self.runs.items():
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
                raise ValueError(f"run name {name!r}: expected letters, digits, '.', '_' and '-' (it names a folder)")
            check(Train, {**self.train.model_dump(), **run.train}, f"runs.{name}.train")
        return self

    def train_of(self, run: str) -> Train:
        """Return the training configuration of one run: the recipe's, with what differs for it."""
        return check(Train, {**self.train.model_dump(), **self.runs[run].train}, f"runs.{run}.train")


def check(model: type[Model], fields: Any, where: str) -> Model:
    """Validate a part of a recipe.

    Raises:
        InputError: naming each key that is unknown, missing or of the wrong type, and what was expected.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise InputError(plugins.explain(error, model, where)) from None


def read_recipe(path: Path | None, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `key.sub=value` overrides, whose values are YAML.

    Args:
        path: the YAML file; None for a recipe of defaults.
        overrides: such as `["train.tokens=10M", "runs.mle=mle"]`.

    Raises:
        InputError: for a missing file, invalid YAML (with its line), or an invalid key or value (with its path).
    """
    fields = yaml.read_yaml(path) if path else {}
    if isinstance(fields.get("runs"), dict):
        fields["runs"] = {name: _long_form(run) for name, run in fields["runs"].items()}
    for change in overrides:
        override(fields, change)
    try:
        return check(Recipe, fields, "")
    except InputError as error:
        raise InputError(f"{path}: {error}" if path else str(error)) from None


def dump(model: BaseModel) -> str:
    """Return a configuration as YAML, every default spelled out."""
    return yaml.to_yaml(plain(model))


def plain(model: BaseModel) -> Any:
    """Return a configuration as values that JSON can hold."""
    return model.model_dump(mode="json")
