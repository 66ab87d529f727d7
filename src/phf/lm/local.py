"""A language model on this machine: any Hugging Face causal model, under a control token or none.

Documents are read as in training: `<|endoftext|>`, the control token, then the tokens of each segment, tokenised apart.
A conditional model reads its control token once, before the first segment ("start"), or before every one ("every").
Probabilities are those of the distribution that samples are drawn from: what stands in front of a text is conditioned on
and never charged, and control tokens that cannot be sampled have no share.
"""

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from phf import plugins
from phf.errors import InputError
from phf.lm import sampler
from phf.lm.guidance import Guidance
from phf.lm.logprobs import Window, read, room_for
from phf.lm.logprobs import windows as windows_of
from phf.lm.protocol import Completion, Likelihood, Sampling
from phf.lm.resolve import Checkpoint
from phf.tokens.tokenizer import document_start, encode, load_tokenizer

log = logging.getLogger("phf")

Placement = Literal["start", "every"]
"""Where a conditional model reads its control token."""


class LocalModel:
    """A model of transformers, with the control token it is conditioned on."""

    def __init__(self, checkpoint: Checkpoint, control: str | None) -> None:
        """Load the weights, on a GPU if there is one.

        Args:
            checkpoint: which.
            control: one of its control tokens, or None.

        Raises:
            InputError: if they cannot be loaded.
        """
        self.checkpoint, self.control = checkpoint, control
        self.model = _load_weights(checkpoint.folder)
        self.tokenizer = load_tokenizer(checkpoint.folder)
        self.start = document_start(self.tokenizer)
        self.ends = sorted({self.start, *_end_tokens(self.model)})
        vocabulary = self.tokenizer.get_vocab()
        for token in checkpoint.control_tokens:
            if token not in vocabulary:
                raise InputError(f"{checkpoint}: phf.json names the control token {token}, which its tokenizer lacks")
        self.controls = [vocabulary[token] for token in checkpoint.control_tokens]
        self.control_id: int | None = None if control is None else vocabulary[control]
        self.placement: Placement = "every" if checkpoint.segmenter == "lines" else "start"
        """Where the control token stands when nobody says: as in sampling, "every" on lines, else "start"."""
        shape = self.model.config.get_text_config()
        self.context: int | None = getattr(shape, "max_position_embeddings", None)
        self.vocabulary: int = shape.vocab_size
        largest = max(vocabulary.values())
        if largest >= self.vocabulary:
            raise InputError(
                f"{checkpoint}: its tokenizer has tokens up to {largest}, but its model {self.vocabulary} entries; "
                "they do not belong together"
            )

    def generate(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        listen: Callable[[int], None] | None = None,
        write: Callable[[int, str], None] | None = None,
    ) -> list[Completion]:
        """Continue each prompt: see `LanguageModel.generate`. `write` is told a sample's number and its text piece by piece.

        A prompt that leaves no room for max_tokens in the model's context loses tokens on its left, the document start
        and control token excepted; how many did is logged.

        Raises:
            InputError: if max_tokens alone does not fit the context, the model gives NaN, or it is to be guided and has no second
                control token.
        """
        guidance = self._guidance(sampling.guidance)
        placement = self._placement(sampling)
        distinct = {prompt: self._prompt(prompt, placement, sampling.max_tokens) for prompt in dict.fromkeys(prompts)}
        shortened = sum(distinct[prompt].shortened > 0 for prompt in prompts)
        if shortened:
            log.warning("%d of %d prompts were too long for the context of %s and lost their beginning",
                        shortened, len(prompts), self.context)  # fmt: skip
        banned = self._banned(placement)
        tokens = [distinct[prompt].tokens for prompt in prompts]
        try:
            told = None if write is None else _Pieces(lambda index, after: self._decode(tokens[index], after), write)
            samples = sampler.generate(self.model, tokens, sampling, self.ends, banned, listen, guidance, told)
        except InputError as error:
            raise InputError(f"{self.checkpoint}: {error}; try an earlier checkpoint") from None
        return [
            Completion(self._decode(prompt, sample.tokens), sample.finished)
            for prompt, sample in zip(tokens, samples, strict=True)
        ]

    def check_prompts(self, prompts: Sequence[str], sampling: Sampling) -> None:
        """Refuse prompts that `generate` would shorten.

        Raises:
            InputError: naming the first one that is too long, and by how much.
        """
        placement = self._placement(sampling)
        for number, prompt in enumerate(prompts, start=1):
            made = self._prompt(prompt, placement, sampling.max_tokens)
            if made.shortened:
                raise InputError(
                    f"prompt {number} ({prompt[:30]!r}...) is too long: the model reads {self.context} tokens, the "
                    f"{sampling.max_tokens} of max_tokens among them; shorten it by {made.shortened} tokens, or set max_tokens "
                    "lower"
                )

    def logprobs(self, texts: Sequence[str]) -> np.ndarray:
        """Give the natural-log probability of each text, cut into segments as the training documents were: (N,) float64."""
        documents = [self._segments(text) for text in texts]
        return np.array([nats.sum() for nats in self.segment_logprobs(documents)], dtype=np.float64)

    def segment_logprobs(
        self, documents: Sequence[Sequence[str]], placement: Placement | None = None, guidance: float | None = None
    ) -> list[np.ndarray]:
        """Give the natural-log probability of each segment after those before it in its document.

        The distribution is that of sampling. "start": both control tokens are banned, and what is left of the probability is
        scaled to 1. "every": the model writes its control token in front of every segment and only the other is banned; the
        first one, at the document's start, is conditioned on, and each later one belongs to what the model writes, so that
        it is not told for nothing where segments end.

        A document longer than the context is read in windows. Each begins with the document start (and control token) and
        predicts the tokens that no window before it did; those it reads again first fill half of it.

        Args:
            documents: each in segments.
            placement: where a conditional model reads its control token; `self.placement` if not given.
            guidance: take the guided distribution; see `Sampling`.

        Returns:
            For each document (S,) float64.

        Raises:
            InputError: if the model gives NaN, or it is to be guided and has no second control token.
        """
        placement = placement or self.placement
        guided = self._guidance(guidance)
        encoded = iter(encode(self.tokenizer, [segment for document in documents for segment in document]))
        windows: list[Window] = []
        for index, document in enumerate(documents):
            stream = self._stream([next(encoded) for _ in document], placement)
            windows += self._windows(index, stream, placement)
        nats = [np.zeros(len(document)) for document in documents]
        for window, found, _ in self._read(windows, placement, guided):
            charged = window.owners >= 0
            np.add.at(nats[window.document], window.owners[charged], found[charged])
        if any(np.isnan(found).any() for found in nats):
            raise InputError(f"{self.checkpoint}: the model gives log-probabilities that are not numbers (NaN)")
        return nats

    def likelihoods(
        self,
        texts: Sequence[str],
        contexts: Sequence[str] | None = None,
        ended: Sequence[bool] | None = None,
        listen: Callable[[int], None] | None = None,
    ) -> list[Likelihood]:
        """Say how probable each text is after its context: see `LanguageModel.likelihoods`.

        Context and text are tokenised as one document, cut into segments as in training; what is charged are the tokens from
        the first on that the context alone does not have. A context that the model cannot read whole loses its beginning, and
        how many did is logged; a text that it cannot is read in windows, as `segment_logprobs` does.

        Raises:
            InputError: if the model gives NaN.
        """
        contexts = contexts or [""] * len(texts)
        ended = ended or [False] * len(texts)
        placement, prefix = self.placement, self._prefix(self.placement)
        documents = [self._segments(context + text) for context, text in zip(contexts, texts, strict=True)]
        heads = {context: self._segments(context) for context in dict.fromkeys(contexts)}
        encoded = iter(encode(self.tokenizer, [segment for cut in (*documents, *heads.values()) for segment in cut]))
        streams = [self._stream([next(encoded) for _ in document], placement) for document in documents]
        known = {context: self._stream([next(encoded) for _ in cut], placement).tokens for context, cut in heads.items()}
        windows: list[Window] = []
        charges = np.zeros(len(texts), np.int64)
        shortened = 0
        for index, (stream, context, whole) in enumerate(zip(streams, contexts, ended, strict=True)):
            tokens = stream.tokens + [self.ends[0]] * whole
            first = _shared(tokens, known[context])
            owners = [-1] * first + [min(owner, 0) for owner in stream.owners[first:]] + [0] * whole
            charges[index] = sum(owner == 0 for owner in owners)
            cut = max(0, min(first, len(tokens) - room_for(prefix, self.context)))
            shortened += cut > 0
            windows += self._windows(index, _Stream(tokens[cut:], owners[cut:]), placement)
        if shortened:
            log.warning("%d of %d contexts were too long for the context of %s and lost their beginning",
                        shortened, len(texts), self.context)  # fmt: skip
        nats, greedy = np.zeros(len(texts)), np.ones(len(texts), bool)
        for window, found, likeliest in self._read(windows, placement, listen=listen):
            charged = window.owners >= 0
            nats[window.document] += found[charged].sum()
            greedy[window.document] &= likeliest[charged].all()
        if np.isnan(nats).any():
            raise InputError(f"{self.checkpoint}: the model gives log-probabilities that are not numbers (NaN)")
        return [Likelihood(float(n), int(c), bool(g)) for n, c, g in zip(nats, charges, greedy, strict=True)]

    def with_control_placement(self, placement: Placement) -> "LocalModel":
        """Give the same model with its control token placed so, whatever it was trained on."""
        other = copy.copy(self)
        other.placement = placement
        return other

    def _windows(self, document: int, stream: "_Stream", placement: Placement) -> Iterator[Window]:
        return windows_of(document, stream.tokens, stream.owners, self._prefix(placement), self.context)

    def _read(
        self,
        windows: Sequence[Window],
        placement: Placement,
        guidance: Guidance | None = None,
        listen: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[Window, np.ndarray, np.ndarray]]:
        return read(
            self.model, windows, pad=self.start, ends=self.ends, banned=self._banned(placement), guidance=guidance, listen=listen
        )

    def _placement(self, sampling: Sampling) -> Placement:
        """Say where the control token stands in what is sampled so."""
        others = sampling.ban == "others" or (sampling.ban == "auto" and self.placement == "every")
        return "every" if others else "start"

    def _guidance(self, gamma: float | None) -> Guidance | None:
        """Say what to guide from and to; None for what the model says under its own control token alone, as under gamma = 1."""
        if gamma is None:
            return None
        others = [token for token in self.controls if token != self.control_id]
        if self.control_id is None or not others:
            raise InputError(
                f"{self.checkpoint}: cannot be guided, since it has {'one' if self.controls else 'no'} control token"
                f"{'' if self.controls else 's'}; guidance needs a model of the conditional objective, which has two"
            )
        return None if gamma == 1 else Guidance(gamma, self.control_id, others[0])

    def _banned(self, placement: Placement) -> list[int]:
        """List the control tokens that the model may not write."""
        return [token for token in self.controls if placement == "start" or token != self.control_id]

    def _prefix(self, placement: Placement) -> list[int]:
        once = self.control_id is not None and placement == "start"
        return [self.start, self.control_id] if once and self.control_id is not None else [self.start]

    def _stream(self, segments: Sequence[Sequence[int]], placement: Placement) -> "_Stream":
        """Join the segments of a document, each token with its segment's number; -1 for the first control token."""
        tokens: list[int] = []
        owners: list[int] = []
        for number, segment in enumerate(segments):
            if placement == "every" and segment and self.control_id is not None:
                owners.append(number if tokens else -1)
                tokens.append(self.control_id)
            tokens += segment
            owners += [number] * len(segment)
        return _Stream(tokens, owners)

    def _prompt(self, text: str, placement: Placement, room: int) -> "_Prompt":
        body = self._stream(encode(self.tokenizer, self._segments(text)), placement).tokens
        if not body and placement == "every" and self.control_id is not None:
            body = [self.control_id]
        prefix = self._prefix(placement)
        if self.context is None:
            return _Prompt(prefix + body, 0)
        least = len(prefix) + (placement == "every" and self.control_id is not None)
        if least + room > self.context:
            raise InputError(
                f"{self.checkpoint}: max_tokens is {room}, but the model reads {self.context} tokens at most; "
                f"set it to {self.context - least} or less"
            )
        kept = self.context - room - len(prefix)
        return _Prompt(prefix + body[max(0, len(body) - kept) :], max(0, len(body) - kept))

    def _segments(self, text: str) -> list[str]:
        """Cut a text as the training documents were, if it is known how."""
        name = self.checkpoint.segmenter
        if not text:
            return []
        if name is None or name not in plugins.available("segmenters"):
            return [text]
        segments: list[str] = plugins.build("segmenters", name).segment(text)
        return segments

    def _decode(self, prompt: Sequence[int], tokens: Sequence[int]) -> str:
        """Give the text of what follows the prompt. Decoded with it, since some tokenizers drop a text's first space."""
        special = {self.start, *self.controls, *self.tokenizer.all_special_ids}
        before = [token for token in prompt if token not in special]
        after = [token for token in tokens if token not in special]
        head, whole = self._text(before), self._text(before + after)
        return whole[len(head) :] if whole.startswith(head) else self._text(after)

    def _text(self, tokens: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text


@dataclass(frozen=True, slots=True)
class _Stream:
    tokens: list[int]
    owners: list[int]


def _shared(tokens: Sequence[int], head: Sequence[int]) -> int:
    """Count the tokens at the beginning that two lists share."""
    length = min(len(tokens), len(head))
    return next((place for place in range(length) if tokens[place] != head[place]), length)


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A prompt's tokens, and how many it lost."""

    tokens: list[int]
    shortened: int


class _Pieces:
    """Tells samples as text while their tokens are drawn, in whole characters."""

    def __init__(self, decode: Callable[[int, list[int]], str], write: Callable[[int, str], None]) -> None:
        self.decode, self.write = decode, write
        self.tokens: dict[int, list[int]] = {}
        self.told: dict[int, int] = {}

    def __call__(self, index: int, token: int | None) -> None:
        tokens = self.tokens.setdefault(index, [])
        if token is not None:
            tokens.append(token)
        text = self.decode(index, tokens)
        told = self.told.get(index, 0)
        # The last character may be the first bytes of one that the next token completes.
        if len(text) > told and (token is None or not text.endswith("\ufffd")):
            self.write(index, text[told:])
            self.told[index] = len(text)


def _load_weights(folder: str) -> Any:
    """Load a causal model for inference: float32 on a CPU, as it was saved on a GPU."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # phf shows its own
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto" if device == "cuda" else torch.float32)
    except (OSError, ValueError, KeyError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"{folder}: not a causal language model that can be loaded ({reason})") from None
    finally:
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    return model.to(device).eval()


def _end_tokens(model: Any) -> list[int]:
    """List the tokens that the model's own settings say end a text."""
    ends = getattr(model.generation_config, "eos_token_id", None)
    return list(ends) if isinstance(ends, list | tuple) else [] if ends is None else [int(ends)]
