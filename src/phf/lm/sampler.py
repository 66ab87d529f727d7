"""Batched sampling from a causal model: waiting prompts take the rows of samples that finish.

Legend: R rows read at a time, C columns of the cache, V vocabulary. A sample is one row; under guidance it is two, one
below the other, that read the same text under different control tokens. For the cache see `phf.lm.kv_cache`.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from phf.errors import InputError
from phf.lm.guidance import Guidance
from phf.lm.kv_cache import SLACK, Columns, Layer
from phf.lm.nucleus import sample_nucleus
from phf.lm.protocol import Sampling

_ADMIT_AT = 0.75
"""Share of free rows at which waiting prompts enter. Late: rows of one age read few columns; rows of many ages all read as
many as the oldest one has, and reading them is what a step costs most. Yet before a few long rows run alone."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was sampled after one prompt.

    Args:
        tokens: without the end token.
        finished: whether the end token was sampled, rather than the limit reached.
    """

    tokens: list[int]
    finished: bool


@torch.inference_mode()
def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    ends: Sequence[int],
    banned: Sequence[int] = (),
    on_progress: Callable[[int], None] | None = None,
    guidance: Guidance | None = None,
    on_token: Callable[[int, int | None], None] | None = None,
    limits: Sequence[int] | None = None,
) -> list[Sample]:
    """Sample a continuation of each prompt.

    A sample depends on the seed, its prompt and the prompt's position in the list; but for rounding, not on the batch.

    Args:
        model: any `AutoModelForCausalLM`, in evaluation mode.
        prompts: tokens, at least one each.
        sampling: temperature, top-p, lengths, seed and batch; `ban` is already in `banned`, its guidance in `guidance`.
        ends: tokens that end a sample.
        banned: tokens that cannot be sampled.
        on_progress: called with the number of samples finished, whenever it grows.
        guidance: sample from this distribution beyond the model's own; prompts hold the control token it names as `own`.
        on_token: called with a sample's position in the list and each token of it when it is sampled, end tokens left out; with
            None when it has ended. With a batch of 1 samples come in the order of the prompts.
        limits: (N,) most tokens of each sample, at least 1; `sampling.max_tokens` by default.

    Returns:
        One sample a prompt, in order.

    Raises:
        InputError: if the model gives logits that are not numbers.
    """
    samples: list[Sample | None] = [None] * len(prompts)
    kind = _Batch if _keeps_attention(model) else _PlainBatch
    # Long prompts first: rows in flight together then have similar lengths. The order is invisible in the result.
    backwards = range(len(prompts) - 1, -1, -1)
    waiting = sorted(backwards, key=lambda index: len(prompts[index]) if sampling.batch > 1 else 0)
    batch = kind(model, prompts, sampling, ends, banned, guidance, limits or [sampling.max_tokens] * len(prompts))
    done = 0
    while waiting or batch.rows:
        free = sampling.batch - len(batch.rows)
        if waiting and (not batch.rows or free >= _ADMIT_AT * sampling.batch):
            grown = batch.admit([waiting.pop() for _ in range(min(free, len(waiting)))])
        else:
            grown = batch.step()
        if on_token:
            for row in grown:
                if row.tokens[-1] not in batch.ends:
                    on_token(row.index, row.tokens[-1])
        finished = batch.take_finished()
        for index, sample in finished:
            samples[index] = sample
            if on_token:
                on_token(index, None)
        done += len(finished)
        if finished and on_progress:
            on_progress(done)
    assert all(sample is not None for sample in samples)
    return [sample for sample in samples if sample is not None]


def _keeps_attention(model: Any) -> bool:
    """Return whether all that the model remembers of a text are keys and values by position. Mamba's is a state, not so."""
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        return False
    return all(isinstance(layer, DynamicLayer) for layer in DynamicCache(config=model.config).layers)


@dataclass(slots=True)
class _Row:
    """A sample in flight: its prompt's position in the list, the column of its first token, its noise, what it has so far."""

    index: int
    first: int
    uniforms: np.ndarray
    tokens: list[int]


class _Batch:
    """The samples in flight and their cache. Its rows of rows[i] begin at i * streams; there are no holes."""

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        ends: Sequence[int],
        banned: Sequence[int],
        guidance: Guidance | None,
        limits: Sequence[int],
    ) -> None:
        self.limits = limits
        self.model, self.prompts, self.sampling, self.guidance = model, prompts, sampling, guidance
        self.ends, self.banned = list(ends), list(banned)
        self.streams = 1 if guidance is None else 2
        self.most = min(sampling.batch, len(prompts)) * self.streams
        self.rows: list[_Row] = []
        self.columns = Columns()
        self.layers: list[Layer] = []
        accepted = inspect.signature(model.forward).parameters
        self.takes_positions = "position_ids" in accepted
        self.last_logits = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    def admit(self, indices: Sequence[int]) -> Sequence[_Row]:
        """Run prompts, put their keys and values into the free rows, sample their first tokens, and return their rows."""
        prompts = [read for index in indices for read in self._read(self.prompts[index])]
        width = max(map(len, prompts))
        tokens = torch.zeros((len(prompts), width), dtype=torch.long)
        mask = torch.zeros_like(tokens)
        for row, prompt in enumerate(prompts):
            tokens[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)
        cache: Any = DynamicCache()
        padded = None if bool(mask.all()) else mask
        logits = self._forward(tokens, padded, positions, cache)
        columns, taken = self.columns, len(self.rows) * self.streams
        if not self.layers:
            self.layers = [Layer(columns, layer) for layer in cache.layers]
            self.cache = Cache(layers=[*self.layers])
        self._reserve(width)
        for layer, filled in zip(self.layers, cache.layers, strict=True):
            layer.put(taken, filled)
        entering = [_Row(index, columns.high - len(self.prompts[index]), self._noise(index), []) for index in indices]
        self.rows += entering
        columns.low = min(row.first for row in self.rows)
        self._sample(entering, logits)
        return entering

    def step(self) -> Sequence[_Row]:
        """Sample one more token for every row, and return the rows."""
        self._reserve(0)
        low, high = self.columns.low, self.columns.high
        firsts = torch.tensor([row.first for row in self.rows]).repeat_interleave(self.streams)
        tokens = torch.tensor([read for row in self.rows for read in self._read(row.tokens[-1:])])
        mask = None
        if bool((firsts > low).any()):
            mask = (torch.arange(low, high + 1) >= firsts[:, None]).long()
        logits = self._forward(tokens, mask, high - firsts[:, None], self.cache)
        self.columns.high += 1
        self._sample(self.rows, logits)
        return self.rows

    def take_finished(self) -> list[tuple[int, Sample]]:
        """Remove the rows that are finished; the last rows of the cache move into their positions."""
        taken = []
        for position in reversed(range(len(self.rows))):
            row = self.rows[position]
            ended = row.tokens[-1] in self.ends
            if not ended and len(row.tokens) < self.limits[row.index]:
                continue
            taken.append((row.index, Sample(row.tokens[:-1] if ended else row.tokens, ended)))
            last = self.rows.pop()
            if last is not row:
                self.rows[position] = last
                for layer in self.layers:
                    layer.replace(position * self.streams, len(self.rows) * self.streams, self.streams, last.first)
        self.columns.low = min((row.first for row in self.rows), default=self.columns.high)
        return taken

    def _forward(self, tokens: torch.Tensor, mask: torch.Tensor | None, positions: torch.Tensor, cache: Any) -> torch.Tensor:
        """Return the logits after the last column, (R, V)."""
        device = self.model.device
        extra: dict[str, Any] = {"position_ids": positions.to(device)} if self.takes_positions else {}
        output = self.model(
            input_ids=tokens.to(device),
            attention_mask=None if mask is None else mask.to(device),
            past_key_values=cache,
            use_cache=True,
            **extra,
            **self.last_logits,
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _sample(self, rows: Sequence[_Row], logits: torch.Tensor) -> None:
        """Append a token to each of `rows`; the logits of a row's streams stand one below the other."""
        logits = logits.float()
        if self.guidance is not None:
            logits = self.guidance.mix(logits[0::2], logits[1::2])
        if not bool(torch.isfinite(logits.amax(dim=-1)).all()):
            raise InputError("the model gives logits that are not numbers (NaN or infinite)")
        if self.banned:
            logits[:, self.banned] = -torch.inf
        young = [position for position, row in enumerate(rows) if len(row.tokens) < self.sampling.min_tokens]
        if young:
            logits[torch.tensor(young)[:, None], torch.tensor(self.ends)] = -torch.inf
        uniforms = torch.from_numpy(np.array([row.uniforms[len(row.tokens)] for row in rows])).to(logits.device)
        tokens = sample_nucleus(logits, uniforms, self.sampling.temperature, self.sampling.top_p)
        for row, token in zip(rows, tokens.tolist(), strict=True):
            row.tokens.append(token)

    def _reserve(self, width: int) -> None:
        """Make sure of `width` columns before `high` and one after it, in new buffers if need be."""
        low, high = self.columns.low, self.columns.high
        if self.layers and width <= high < self.layers[0].keys.shape[2]:
            return
        to = max(width, high - low)
        for layer in self.layers:
            layer.move(len(self.rows) * self.streams, low, high, to, (self.most, to + SLACK))
        for row in self.rows:
            row.first += to - high
        self.columns.low, self.columns.high = to - (high - low), to

    def _read(self, tokens: Sequence[int]) -> list[list[int]]:
        """Return what each stream of a sample reads where the sample has these tokens."""
        return [list(tokens)] if self.guidance is None else [list(tokens), self.guidance.swap(tokens)]

    def _noise(self, index: int) -> np.ndarray:
        """Return the numbers in [0, 1) that decide one sample. Counter-based: no other sample's are needed first."""
        key = np.array([self.sampling.seed, index], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key)).random(self.sampling.max_tokens, dtype=np.float32)


class _PlainBatch(_Batch):
    """Rows of a model whose memory cannot be aligned on the right: read anew for every token, those of one length together."""

    def admit(self, indices: Sequence[int]) -> Sequence[_Row]:
        entering = [_Row(index, 0, self._noise(index), []) for index in indices]
        self.rows += entering
        return self._sample_apart(entering)

    def step(self) -> Sequence[_Row]:
        return self._sample_apart(self.rows)

    def _sample_apart(self, rows: Sequence[_Row]) -> Sequence[_Row]:
        by_length: dict[int, list[_Row]] = {}
        for row in rows:
            by_length.setdefault(len(self.prompts[row.index]) + len(row.tokens), []).append(row)
        for same in by_length.values():
            texts = [read for row in same for read in self._read([*self.prompts[row.index], *row.tokens])]
            output = self.model(input_ids=torch.tensor(texts).to(self.model.device), use_cache=False, **self.last_logits)
            self._sample(same, output.logits[:, -1])
        return rows
