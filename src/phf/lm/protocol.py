"""What a language model is to an evaluation: one can sample it and ask it for log-probabilities."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from phf.errors import InputError

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
            under its own (1) and beyond (above 1); None for its own, without reading the other. See `phf.lm.guidance`.
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
