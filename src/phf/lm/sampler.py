"""Batched sampling from a causal model: samples that finish make room for waiting prompts.

Legend: R rows read at a time, C columns of the cache, V vocabulary. A sample is one row; under guidance it is two, one
below the other, that read the same text under different control tokens. How rows are kept: see `phf.lm.kv_cache`.
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
    listen: Callable[[int], None] | None = None,
    guidance: Guidance | None = None,
    write: Callable[[int, int | None], None] | None = None,
) -> list[Sample]:
    """Sample a continuation of each prompt.

    A sample depends on the seed, its prompt and the prompt's place in the list; but for rounding, not on the batch.

    Args:
        model: any `AutoModelForCausalLM`, in evaluation mode.
        prompts: tokens, at least one each.
        sampling: temperature, top-p, lengths, seed and batch; `ban` is already in `banned`, its guidance in `guidance`.
        ends: tokens that end a sample.
        banned: tokens that cannot be sampled.
        listen: called with the number of samples finished, whenever it grows.
        guidance: sample from this distribution beyond the model's own; prompts hold the control token it names as `own`.
        write: called with a sample's place in the list and each token of it as it is drawn, end tokens left out; with None when
            it has ended. With a batch of 1 samples come in the order of the prompts.

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
    batch = kind(model, prompts, sampling, ends, banned, guidance)
    done = 0
    while waiting or batch.rows:
        free = sampling.batch - len(batch.rows)
        if waiting and (not batch.rows or free >= _ADMIT_AT * sampling.batch):
            grown = batch.admit([waiting.pop() for _ in range(min(free, len(waiting)))])
        else:
            grown = batch.step()
        if write:
            for row in grown:
                if row.tokens[-1] not in batch.ends:
                    write(row.index, row.tokens[-1])
        finished = batch.take_finished()
        for index, sample in finished:
            samples[index] = sample
            if write:
                write(index, None)
        done += len(finished)
        if finished and listen:
            listen(done)
    assert all(sample is not None for sample in samples)
    return [sample for sample in samples if sample is not None]


def _keeps_attention(model: Any) -> bool:
    """Tell whether all that the model remembers of a text are keys and values by position; Mamba, for one, remembers a state."""
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        return False
    return all(isinstance(layer, DynamicLayer) for layer in DynamicCache(config=model.config).layers)


def draw(logits: torch.Tensor, uniforms: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """Draw one token a row by inverting the cumulative distribution of the nucleus.

    The nucleus is that of transformers' TemperatureLogitsWarper and TopPLogitsWarper: sort by probability, ascending, and
    drop what has a cumulative probability of at most 1 - top_p. (Tokens exactly as probable as the last one kept are kept.)

    Args:
        logits: (R, V).
        uniforms: (R,) in [0, 1), what decides the draw.
        temperature: logits are divided by it.
        top_p: probability of the nucleus, at least.

    Returns:
        (R,) tokens.
    """
    probabilities = torch.softmax(logits.float() / temperature, dim=-1)
    if top_p < 1:
        ascending = _sorted(probabilities)
        dropped = (ascending.cumsum(dim=-1) <= 1 - top_p).sum(dim=-1, keepdim=True).clamp(max=logits.shape[-1] - 1)
        probabilities = probabilities.masked_fill(probabilities < ascending.gather(-1, dropped), 0.0)
    cumulative = probabilities.cumsum(dim=-1)
    total = cumulative[:, -1:]
    # Just below the total at most: rounding must not carry a draw past the last token of the nucleus.
    targets = torch.minimum(uniforms[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, targets, right=True).squeeze(-1)


def _sorted(values: torch.Tensor) -> torch.Tensor:
    """Sort rows, ascending. On a CPU numpy sorts float32 with vector instructions, 30 times as fast as torch."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy(), axis=-1))
    return torch.sort(values, dim=-1).values


@dataclass(slots=True)
class _Row:
    """A sample in flight: its prompt's place in the list, the column of its first token, its noise, what it has so far."""

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
    ) -> None:
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
        """Let prompts in: run them, put their keys and values into the free rows, and sample and give their first tokens."""
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
        self._make_room(width)
        for layer, filled in zip(self.layers, cache.layers, strict=True):
            layer.put(taken, filled)
        entering = [_Row(index, columns.high - len(self.prompts[index]), self._noise(index), []) for index in indices]
        self.rows += entering
        columns.low = min(row.first for row in self.rows)
        self._sample(entering, logits)
        return entering

    def step(self) -> Sequence[_Row]:
        """Sample one more token for every row, and give the rows."""
        self._make_room(0)
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
        """Remove the rows that are finished; the last rows of the cache move into their places."""
        taken = []
        for place in reversed(range(len(self.rows))):
            row = self.rows[place]
            ended = row.tokens[-1] in self.ends
            if not ended and len(row.tokens) < self.sampling.max_tokens:
                continue
            taken.append((row.index, Sample(row.tokens[:-1] if ended else row.tokens, ended)))
            last = self.rows.pop()
            if last is not row:
                self.rows[place] = last
                for layer in self.layers:
                    layer.replace(place * self.streams, len(self.rows) * self.streams, self.streams, last.first)
        self.columns.low = min((row.first for row in self.rows), default=self.columns.high)
        return taken

    def _forward(self, tokens: torch.Tensor, mask: torch.Tensor | None, positions: torch.Tensor, cache: Any) -> torch.Tensor:
        """Give the logits after the last column, (R, V)."""
        device = self.model.device
        given: dict[str, Any] = {"position_ids": positions.to(device)} if self.takes_positions else {}
        found = self.model(
            input_ids=tokens.to(device),
            attention_mask=None if mask is None else mask.to(device),
            past_key_values=cache,
            use_cache=True,
            **given,
            **self.last_logits,
        )
        logits: torch.Tensor = found.logits[:, -1]
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
        young = [place for place, row in enumerate(rows) if len(row.tokens) < self.sampling.min_tokens]
        if young:
            logits[torch.tensor(young)[:, None], torch.tensor(self.ends)] = -torch.inf
        uniforms = torch.from_numpy(np.array([row.uniforms[len(row.tokens)] for row in rows])).to(logits.device)
        tokens = draw(logits, uniforms, self.sampling.temperature, self.sampling.top_p)
        for row, token in zip(rows, tokens.tolist(), strict=True):
            row.tokens.append(token)

    def _make_room(self, width: int) -> None:
        """See that there are `width` columns or more before `high`, and one or more after it: else move to new buffers."""
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
        """List what each stream of a sample reads where the sample has these tokens."""
        return [list(tokens)] if self.guidance is None else [list(tokens), self.guidance.swap(tokens)]

    def _noise(self, index: int) -> np.ndarray:
        """Give the numbers in [0, 1) that decide one sample: counter-based, so they need no other sample's to be drawn first."""
        key = np.array([self.sampling.seed, index], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key)).random(self.sampling.max_tokens, dtype=np.float32)


class _PlainBatch(_Batch):
    """Rows of a model whose memory cannot be aligned on the right: of one length each time, read anew for every token."""

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
            found = self.model(input_ids=torch.tensor(texts).to(self.model.device), use_cache=False, **self.last_logits)
            self._sample(same, found.logits[:, -1])
        return rows
