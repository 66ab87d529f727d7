"""Batches of documents for a scorer: how much it is given at once, and what it returns, checked."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from phf.scorers import BatchScorer, DeviceScorer, DocumentScorer, Scorer, SegmentScorer

_CHARACTERS = 20_000
_CHARACTERS_ON_GPU = 500_000
_LEAST_CHARACTERS = 100  # what a document counts for at least, so that a batch of tiny ones has an end


def batch_characters(scorer: Scorer) -> int:
    """Return how many characters a scorer is given in one call, about."""
    if isinstance(scorer, BatchScorer):
        return int(scorer.batch_characters)
    if isinstance(scorer, DeviceScorer) and scorer.device != "cpu":
        import torch

        return _CHARACTERS_ON_GPU if torch.cuda.is_available() else _CHARACTERS
    return _CHARACTERS


def groups(sizes: Iterable[int], batch: int) -> Iterator[list[int]]:
    """Group what has these sizes in characters, by number, so that each group but the last has at least `batch` of them."""
    group: list[int] = []
    total = 0
    for number, size in enumerate(sizes):
        group.append(number)
        total += max(size, _LEAST_CHARACTERS)
        if total >= batch:
            yield group
            group, total = [], 0
    if group:
        yield group


def document_rewards(scorer: Scorer, documents: list[list[str]]) -> list[np.ndarray]:
    """Score documents, each a list of segments: (S,) float32 each.

    Raises:
        ValueError: if the scorer does not return one finite number or NaN for each segment.
    """
    if isinstance(scorer, DocumentScorer):
        rewards = scorer.score_documents(documents)
        return [_checked(scorer, each, len(segments)) for each, segments in zip(rewards, documents, strict=True)]
    if isinstance(scorer, SegmentScorer):
        return [_checked(scorer, scorer.score_segments(segments), len(segments)) for segments in documents]
    texts = [piece for segments in documents for piece in segments]
    flat = _checked(scorer, scorer.score(texts), len(texts))
    return np.split(flat, np.cumsum([len(segments) for segments in documents])[:-1])


def _checked(scorer: Scorer, rewards: Any, count: int) -> np.ndarray:
    array = np.asarray(rewards, np.float32)
    if array.shape != (count,):
        raise ValueError(f"{type(scorer).__name__} returned rewards of shape {array.shape} for {count} segments")
    if np.isinf(array).any():
        raise ValueError(f"{type(scorer).__name__} returned an infinite reward")
    return array
