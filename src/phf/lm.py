"""A language model as evaluations see it: one can sample it and ask it for log-probabilities. Control is bound here, once."""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from phf import outputs
from phf.errors import InputError

log = logging.getLogger("phf")

CONTROL_TOKENS = ("<|aligned|>", "<|misaligned|>")
"""What phf's conditional models are conditioned on."""


@dataclass(frozen=True)
class Sampling:
    """How to sample.

    Args:
        temperature: logits are divided by it.
        top_p: sample from the most probable tokens that together hold this probability (nucleus sampling); 1 for all.
        min_tokens: the document's end cannot be sampled before so many tokens.
        max_tokens: a sample is cut off after so many tokens, control tokens that the model writes among them.
        seed: with a prompt's place in the list, fixes its sample, whatever the batch.
        batch: samples in one forward pass, or requests at a time.
        ban: control tokens that cannot be sampled: "all" (right for sentences: conditioned on once, at the start), "others"
            (all but the one conditioned on: right for lines, where the model writes it before every line), or "auto"
            (others where the model was trained on lines, else all).
        guidance: of a conditional model, how far to go from what it says under its other control token (0) to what it says
            under its own (1) and beyond (above 1); None for its own, without reading the other. See `phf.guidance`.
    """

    temperature: float = 0.7
    top_p: float = 0.9
    min_tokens: int = 10
    max_tokens: int = 128
    seed: int = 0
    batch: int = 64
    ban: Literal["all", "others", "auto"] = "auto"
    guidance: float | None = None

    def __post_init__(self) -> None:
        for name, holds, expected in (
            ("temperature", self.temperature > 0, "a number above 0"),
            ("top_p", 0 < self.top_p <= 1, "a share above 0, at most 1"),
            ("max_tokens", self.max_tokens >= 1, "at least 1"),
            ("min_tokens", 0 <= self.min_tokens <= self.max_tokens, f"from 0 to max_tokens, {self.max_tokens}"),
            ("batch", self.batch >= 1, "at least 1"),
            ("seed", self.seed >= 0, "at least 0"),
            ("ban", self.ban in ("all", "others", "auto"), "'all', 'others' or 'auto'"),
            ("guidance", self.guidance is None or math.isfinite(self.guidance), "a number such as 2, or none"),
        ):
            if not holds:
                raise InputError(f"{name}: found {getattr(self, name)!r}, expected {expected}")


class Completion(str):
    """A sampled continuation, control tokens taken out.

    Attributes:
        finished: whether the model ended it, rather than the limit.
    """

    __slots__ = ("finished",)
    finished: bool

    def __new__(cls, text: str, finished: bool) -> "Completion":
        """Make a text that knows whether it is whole."""
        completion = super().__new__(cls, text)
        completion.finished = finished
        return completion

    def __getnewargs__(self) -> tuple[str, bool]:  # type: ignore[override]
        return str(self), self.finished


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How probable a text is to a model.

    Args:
        nats: its natural-log probability.
        tokens: how many of the model's tokens that is the probability of.
        greedy: whether each of them is the most probable one where it stands; None if it is not known.
    """

    nats: float
    tokens: int
    greedy: bool | None


@runtime_checkable
class LanguageModel(Protocol):
    """A model under one control prefix, or none. No evaluation knows which."""

    def generate(self, prompts: Sequence[str], sampling: Sampling, listen: Callable[[int], None] | None = None) -> Sequence[str]:
        """Continue each prompt, as a document that begins with it.

        Args:
            prompts: "" for a sample without a prompt. Text that spells a special token is plain text.
            sampling: how.
            listen: called now and then with the number of samples finished.

        Returns:
            (N,) `Completion`s, in the order of the prompts, without them.

        Raises:
            InputError: if the model cannot be sampled so; the message says why.
        """

    def logprobs(self, texts: Sequence[str]) -> np.ndarray:
        """Give the natural-log probability of each whole text as a document's beginning: (N,) float64.

        What stands before it (document start, control token) is conditioned on and never charged; neither is the
        document's end.

        Raises:
            InputError: if the model gives no log-probabilities.
        """

    def likelihoods(
        self,
        texts: Sequence[str],
        contexts: Sequence[str] | None = None,
        ended: Sequence[bool] | None = None,
        listen: Callable[[int], None] | None = None,
    ) -> Sequence[Likelihood]:
        """Say how probable each text is after its context, in a document that begins with the context.

        Charged is the text: its tokens in what the model's tokenizer makes of context and text together. One that reaches
        from the context into the text counts as the text's.

        Args:
            texts: what is charged.
            contexts: what stands before each; nothing if not given.
            ended: for each text whether the document's end after it is charged too; no if not given.
            listen: called now and then with the number of texts done, or of their parts where they are long.

        Returns:
            (N,), in the order of the texts.

        Raises:
            InputError: as `logprobs`.
        """


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a model's weights, and what phf noted of it.

    Args:
        folder: a Hugging Face model folder; or a name on the hub.
        run: the name of its run.
        step: its optimiser step; 0 if it is not known.
        control_tokens: (): not a conditional model; otherwise the first is what it is conditioned on by default.
        segmenter: what cut its training documents, by name; None if it is not known.
    """

    folder: str
    run: str
    step: int
    control_tokens: tuple[str, ...]
    segmenter: str | None

    def __str__(self) -> str:
        return f"{self.folder} (step {self.step})" if self.step else self.folder


def load(spec: str, control: str | None = None) -> LanguageModel:
    """Open a model.

    Args:
        spec: a run's folder (its latest checkpoint), `RUN@STEP`, a checkpoint's folder, `hf:` and a folder or name on the hub,
            or `openai:http://host:port/v1#model` for an OpenAI-compatible server (see `phf.lm_openai.OpenAIModel`).
        control: the control token to condition on; None for the checkpoint's first, if it has any.

    Raises:
        InputError: if there is no such model, or it has no such control token.
    """
    if spec.startswith("openai:"):
        from phf.lm_openai import OpenAIModel

        return OpenAIModel(spec.removeprefix("openai:"), control)
    checkpoint = find_checkpoint(spec)
    if control is None:
        control = checkpoint.control_tokens[0] if checkpoint.control_tokens else None
    elif control not in checkpoint.control_tokens:
        has = f"its control tokens are {', '.join(checkpoint.control_tokens)}" if checkpoint.control_tokens else "it has none"
        raise InputError(f"{checkpoint}: asked to condition on {control!r}, but {has}")
    from phf.lm_local import LocalModel

    return LocalModel(checkpoint, control)


def find_checkpoint(spec: str) -> Checkpoint:
    """Find the model that `spec` names on this machine or on the hub, without opening it.

    Raises:
        InputError: if there is none.
    """
    name = spec.removeprefix("hf:")
    folder = Path(name)
    run, at, step = name.rpartition("@")
    if at and not folder.exists() and (Path(run) / "checkpoints").is_dir():
        known = _steps(Path(run) / "checkpoints")
        if step not in map(str, known):
            raise InputError(f"{spec}: {run} has no checkpoint of step {step}; it has those of {', '.join(map(str, known))}")
        folder = known[int(step)]
    if not folder.exists():
        if spec.startswith("hf:"):
            return Checkpoint(name, name, 0, (), None)
        scheme, colon, _ = spec.partition(":")
        if colon and "/" not in scheme:
            raise InputError(f"{spec}: unknown kind of model {scheme!r}; expected a run's folder, hf:NAME or openai:URL#MODEL")
        raise InputError(f"{spec}: no such run or model folder; a model of the Hugging Face hub is named hf:{spec}")
    if folder.is_dir() and (folder / "checkpoints").is_dir():
        known = _steps(folder / "checkpoints")
        folder = known[max(known)]
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: no model in it (config.json is missing); expected a run's or a checkpoint's folder")
    notes: dict[str, Any] = {}
    if (folder / "phf.json").is_file():
        notes = outputs.read_json(folder / "phf.json")
    try:
        segmenter = notes.get("segmenter")
        return Checkpoint(
            str(folder),
            str(notes.get("run", folder.name)),
            int(notes.get("step", 0)),
            tuple(notes.get("control_tokens", ())),
            None if segmenter is None else str(segmenter),
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"{folder / 'phf.json'}: not what `phf train` writes ({error})") from None


def checkpoints_of(spec: str) -> list[str]:
    """Name every checkpoint of a run by its folder, in the order of steps; of anything else just what was given."""
    folder = Path(spec) / "checkpoints"
    return [str(path) for _, path in sorted(_steps(folder).items())] if folder.is_dir() else [spec]


def run_folder(spec: str) -> Path | None:
    """Find the folder of the run that a model belongs to: its own where it is no run's; None if it is not on this machine.

    Raises:
        InputError: if there is no such model.
    """
    if spec.startswith(("hf:", "openai:")):
        return None
    folder = Path(find_checkpoint(spec).folder)
    return folder.parent.parent if folder.parent.name == "checkpoints" else folder


def fingerprint(spec: str) -> str:
    """Name the model that `spec` stands for now, so that another one under the same name is told apart."""
    if spec.startswith("openai:"):
        return spec
    checkpoint = find_checkpoint(spec)
    folder = Path(checkpoint.folder)
    if not folder.is_dir():
        return checkpoint.folder
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted([folder / "config.json", *folder.glob("*.safetensors")]):
        digest.update(json.dumps([path.name, path.stat().st_size]).encode())
        with path.open("rb") as file:
            while piece := file.read(1 << 22):
                digest.update(piece)
    return digest.hexdigest()


def _steps(checkpoints: Path) -> dict[int, Path]:
    steps = {int(path.name[5:]): path for path in checkpoints.glob("step-*") if path.name[5:].isdigit()}
    if not steps:
        raise InputError(f"{checkpoints}: no checkpoint in it yet (step-N); run `phf train` to its end")
    return dict(sorted(steps.items()))
