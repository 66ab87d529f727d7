"""A language model on this machine: any Hugging Face causal model, under a control token or none.

Documents are read as in training: their start, the control token, then the tokens of each segment, tokenised apart.
A conditional model reads its control token once, before the first segment ("start"), or before every one ("every").
Probabilities are those of the distribution that samples come from: what stands in front of a text is conditioned on
and never charged, and control tokens that cannot be sampled have no share.
"""

import copy
import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from phf.errors import InputError
from phf.lm import sampler
from phf.lm.encoding import DocumentEncoder, Prompt, Stream
from phf.lm.guidance import Guidance
from phf.lm.logprobs import Window, cut_into_windows, read, window_size
from phf.lm.protocol import Completion, Likelihood, Placement, Sampling
from phf.lm.resolve import Checkpoint, fingerprint_of
from phf.lm.weights import end_tokens, load_causal_model
from phf.tokens import load_tokenizer

log = logging.getLogger("phf")


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
        self.model: Any = load_causal_model(checkpoint)
        self.tokenizer: Any = load_tokenizer(checkpoint.folder, checkpoint.trust_remote_code)
        shape = self.model.config.get_text_config()
        self.context: int | None = getattr(shape, "max_position_embeddings", None)
        self.encoder = DocumentEncoder(checkpoint, self.tokenizer, control, self.context)
        self.start, self.control_id, self.controls = self.encoder.start, self.encoder.control_id, self.encoder.controls
        self.ends = sorted({self.start, *end_tokens(self.model)})
        self._placement: Placement = "every" if checkpoint.segmenter == "lines" else "start"
        self.vocabulary: int = shape.vocab_size
        largest = max(self.tokenizer.get_vocab().values())
        if largest >= self.vocabulary:
            raise InputError(
                f"{checkpoint}: its tokenizer has tokens up to {largest}, but its model {self.vocabulary} entries; "
                "they do not belong together"
            )

    @property
    def placement(self) -> Placement:
        """Where the control token stands by default: as in sampling, "every" on lines, else "start"."""
        return self._placement

    def with_control_placement(self, placement: Placement) -> "LocalModel":
        """Return the same model with its control token placed so, whatever it was trained on."""
        other = copy.copy(self)
        other._placement = placement
        return other

    def fingerprint(self) -> str:
        """Return what changes when the checkpoint's files do; see `phf.lm.fingerprint`."""
        return fingerprint_of(self.checkpoint)

    def generate(
        self, prompts: Sequence[str], sampling: Sampling, on_progress: Callable[[int], None] | None = None
    ) -> list[Completion]:
        """Continue each prompt: see `LanguageModel.generate`.

        A prompt that does not fit the model's context together with max_tokens loses tokens on its left, the document start
        and control token excepted; how many did is logged.

        Raises:
            InputError: if max_tokens alone does not fit the context, the model gives NaN, or it is to be guided and has no
                second control token.
        """
        return self._sample(prompts, sampling, on_progress, None)

    def stream(self, prompts: Sequence[str], sampling: Sampling, on_token: Callable[[int, str], None]) -> list[Completion]:
        """Continue one prompt after the other, `on_token` called with each new piece of text: see `StreamsTokens.stream`.

        Raises:
            InputError: as `generate`.
        """
        return self._sample(prompts, dataclasses.replace(sampling, batch=1), None, on_token)

    def check_prompts(self, prompts: Sequence[str], sampling: Sampling) -> None:
        """Refuse prompts that `generate` would shorten.

        Raises:
            InputError: naming the first one that is too long, and by how much.
        """
        placement = self._placement_of(sampling)
        for number, text in enumerate(prompts, start=1):
            removed = self.encoder.prompt(text, placement, sampling.max_tokens, sampling.count_prompt).removed
            if removed:
                raise InputError(
                    f"prompt {number} ({text[:30]!r}...) is too long: the model reads {self.context} tokens, the "
                    f"{sampling.max_tokens} of max_tokens among them; shorten it by {removed} tokens, or set max_tokens "
                    "lower"
                )

    def tokens_left(self, prompts: Sequence[str], sampling: Sampling) -> int | None:
        """Return how many tokens fit behind the longest of the prompts: see `ChecksPrompts.tokens_left`."""
        placement = self._placement_of(sampling)
        return min((left for text in prompts if (left := self.encoder.tokens_left(text, placement)) is not None), default=None)

    def logprobs(self, texts: Sequence[str]) -> np.ndarray:
        """Return the natural-log probability of each text, cut into segments as the training documents were: (N,) float64."""
        documents = [self.encoder.segments(text) for text in texts]
        return np.array([nats.sum() for nats in self.segment_logprobs(documents)], dtype=np.float64)

    def segment_logprobs(
        self, documents: Sequence[Sequence[str]], placement: Placement | None = None, guidance: float | None = None
    ) -> list[np.ndarray]:
        """Return the natural-log probability of each segment after those before it: see `ReadsSegments.segment_logprobs`.

        The distribution is that of sampling. "start": both control tokens are banned, and what is left of the probability is
        scaled to 1. "every": the model writes its control token in front of every segment and only the other is banned; the
        first one, at the document's start, is conditioned on, and each later one belongs to what the model writes, so that
        the model is charged for where it says that segments end.

        A document longer than the context is read in windows. Each begins with the document start (and control token) and
        predicts the tokens that no window before it did; those it reads again first fill half of it.

        Raises:
            InputError: if the model gives NaN, or it is to be guided and has no second control token.
        """
        placement = placement or self.placement
        guided = self._guidance(guidance)
        pieces: list[Window] = []
        for index, stream in enumerate(self.encoder.documents(documents, placement)):
            pieces += self._windows(index, stream, placement)
        nats = [np.zeros(len(document)) for document in documents]
        for window, values, _ in self._read(pieces, placement, guided):
            charged = window.owners >= 0
            np.add.at(nats[window.document], window.owners[charged], values[charged])
        if any(np.isnan(values).any() for values in nats):
            raise InputError(f"{self.checkpoint}: the model gives log-probabilities that are not numbers (NaN)")
        return nats

    def likelihoods(
        self,
        texts: Sequence[str],
        contexts: Sequence[str] | None = None,
        ended: Sequence[bool] | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Likelihood]:
        """Return how probable each text is after its context: see `LanguageModel.likelihoods`.

        Context and text are tokenised as one document, cut into segments as in training; what is charged are the tokens from
        the first on that the context alone does not have. A context that the model cannot read whole loses its beginning, and
        how many did is logged; a text that it cannot is read in windows, as `segment_logprobs` does.

        Raises:
            InputError: if the model gives NaN.
        """
        contexts = contexts or [""] * len(texts)
        ended = ended or [False] * len(texts)
        placement = self.placement
        size = window_size(self.encoder.prefix(placement), self.context)
        pieces: list[Window] = []
        charges = np.zeros(len(texts), np.int64)
        shortened = 0
        for index, (stream, first) in enumerate(self._after_contexts(texts, contexts, ended, placement)):
            charges[index] = sum(owner == 0 for owner in stream.owners)
            removed = max(0, min(first, len(stream.tokens) - size))
            shortened += removed > 0
            pieces += self._windows(index, Stream(stream.tokens[removed:], stream.owners[removed:]), placement)
        if shortened:
            log.warning("%d of %d contexts were too long for the context of %s and lost their beginning",
                        shortened, len(texts), self.context)  # fmt: skip
        nats, greedy = np.zeros(len(texts)), np.ones(len(texts), bool)
        for window, values, likeliest in self._read(pieces, placement, on_progress=on_progress):
            charged = window.owners >= 0
            nats[window.document] += values[charged].sum()
            greedy[window.document] &= likeliest[charged].all()
        if np.isnan(nats).any():
            raise InputError(f"{self.checkpoint}: the model gives log-probabilities that are not numbers (NaN)")
        return [Likelihood(float(n), int(c), bool(g)) for n, c, g in zip(nats, charges, greedy, strict=True)]

    def _after_contexts(
        self, texts: Sequence[str], contexts: Sequence[str], ended: Sequence[bool], placement: Placement
    ) -> Iterator[tuple[Stream, int]]:
        """Yield each context and text as one document, its text owned by 0, and where the text's first token stands."""
        encode, cut = self.encoder.documents, self.encoder.segments
        alone = list(dict.fromkeys(contexts))
        streams = encode([cut(context + text) for context, text in zip(contexts, texts, strict=True)], placement)
        heads = dict(zip(alone, encode([cut(context) for context in alone], placement), strict=True))
        for stream, context, whole in zip(streams, contexts, ended, strict=True):
            tokens = stream.tokens + [self.ends[0]] * whole
            first = _shared(tokens, heads[context].tokens)
            owners = [-1] * first + [min(owner, 0) for owner in stream.owners[first:]] + [0] * whole
            yield Stream(tokens, owners), first

    def _sample(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        on_progress: Callable[[int], None] | None,
        on_token: Callable[[int, str], None] | None,
    ) -> list[Completion]:
        guidance = self._guidance(sampling.guidance)
        placement = self._placement_of(sampling)
        distinct: dict[str, Prompt] = {
            text: self.encoder.prompt(text, placement, sampling.max_tokens, sampling.count_prompt)
            for text in dict.fromkeys(prompts)
        }
        shortened = sum(distinct[text].removed > 0 for text in prompts)
        if shortened:
            log.warning("%d of %d prompts were too long for the context of %s and lost their beginning",
                        shortened, len(prompts), self.context)  # fmt: skip
        cramped = sum(distinct[text].limit < sampling.min_tokens for text in prompts)
        if cramped:
            log.warning("%d of %d prompts take so many of the %d tokens for prompt and sample together that fewer than "
                        "min_tokens, %d, are left", cramped, len(prompts), sampling.max_tokens, sampling.min_tokens)  # fmt: skip
        tokens, limits = [distinct[text].tokens for text in prompts], [distinct[text].limit for text in prompts]
        decode = self.encoder.decode
        pieces = None if on_token is None else _TextPieces(lambda index, after: decode(tokens[index], after), on_token)
        banned = self.encoder.banned(placement)
        try:
            samples = sampler.generate(
                self.model, tokens, sampling, self.ends, banned, on_progress, guidance, pieces, limits=limits
            )
        except InputError as error:
            raise InputError(f"{self.checkpoint}: {error}; try an earlier checkpoint") from None
        return [
            Completion(decode(prompt, sample.tokens), sample.finished) for prompt, sample in zip(tokens, samples, strict=True)
        ]

    def _windows(self, document: int, stream: Stream, placement: Placement) -> Iterator[Window]:
        return cut_into_windows(document, stream.tokens, stream.owners, self.encoder.prefix(placement), self.context)

    def _read(
        self,
        pieces: Sequence[Window],
        placement: Placement,
        guidance: Guidance | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[Window, np.ndarray, np.ndarray]]:
        banned = self.encoder.banned(placement)
        return read(self.model, pieces, pad=self.start, ends=self.ends, banned=banned, guidance=guidance, on_progress=on_progress)

    def _placement_of(self, sampling: Sampling) -> Placement:
        """Return where the control token stands in what is sampled so."""
        others = sampling.ban == "others" or (sampling.ban == "auto" and self.placement == "every")
        return "every" if others else "start"

    def _guidance(self, gamma: float | None) -> Guidance | None:
        """Return what to guide from and to; None for the model's own distribution alone, as under gamma = 1."""
        if gamma is None:
            return None
        others = [token for token in self.controls if token != self.control_id]
        if self.control_id is None or not others:
            raise InputError(
                f"{self.checkpoint}: cannot be guided, since it has {'one' if self.controls else 'no'} control token"
                f"{'' if self.controls else 's'}; guidance needs a model of the conditional objective, which has two"
            )
        return None if gamma == 1 else Guidance(gamma, self.control_id, others[0])


def _shared(tokens: Sequence[int], head: Sequence[int]) -> int:
    """Count the tokens at the beginning that two lists share."""
    length = min(len(tokens), len(head))
    return next((position for position in range(length) if tokens[position] != head[position]), length)


class _TextPieces:
    """Passes samples on as text while their tokens are sampled, in whole characters."""

    def __init__(self, decode: Callable[[int, list[int]], str], on_token: Callable[[int, str], None]) -> None:
        self.decode, self.on_token = decode, on_token
        self.tokens: dict[int, list[int]] = {}
        self.passed_on: dict[int, int] = {}

    def __call__(self, index: int, token: int | None) -> None:
        tokens = self.tokens.setdefault(index, [])
        if token is not None:
            tokens.append(token)
        text = self.decode(index, tokens)
        length = self.passed_on.get(index, 0)
        # The last character may be the first bytes of one that the next token completes.
        if len(text) > length and (token is None or not text.endswith("\ufffd")):
            self.on_token(index, text[length:])
            self.passed_on[index] = len(text)
