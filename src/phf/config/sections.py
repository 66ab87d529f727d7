"""The sections of a recipe, one class a stage; a field's docstring is its description in the JSON schema."""

import logging
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from phf import plugins
from phf.config.values import Component, Count, component_of, read_moment

_COLUMNS = ("id", "segments", "rewards", "texts", "scores")  # of annotated corpora, phf's own and published ones

log = logging.getLogger("phf")


def rename_measures(evaluate: Any) -> Any:
    """Read `evaluate.measures`, as recipes of phf 0.1 spell it, as `evaluate.evaluations`, and warn."""
    if not isinstance(evaluate, dict) or "measures" not in evaluate or "evaluations" in evaluate:
        return evaluate
    log.warning("evaluate.measures is called evaluate.evaluations now; the next release will not read the old name")
    return {"evaluations" if key == "measures" else key: value for key, value in evaluate.items()}


class Strict(BaseModel):
    """A part of a recipe: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class Corpus(Strict):
    """Which documents."""

    inputs: list[str] = []
    """Files, folders, globs, fsspec addresses or `hf:NAME` data sets. JSONL (.gz, .zst), Parquet, text and source trees."""
    source: component_of("corpora") | None = None  # type: ignore[valid-type]
    """Instead of inputs: a corpus by name, such as `python-docs`."""
    text_column: str = "text"
    """Column of the text."""
    id_column: str | None = "id"
    """Column of the document's id; a row without one gets an id made from its content."""
    split: str = "train"
    """Split of a data set on the hub."""
    limit: Count | None = None
    """Largest number of documents to read."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if bool(self.inputs) and self.source is not None:
            raise ValueError("both inputs and source are given; expected one of them")
        return self


class Annotate(Strict):
    """How documents are cut into segments and scored."""

    segmenter: component_of("segmenters") = Component(name="lines")  # type: ignore[valid-type]
    scorer: component_of("scorers") = Component(name="pii")  # type: ignore[valid-type]
    """Its rewards become the column `rewards`."""
    also: dict[str, component_of("scorers")] = {}  # type: ignore[valid-type]
    """Further scorers in the same pass, each by the name of its column."""
    part: Count = 1000
    """Documents in one part of the output."""
    workers: int | None = Field(default=None, ge=1)
    """Local processes; one a core by default."""
    engine: Literal["local", "ray"] = "local"
    address: str | None = None
    """Address of a Ray cluster; Ray on this machine by default."""
    timeout: float = Field(default=30.0, gt=0)
    """Seconds the scorer may spend on a document before it is quarantined."""
    max_failures: float = Field(default=0.01, ge=0, le=1)
    """Share of documents that may fail before the stage stops with an error."""
    max_unscored: float = Field(default=0.01, ge=0, le=1)
    """Share of segments that may be left without a reward before the stage stops with an error."""
    memory: float | None = Field(default=None, gt=0)
    """GiB one worker may use before its document is quarantined; by default an equal share of 80% of the machine's."""

    @model_validator(mode="after")
    def _columns_are_free(self) -> Self:
        for name in self.also:
            if name in _COLUMNS or not name.isprintable() or not name:
                raise ValueError(
                    f"also: found the name {name!r}; it names a column, so expected printable characters and none of "
                    f"{', '.join(_COLUMNS)}, which have a meaning of their own"
                )
        return self


class Tokenize(Strict):
    """How texts become tokens."""

    tokenizer: str = "train"
    """`train` for a byte-level BPE of this corpus; else a folder or a name on the hub."""
    vocab_size: int = Field(default=4096, ge=1)
    """Entries of a trained tokenizer, <|endoftext|> counted, control tokens not."""
    trust_remote_code: bool = False
    """Run Python that comes with `tokenizer`; the store keeps the tokenizer without it."""
    held_out: float = Field(default=0.02, ge=0, lt=1)
    """Share of documents held out for evaluation, by a hash of their id."""
    column: str = "rewards"
    """Column of rewards."""
    document_start: str | None = None
    """Token that documents begin with: `bos`, `eos`, or a token; by default BOS where it differs from EOS, else EOS."""
    workers: int | None = Field(default=None, ge=1)
    """Local processes; all cores by default, fewer for a small corpus."""


class Init(Strict):
    """A run to initialise from, with its data order continued: finetuning with feedback."""

    run: str
    """Its folder, or, in a recipe, its name."""
    at: Annotated[int | str, BeforeValidator(read_moment)] = "100%"
    """Which of its checkpoints: after so many tokens, or after a share of its budget such as 50%."""
    rate: Literal["restart", "continue"] = "restart"
    """Learning rate: warm-up and schedule over this run's own steps, or that run's schedule continued where it stood."""


class Train(Strict):
    """How a model is trained. The token budget counts every predicted token, control tokens among them."""

    model: dict[str, Any] | str = "gpt2-4m"
    """A preset's name, a checkpoint's folder or hub name as `from:NAME`, or a Hugging Face config: `{model_type: llama, ...}`."""
    trust_remote_code: bool = False
    """Run Python that comes with the checkpoint of `model: from:NAME`."""
    init: Init | None = None
    """Instead of a new model: a checkpoint of another run, trained further on the documents that run had not read."""
    tokens: Count | None = None
    """The whole budget, which whoever trains has to say; with `init`, the tokens that run was trained on count towards it."""
    start: float = Field(default=0.0, ge=0, lt=1)
    """Share of the steps, at the start, that are plain maximum likelihood."""
    cooldown: float = Field(default=0.0, ge=0, lt=1)
    """Share of the steps, at the end, without control tokens."""
    context: int = Field(default=1024, ge=2)
    """Tokens in a training sequence."""
    batch: int = Field(default=64, ge=1)
    """Sequences in an optimiser step, over all devices."""
    micro_batch: int | None = Field(default=None, ge=1)
    """Sequences in one forward pass on one device; the device's share of the batch by default."""
    lr: float = Field(default=5e-4, gt=0)
    schedule: Literal["linear", "cosine", "constant", "wsd"] = "linear"
    warmup: float = Field(default=0.01, ge=0, le=1)
    """Share of the steps over which the learning rate rises."""
    betas: tuple[float, float] = Field(default=(0.9, 0.999), strict=False)
    weight_decay: float = Field(default=0.1, ge=0)
    clip: float = Field(default=1.0, gt=0)
    """Largest gradient norm."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of matrix products; auto is bf16 where the processor multiplies it natively. Weights are always float32."""
    seed: int = 0
    """Seed of the initial weights, the data order and the dropped control tokens."""
    checkpoints: int = Field(default=1, ge=1)
    """How many checkpoints, evenly spaced; the last one is the trained model."""
    checkpoint_every: Count | None = None
    """Tokens between two further checkpoints."""
    save_every: Count | None = None
    """Tokens between two states that a stopped run can resume from; only at checkpoints by default."""
    log_every: int = Field(default=10, ge=1)
    """Steps between two lines of metrics."""
    held_out_every: Count | None = None
    """Tokens between two validations on held-out documents, whose loss goes into the metrics; never by default."""
    held_out_tokens: Count = 500_000
    """Held-out tokens in a validation."""
    compile: bool = False
    """Compile the backbone with torch.compile."""
    attention: str = "auto"
    """How attention is computed: eager, sdpa, flash_attention_2, ...; auto is what transformers chooses for the model."""
    kernel: Literal["torch", "triton"] = "torch"
    """What computes the softmax of the head: PyTorch, or a Triton kernel (GPUs only)."""
    activation_checkpointing: bool = False
    """Keep only the input of each layer and recompute the rest in the backward pass: less memory, more time."""
    shard: bool = False
    """Shard weights, gradients and optimizer over the processes of `torchrun` (FSDP)."""
    trackers: list[Literal["tensorboard", "wandb", "mlflow"]] = []
    """Experiment trackers, which get metrics, configuration, records and samples; the run's own files are always written."""

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if self.start + self.cooldown >= 1:
            raise ValueError(f"start is {self.start} and cooldown {self.cooldown}; expected shares that leave steps in between")
        return self


class Evaluate(Strict):
    """What is measured of every run."""

    evaluations: dict[str, component_of("evaluations")] = {  # type: ignore[valid-type]
        "no-prompt": Component(name="samples"),
        "heldout": Component(name="heldout"),
    }
    """Evaluations, by the name that their records carry."""
    misaligned: list[str] = []
    """Which of them are also measured of a model with control tokens under its second one; named `NAME@misaligned`."""
    plain: list[str] = []
    """Which of them are also measured of a model with control tokens without any, all of them banned; named `NAME@plain`."""
    checkpoints: Literal["last", "all"] | dict[str, Literal["last", "all"]] = "last"
    """Checkpoints to evaluate: the last, or all for curves over training. Or by evaluation, the last of those not named."""
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, value: Any) -> Any:
        return rename_measures(value)

    @model_validator(mode="after")
    def _names_are_evaluations(self) -> Self:
        by_name = self.checkpoints if isinstance(self.checkpoints, dict) else {}
        for key, names in (("misaligned", self.misaligned), ("plain", self.plain), ("checkpoints", list(by_name))):
            for name in names:
                if name not in self.evaluations:
                    raise ValueError(f"{key}: unknown evaluation {name!r}{plugins.suggestion(name, self.evaluations)}")
        return self

    def checkpoints_of(self, name: str) -> Literal["last", "all"]:
        """Return which checkpoints an evaluation is made of."""
        return self.checkpoints.get(name, "last") if isinstance(self.checkpoints, dict) else self.checkpoints


class Report(Strict):
    """What the page shows."""

    title: str | None = None
    x: str = "heldout.bits_per_byte_aligned"
    """Capability cost, as `evaluation.metric`."""
    y: str = "no-prompt.misalignment"
    """Misalignment, as `evaluation.metric`."""
