"""The recipe: one YAML file that says corpus, objectives and evaluations; overridden by `key.sub=value`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from phf import plugins
from phf.config import yaml
from phf.config.include import long_run, read_with_includes, with_long_runs
from phf.config.like import with_likes
from phf.config.overrides import override
from phf.config.sections import Annotate, Corpus, Evaluate, Report, Strict, Tokenize, Train, rename_measures
from phf.config.seeds import expand_runs, seeds_of
from phf.config.values import Count, check_name, component_of
from phf.credentials import check_url
from phf.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


class Run(Strict):
    """One model: to train, by an objective and what differs from the recipe's `train` for it; or a finished one, by its name."""

    objective: component_of("objectives")  # type: ignore[valid-type]
    train: dict[str, Any] = Field(default={})
    """Keys of `train` that differ for this run."""
    seeds: Count | list[int] | None = None
    """Train it several times: 3 is with `train.seed` 0, 1 and 2, in folders NAME.seed-0, ...; or a list of seeds."""
    model: str | None = None
    """A finished model, such as hf:NAME@REVISION: it is evaluated, not trained, and `objective` says how it was trained."""
    segmenter: component_of("segmenters") | None = None  # type: ignore[valid-type]
    """What cut the training documents of `model`, which its samples are cut by too; that of `annotate` by default."""
    control: list[str] | None = None
    """Control tokens of `model`, the one to condition on first; by default phf's, if its tokenizer has them."""
    evaluations: list[str] | None = None
    """Which of the recipe's evaluations; all by default."""
    like: str | None = Field(default=None, exclude=True)
    """Another run of the recipe: its objective and its `train`, changed by those given here."""

    @model_validator(mode="before")
    @classmethod
    def _from_objective(cls, value: Any) -> Any:
        return long_run(value)

    @model_validator(mode="after")
    def _trained_or_named(self) -> Self:
        if self.model is None and (self.segmenter is not None or self.control is not None):
            raise ValueError("segmenter and control belong to a run with `model`; one that is trained takes those of the corpus")
        if self.seeds is not None and (self.model is not None or "seed" in self.train):
            raise ValueError("seeds belong to a run that is trained and has no `train.seed` of its own")
        if isinstance(self.seeds, list) and (not self.seeds or len(set(self.seeds)) < len(self.seeds)):
            raise ValueError(f"seeds is {self.seeds}; expected a number of seeds, or a list of different ones")
        if self.model is not None and self.train:
            raise ValueError(f"found both `train` and `model: {self.model}`; a run with `model` is evaluated, not trained")
        return self


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
    """Runs trained and evaluated side by side; by default one on each GPU, as many as cores (at most the runs) without."""

    engine: Literal["local", "ray"] = "local"
    """Where runs are trained and evaluated: on this machine, or side by side over the Ray cluster of `annotate.address`."""

    @model_validator(mode="before")
    @classmethod
    def _runs_like_others(cls, value: Any) -> Any:
        runs = value.get("runs") if isinstance(value, dict) else None
        return {**value, "runs": with_likes(runs)} if isinstance(runs, dict) else value

    @model_validator(mode="after")
    def _names_are_names_of_files(self) -> Self:
        check_name(self.name, "name")
        for name in self.evaluate.evaluations:
            check_name(name, "evaluation name")
        return self

    @model_validator(mode="after")
    def _runs_train(self) -> Self:
        for name, run in self.runs.items():
            check_name(name, "run name")
            options = check(Train, {**self.train.model_dump(), **run.train}, f"runs.{name}.train")
            if options.init and (parent := self.runs.get(options.init.run)) and parent.model is not None:
                raise ValueError(
                    f"runs.{name}.train.init: {options.init.run} is not trained here, so its data order is unknown; to train its "
                    f"weights further set runs.{name}.train.model to from:NAME"
                )
            for evaluation in run.evaluations or ():
                if evaluation not in self.evaluate.evaluations:
                    known = plugins.suggestion(evaluation, self.evaluate.evaluations)
                    raise ValueError(f"runs.{name}.evaluations: unknown evaluation {evaluation!r}{known}")
        return self

    def expanded(self) -> "Recipe":
        """Return the recipe with one run for each seed of a run.

        Raises:
            InputError: for a run that is initialised from a seed that the other run does not have.
        """
        inits = {}
        for name, run in self.runs.items():
            init = None if run.model is not None else self.train_of(name).init
            inits[name] = init.model_dump() if init and seeds_of(getattr(self.runs.get(init.run), "seeds", None)) else None
        return self.model_copy(update={"runs": expand_runs(self.runs, inits)})

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
    fields = with_long_runs(read_with_includes(path)) if path else {}
    fields |= {"evaluate": rename_measures(fields["evaluate"])} if "evaluate" in fields else {}
    for change in overrides:
        override(fields, change)
    try:
        _refuse_secrets(fields, "")
        return check(Recipe, fields, "")
    except InputError as error:
        raise InputError(f"{path}: {error}" if path else str(error)) from None


def _refuse_secrets(value: Any, key: str) -> None:
    """Refuse servers' addresses with a user, a password or a query anywhere in a recipe: outputs would repeat them."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _refuse_secrets(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for inner in value:
            _refuse_secrets(inner, key)
    elif isinstance(value, str):
        is_server = value.startswith("openai:") or (key.endswith(".url") and "://" in value)
        try:
            if is_server:
                check_url(value.removeprefix("openai:").partition("#")[0])
        except InputError as error:
            raise InputError(f"{key}: {error}") from None


def dump(model: BaseModel) -> str:
    """Return a configuration as YAML, every default spelled out."""
    return yaml.to_yaml(plain(model))


def plain(model: BaseModel) -> Any:
    """Return a configuration as values that JSON can hold."""
    return model.model_dump(mode="json")
