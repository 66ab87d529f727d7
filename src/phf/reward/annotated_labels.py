"""Labels from an annotated corpus: what one scorer, perhaps a costly one, said of its segments, to be learnt by another."""

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from phf.documents import is_held_out, read_annotated
from phf.errors import InputError
from phf.reward.labelled_texts import Labels
from phf.thresholds import check_threshold

_HELD_OUT = 0.2  # of the documents


def is_annotated(path: Path) -> bool:
    """Return whether a path is an annotated corpus: a folder, or a Parquet file with its columns or those of published data."""
    if path.is_dir():
        return any(path.glob("*.parquet"))
    if path.suffix != ".parquet" or not path.is_file():
        return False
    try:
        names = set(pq.read_schema(path).names)
    except (OSError, ValueError):
        return False
    return {"segments", "rewards"} <= names or {"texts", "scores"} <= names


def read(path: Path, column: str, threshold: float | str | None, classes: bool, limit: int) -> Labels:
    """Read the segments of an annotated corpus that have a reward; a fifth of the documents is held out, by their ids.

    Args:
        path: an annotated corpus.
        column: of the rewards.
        threshold: for classes: a segment with a lower reward is positive, that is, not wanted.
        classes: two classes; else labels are 0 for the highest reward and 1 for the lowest.
        limit: segments at most, chosen at random, always the same.

    Raises:
        InputError: for a corpus that cannot be read, has no rewards, only one, or nothing held out.
    """
    chosen = _sample(path, column, limit)
    rewards = np.array([reward for _, reward, _ in chosen])
    trains = np.array([each for _, _, each in chosen], bool)
    if not len(rewards) or rewards.min() == rewards.max():
        what = "no segment with a reward" if not len(rewards) else f"every reward is {rewards[0]:g}"
        raise InputError(f"{path}, column {column!r}: {what}; expected rewards that differ, to learn from")
    if trains.all() or not trains.any():
        raise InputError(f"{path}: too few documents to hold a fifth of them out; expected some dozens")
    texts = [text for text, _, _ in chosen]
    columns: dict[str, str | None] = {"rewards": column}
    if not classes:
        low, high = float(rewards[trains].min()), float(rewards[trains].max())
        labels = np.clip((high - rewards) / (high - low), 0, 1)
        return Labels(texts, labels, None, trains, columns, scale=(low, high))
    labels = (rewards < _resolved(path, threshold, rewards[trains])).astype(np.float64)
    if labels[trains].min() == labels[trains].max():
        raise InputError(
            f"{path}: every reward is on one side of the threshold {threshold}; choose another, `phf inspect` shows them"
        )
    return Labels(texts, labels, None, trains, columns)


def _sample(path: Path, column: str, limit: int) -> list[tuple[str, float, bool]]:
    """Sample segments: text, reward, and whether it may be trained on; each is as likely as any other (Vitter's algorithm R)."""
    chosen: list[tuple[str, float, bool]] = []
    seen = 0
    numbers = np.random.default_rng(0)
    for document in read_annotated(path, column):
        assert document.rewards is not None
        is_seen = not is_held_out(document.id, _HELD_OUT)
        for text, reward in zip(document.segments, document.rewards.tolist(), strict=True):
            if math.isnan(reward) or not text.strip():
                continue
            seen += 1
            if len(chosen) < limit:
                chosen.append((text, reward, is_seen))
            elif (number := int(numbers.integers(seen))) < limit:
                chosen[number] = (text, reward, is_seen)
    return chosen


def _resolved(path: Path, threshold: float | str | None, rewards: np.ndarray) -> float:
    if threshold is None:
        raise InputError(f"{path}: classification of an annotated corpus needs a threshold on its rewards, such as p50")
    try:
        return float(threshold)
    except ValueError:
        check_threshold(threshold)
        return float(np.quantile(rewards, float(str(threshold)[1:]) / 100))
