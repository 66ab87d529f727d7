"""Recipes: one YAML file that says corpus, objectives and evaluations. Read strictly, overridden by `key.sub=value`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from phf import plugins
from phf.config import yaml
from phf.errors import InputError

Model = TypeVar("Model", bound=BaseModel)

_UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9}


def _count(value: Any) -> Any:
    """Read 3.7M as 3,700,000."""
    match = re.fullmatch(r"([0-9][0-9_]*(?:\.[0-9]+)?)([kKMB]?)", value) if isinstance(value, str) else None
    if match:
        return round(float(match[1].replace("_", "")) * _UNITS[match[2]])
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, BeforeValidator(_count, json_schema_input_type=int | str), Field(gt=0)]
"""A number of things, such as 250000, 250k, 3.7M or 3.3B."""


def _moment(value: Any) -> Any:
    """Read 1.6B as a count of tokens, and leave a share such as 50% as it is."""
    counted = _count(value)
    if isinstance(counted, int) and not isinstance(counted, bool) and counted > 0:
        return counted
    if isinstance(value, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)?%", value) and 0 < float(value[:-1]) <= 100:
        return value
    raise ValueError(f"found {value!r}; expected a count of tokens such as 1.6B, or a share such as 50%")


class Strict(BaseModel):
    """A part of a recipe: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


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
        """What is said beside the name."""
        return dict(self.__pydantic_extra__ or {})


COMPONENT = "component"  # marks, in a schema on its way, where a component of a kind may stand


def _of(kind: str) -> Any:
    """Make the type of a component of one kind, whose name and fields are checked as soon as the recipe is read."""

    def check(component: Component) -> Component:
        plugins.check_fields(plugins.find(kind, component.name), component.fields, component.name)
        return component

    return Annotated[Component, AfterValidator(check), WithJsonSchema({COMPONENT: kind})]


def build(kind: str, component: Component) -> Any:
    """Make the component that a recipe names."""
    return plugins.build(kind, component.name, component.fields)


class Corpus(Strict):
    """Which documents."""

    inputs: list[str] = []
    """Files, folders, globs, fsspec addresses or `hf:NAME` data sets. JSONL (.gz, .zst), Parquet, text and source trees."""
    source: _of("corpora") | None = None  # type: ignore[valid-type]
    """Instead of inputs: a corpus that is made on the spot, such as `python-docs`."""
    text_column: str = "text"
    """Where the text is, in rows."""
    id_column: str | None = "id"
    """Where the document's name is, in rows; a row without one is named by its content."""
    split: str = "train"
    """Which split, of a data set on the hub."""
    limit: Count | None = None
    """Take at most so many documents."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if bool(self.inputs) and self.source is not None:
            raise ValueError("both inputs and source are given; expected one of them")
        return self


class Annotate(Strict):
    """How documents are cut and scored."""

    segmenter: _of("segmenters") = Component(name="sentences")  # type: ignore[valid-type]
    scorer: _of("scorers") = Component(name="pii")  # type: ignore[valid-type]
    """Its rewards become the column `rewards`."""
    also: dict[str, _of("scorers")] = {}  # type: ignore[valid-type]
    """More scorers in the same pass, one column each, by the column's name."""
    part: Count = 1000
    """Documents in one part of the output."""
    workers: int | None = Field(default=None, ge=1)
    """Local processes; all cores if not given."""
    engine: Literal["local", "ray"] = "local"
    address: str | None = None
    """The Ray cluster's address; a Ray of this machine if not given."""
    timeout: float = Field(default=30.0, gt=0)
    """Seconds a document may take in the scorer before it is set aside."""
    max_failures: float = Field(default=0.01, ge=0, le=1)
    """Share of documents that may fail before the stage stops with an error."""
    memory: float | None = Field(default=None, gt=0)
    """GiB one worker may hold before its document is set aside; 80% of the machine's, shared out, if not given."""


class Tokenize(Strict):
    """How texts become tokens."""

    tokenizer: str = "train"
    """`train` for a byte-level BPE of this corpus; else a folder or a name on the hub."""
    vocab_size: int = Field(default=4096, ge=1)
    """Entries of a trained tokenizer, <|endoftext|> counted, control tokens not."""
    held_out: float = Field(default=0.02, ge=0, lt=1)
    """Share of documents set apart, by a hash of their id, for evaluation."""
    column: str = "rewards"
    """Which column of rewards."""


class Init(Strict):
    """A run to go on from, with the same data order: finetuning with feedback."""

    run: str
    """Its folder, or, in a recipe, its name."""
    at: Annotated[int | str, BeforeValidator(_moment)] = "100%"
    """Which of its checkpoints: after so many tokens, or after a share of its budget such as 50%."""


class Train(Strict):
    """How a model is trained. The token budget counts every predicted token, control tokens among them."""

    model: dict[str, Any] | str = "gpt2-4m"
    """A preset's name, a checkpoint's folder or hub name as `from:NAME`, or a Hugging Face config: `{model_type: llama, ...}`."""
    init: Init | None = None
    """Instead of a new model: a checkpoint of another run, trained further on the documents that run did not come to."""
    tokens: Count = 3_300_000_000
    """The whole budget; with `init`, what that run was trained on until then is part of it."""
    start: float = Field(default=0.0, ge=0, lt=1)
    """Share of the steps, the first, that are plain maximum likelihood."""
    cooldown: float = Field(default=0.0, ge=0, lt=1)
    """Share of the steps, the last, without control tokens."""
    context: int = Field(default=1024, ge=2)
    """Tokens in a training sequence."""
    batch: int = Field(default=64, ge=1)
    """Sequences in an optimiser step, over all devices."""
    micro_batch: int | None = Field(default=None, ge=1)
    """Sequences in one forward pass on one device; the whole share of the batch if not given."""
    lr: float = Field(default=5e-4, gt=0)
    schedule: Literal["linear", "cosine", "constant", "wsd"] = "linear"
    warmup: float = Field(default=0.01, ge=0, le=1)
    """Share of the steps over which the learning rate rises."""
    betas: tuple[float, float] = Field(default=(0.9, 0.999), strict=False)
    weight_decay: float = Field(default=0.1, ge=0)
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of matrix products; auto is bf16 where the processor multiplies it natively. Weights are float32 always."""
    seed: int = 0
    """Of the first weights, the data order and the dropped control tokens."""
    checkpoints: int = Field(default=1, ge=1)
    """How many checkpoints, evenly spaced; the last one is the trained model."""
    checkpoint_every: Count | None = None
    """Tokens between two further checkpoints."""
    save_every: Count | None = None
    """Tokens between two states that a stopped run can go on from; at checkpoints only if not given."""
    log_every: int = Field(default=10, ge=1)
    """Steps between two lines of metrics."""
    held_out_every: Count | None = None
    """Tokens between two looks at the loss on held-out documents, written to the metrics; never if not given."""
    held_out_tokens: Count = 500_000
    """Held-out tokens that are looked at."""
    compile: bool = False
    """Compile the backbone with torch.compile."""
    attention: str = "auto"
    """How attention is computed: eager, sdpa, flash_attention_2, ...; auto is what transformers takes for the model."""
    kernel: Literal["torch", "triton"] = "torch"
    """What takes the softmax of the head: PyTorch, or a Triton kernel, for GPUs."""
    activation_checkpointing: bool = False
    """Keep only what enters each layer and compute the rest again in the backward pass: less memory, more time."""
    shard: bool = False
    """Shard weights, gradients and optimizer over the processes of `torchrun` (FSDP)."""
    trackers: list[Literal["tensorboard", "wandb", "mlflow"]] = []
    """Besides metrics.jsonl, which is always written."""

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if self.start + self.cooldown >= 1:
            raise ValueError(f"start is {self.start} and cooldown {self.cooldown}; expected shares that leave steps in between")
        return self


def _long_form(run: Any) -> Any:
    """Read `mle` and `{name: rwr, beta: 1}` as a run with that objective."""
    return {"objective": run} if isinstance(run, str) or (isinstance(run, dict) and "name" in run) else run


class Run(Strict):
    """One model to train: an objective, and what differs from the recipe's `train` for it."""

    objective: _of("objectives")  # type: ignore[valid-type]
    train: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_objective(cls, value: Any) -> Any:
        return _long_form(value)


class Evaluate(Strict):
    """What is measured of every run."""

    measures: dict[str, _of("evaluations")] = {  # type: ignore[valid-type]
        "no-prompt": Component(name="samples"),
        "heldout": Component(name="heldout"),
    }
    """Evaluations by the name their records carry."""
    misaligned: list[str] = []
    """Which of the measures a model with control tokens is also put through under the second token."""
    checkpoints: Literal["last", "all"] = "last"
    """Which checkpoints of a run: all of them for curves over training."""
    seed: int = 0


class Report(Strict):
    """What the page shows."""

    title: str | None = None
    x: str = "heldout.bits_per_byte_aligned"
    """Capability cost, as evaluation.metric."""
    y: str = "no-prompt.misalignment"
    """Misalignment, as evaluation.metric."""


class Recipe(Strict):
    """The whole job."""

    name: str = "phf"
    corpus: Corpus = Corpus()
    annotate: Annotate = Annotate()
    tokenize: Tokenize = Tokenize()
    train: Train = Train()
    runs: dict[str, Run] = {}
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
        """Give the training configuration of one run: the recipe's, with what differs for it."""
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
    for override in overrides:
        yaml.override(fields, override)
    try:
        return check(Recipe, fields, "")
    except InputError as error:
        raise InputError(f"{path}: {error}" if path else str(error)) from None


def dump(model: BaseModel) -> str:
    """Write a configuration as YAML, every default spelled out."""
    return yaml.to_yaml(plain(model))


def plain(model: BaseModel) -> Any:
    """Give a configuration as JSON can hold it."""
    return model.model_dump(mode="json")
