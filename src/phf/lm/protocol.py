"""What a language model is to an evaluation: what every one can do, and what only some can, each a protocol of its own."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np

from phf.errors import InputError
from phf.lm.resolve import CONTROL_TOKENS as CONTROL_TOKENS
from phf.lm.resolve import Checkpoint

Placement = Literal["start", "every"]
"""Where a conditional model reads its control token: once, at the document's start, or in front of every segment."""

Ban = Literal["all", "others", "auto"]
"""Which control tokens cannot be sampled; see `Sampling`."""


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
        count_prompt: whether `max_tokens` counts the prompt's tokens too, as the paper's limits do; a prompt that takes all of
            them still gets one more. Not for servers, whose tokens are not known here.
        guidance: of a conditional model, how far to go from what it says under its other control token (0) to what it says
            under its own (1) and beyond (above 1); None for its own, without reading the other. See `phf.lm.guidance`.
    """

    temperature: float = 0.7
    top_p: float = 0.9
    min_tokens: int = 10
    max_tokens: int = 128
    seed: int = 0
    batch: int = 64
    ban: Ban = "auto"
    count_prompt: bool = False
    guidance: float | None = None

    def __post_init__(self) -> None:
        for name, holds, expected in (
            ("temperature", self.temperature > 0, "a number above 0"),
            ("top_p", 0 < self.top_p <= 1, "a share above 0, at most 1"),
            ("max_tokens", self.max_tokens >= 1, "at least 1"),
            ("min_tokens", 0 <= self.min_tokens <= self.max_tokens, f"from 0 to max_tokens, {self.max_tokens}"),
            ("batch", self.batch >= 1, "at least 1"),
            ("seed", self.seed >= 0, "at least 0"),
            ("ban", self.ban in get_args(Ban), "'all', 'others' or 'auto'"),
            ("guidance", self.guidance is None or math.isfinite(self.guidance), "a number such as 2, or none"),
        ):
            if not holds:
                raise InputError(f"{name}: found {getattr(self, name)!r}, expected {expected}")


class Completion(str):
    """A sampled continuation, control tokens taken out.

    Attributes:
        finished: whether the model ended it, rather than the limit; None if a server does not report which.
    """

    __slots__ = ("finished",)
    finished: bool | None

    def __new__(cls, text: str, finished: bool | None) -> "Completion":
        """Make a text that knows whether it is whole."""
        completion = super().__new__(cls, text)
        completion.finished = finished
        return completion

    def __getnewargs__(self) -> tuple[str, bool | None]:  # type: ignore[override]
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
    """A model under one control prefix, or none. What every model can do; the other protocols add to it."""

    def generate(
        self, prompts: Sequence[str], sampling: Sampling, on_progress: Callable[[int], None] | None = None
    ) -> Sequence[Completion]:
        """Continue each prompt, as a document that begins with it.

        Args:
            prompts: "" for a sample without a prompt. Text that spells a special token is plain text.
            sampling: how.
            on_progress: called now and then with the number of samples finished.

        Returns:
            (N,) completions, in the order of the prompts, without them.

        Raises:
            InputError: if the model cannot be sampled so; the message says why.
        """

    def logprobs(self, texts: Sequence[str]) -> np.ndarray:
        """Return the natural-log probability of each whole text as a document's beginning: (N,) float64.

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
        on_progress: Callable[[int], None] | None = None,
    ) -> Sequence[Likelihood]:
        """Return how probable each text is after its context, in a document that begins with the context.

        Charged is the text: its tokens in what the model's tokenizer makes of context and text together. One that reaches
        from the context into the text counts as the text's.

        Args:
            texts: what is charged.
            contexts: what stands before each; nothing by default.
            ended: for each text whether the document's end after it is charged too; no by default.
            on_progress: called now and then with the number of texts done, or of their windows where they are long.

        Returns:
            (N,), in the order of the texts.

        Raises:
            InputError: as `logprobs`.
        """

    def fingerprint(self) -> str:
        """Return what changes when the model does: of its files, or a server's address and model."""


@runtime_checkable
class ChecksPrompts(Protocol):
    """A model that knows before it samples which prompts it would have to shorten."""

    def check_prompts(self, prompts: Sequence[str], sampling: Sampling) -> None:
        """Refuse prompts that `generate` would shorten.

        Raises:
            InputError: naming the first one that is too long, and by how much.
        """

    def tokens_left(self, prompts: Sequence[str], sampling: Sampling) -> int | None:
        """Return how many tokens fit behind the longest prompt, 0 or less if it alone does not; None for no limit."""


@runtime_checkable
class ReadsSegments(Protocol):
    """A model that gives the log-probability of each segment of a document, also under guidance."""

    @property
    def placement(self) -> Placement:
        """Where the control token stands if the caller names no placement."""

    def segment_logprobs(
        self, documents: Sequence[Sequence[str]], placement: Placement | None = None, guidance: float | None = None
    ) -> list[np.ndarray]:
        """Return the natural-log probability of each segment after those before it in its document.

        Args:
            documents: each in segments.
            placement: where a conditional model reads its control token; `self.placement` by default.
            guidance: read the guided distribution; see `Sampling`.

        Returns:
            For each document (S,) float64.
        """


@runtime_checkable
class PlacesControl(Protocol):
    """A model whose control token can stand at the document's start or in front of every segment."""

    control: str | None
    """The control token conditioned on; None for none."""

    @property
    def placement(self) -> Placement:
        """Where it stands."""

    def with_control_placement(self, placement: Placement) -> LanguageModel:
        """Return the same model with its control token placed so, whatever it was trained on."""


@runtime_checkable
class StreamsTokens(Protocol):
    """A model that hands out a sample's text while it is sampled."""

    def stream(self, prompts: Sequence[str], sampling: Sampling, on_token: Callable[[int, str], None]) -> Sequence[Completion]:
        """Continue each prompt, one after the other.

        Args:
            prompts: as of `LanguageModel.generate`.
            sampling: how; `batch` is not used.
            on_token: called with a sample's place in the list and each new piece of its text, whole characters.

        Returns:
            (N,) completions, as `LanguageModel.generate` does.
        """


@runtime_checkable
class LocalWeights(Protocol):
    """A model whose weights and tokenizer are on this machine, such as can be finetuned."""

    checkpoint: Checkpoint
    control: str | None
    control_id: int | None
    """The control token's id; None for none."""
    context: int | None
    """Tokens that the model reads at most; None for no limit."""
    start: int
    """The token that begins a document."""
    model: Any
    """A causal model of transformers, in evaluation mode."""
    tokenizer: Any
    """Its fast tokenizer."""
