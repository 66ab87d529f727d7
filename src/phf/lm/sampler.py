"""Batched sampling from a causal model: waiting prompts take the rows of samples that finish."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from phf.lm.guidance import Guidance
from phf.lm.protocol import Sampling
from phf.lm.rows import Batch, PlainBatch, keeps_attention
from phf.lm.rows import Sample as Sample

_ADMIT_AT = 0.75
"""Share of free rows at which waiting prompts enter. Late: rows of one age read few columns; rows of many ages all read as
many as the oldest one has, and reading them is what a step costs most. Yet before a few long rows run alone."""


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
    samples: dict[int, Sample] = {}
    kind = Batch if keeps_attention(model) else PlainBatch
    waiting = _in_order(prompts, sampling.batch)
    batch = kind(model, prompts, sampling, ends, banned, guidance, limits or [sampling.max_tokens] * len(prompts))
    while waiting or batch.rows:
        free = sampling.batch - len(batch.rows)
        if waiting and (not batch.rows or free >= _ADMIT_AT * sampling.batch):
            grown = batch.admit([waiting.pop() for _ in range(min(free, len(waiting)))])
        else:
            grown = batch.step()
        if on_token:
            for row in (row for row in grown if row.tokens[-1] not in batch.ends):
                on_token(row.index, row.tokens[-1])
        finished = batch.take_finished()
        for index, sample in finished:
            samples[index] = sample
            if on_token:
                on_token(index, None)
        if finished and on_progress:
            on_progress(len(samples))
    return [samples[index] for index in range(len(prompts))]


def _in_order(prompts: Sequence[Sequence[int]], batch: int) -> list[int]:
    """Return the prompts' indices, the first one to be sampled last.

    Long prompts first: rows in flight together then have similar lengths. The order is invisible in the result.
    """
    backwards = range(len(prompts) - 1, -1, -1)
    return sorted(backwards, key=lambda index: len(prompts[index]) if batch > 1 else 0)
