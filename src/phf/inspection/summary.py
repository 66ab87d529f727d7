"""The numbers of an inspection: how rewards are distributed, and what a threshold calls aligned."""

import heapq
import itertools
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phf.documents import Document, read_annotated
from phf.errors import InputError
from phf.objectives import Conditional, Filtering

QUANTILES = (0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 100)
_BINS = 20
_WIDE = 100.0  # rewards whose sizes differ by more than this factor are shown on a logarithmic scale
_SHOWN = 5
_TRIED = 20  # candidates for each example, since many segments are the same


@dataclass(frozen=True, slots=True)
class Example:
    """A segment worth reading.

    Args:
        document: its document's id.
        index: of the segment in its document, from 0.
        reward: of the segment.
        text: of the segment.
    """

    document: str
    index: int
    reward: float
    text: str


@dataclass(frozen=True, slots=True)
class Bin:
    """Rewards from `low` to below `high` (or to `high`, in the last bin; both the same for a single value), and how many."""

    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Distribution:
    """How some rewards are distributed.

    Args:
        count: of rewards that are numbers.
        unscored: of those that are NaN.
        mean: of the rewards.
        quantiles: by percentage, 0 to 100.
        bins: a histogram, from the lowest reward up.
        threshold: as a reward, where it was given as a quantile.
        aligned: share at the threshold or above it.
    """

    count: int
    unscored: int
    mean: float
    quantiles: dict[float, float]
    bins: list[Bin]
    threshold: float
    aligned: float


@dataclass(frozen=True, slots=True)
class Inspection:
    """One column of an annotated corpus, summarised.

    Args:
        folder, column: what was inspected.
        threshold: as it was given: a reward, or a quantile such as "p50".
        segments: rewards of segments; what conditional training and unlikelihood use.
        documents: mean rewards of documents; what filtering uses.
        characters: of all segments.
        aligned_characters: share of the characters of scored segments that are in aligned ones.
        unscored_documents: documents with a NaN among their rewards.
        below, above: scored segments next to the threshold, on either side.
        worst: segments with the lowest rewards.
        failed: number of documents in quarantine, and the first of them with their reasons; 0 and none for data of others.
        slowest: documents that took longest to score, with their seconds.
    """

    folder: Path
    column: str
    threshold: float | str
    segments: Distribution
    documents: Distribution
    characters: int
    aligned_characters: float
    unscored_documents: int
    below: list[Example]
    above: list[Example]
    worst: list[Example]
    failed: int
    failures: list[tuple[str, str]]
    slowest: list[tuple[str, float]]


def inspect(folder: Path, column: str = "rewards", threshold: float | str = "p50", examples: int = _SHOWN) -> Inspection:
    """Summarise one column of rewards.

    All rewards are held in memory, eight bytes a segment; texts are not.

    Args:
        folder: that `annotate` wrote, or published scored data.
        column: which rewards.
        threshold: a reward, as a number or as text, or a quantile such as "p50": of segments for segments, of document
            means for documents.
        examples: how many to show of each kind.

    Raises:
        InputError: for a folder that cannot be read, has no documents or no rewards, or a threshold that is neither.
    """
    threshold = _threshold(threshold)
    rewards, lengths, means, unscored_documents = _read(folder, column)
    cut = Conditional(threshold).resolve([(rewards, np.zeros(1, np.int64))]).threshold
    cut_means = Filtering(threshold).resolve([(means, np.arange(len(means)))]).threshold
    assert isinstance(cut, float)
    assert isinstance(cut_means, float)
    scored = ~np.isnan(rewards)
    aligned = rewards >= cut
    below, above, worst = _examples(folder, column, rewards, cut, examples)
    failures = list(_lines(folder / "quarantine.jsonl", "id", "reason"))
    slow = (tuple(each) for line in _lines(folder / "journal.jsonl", "slowest") for each in line["slowest"])
    return Inspection(
        folder=folder,
        column=column,
        threshold=threshold,
        segments=_distribution(rewards, cut),
        documents=_distribution(means, cut_means),
        characters=int(lengths.sum()),
        aligned_characters=float(lengths[aligned].sum() / max(1, lengths[scored].sum())),
        unscored_documents=unscored_documents,
        below=below,
        above=above,
        worst=worst,
        failed=len(failures),
        failures=[(each["id"], each["reason"]) for each in failures[:_SHOWN]],
        slowest=heapq.nlargest(_SHOWN, slow, key=lambda each: each[1]),
    )


def _threshold(threshold: float | str) -> float | str:
    try:
        return float(threshold)
    except ValueError:
        Conditional(threshold)  # says what is wrong with it
        return threshold


def _read(folder: Path, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return every segment's reward and length, every document's mean reward, and how many documents have a NaN."""
    rewards, lengths, means = [], [], []
    unscored = 0
    for document in read_annotated(folder, column):
        assert document.rewards is not None
        rewards.append(document.rewards)
        lengths.append(np.fromiter(map(len, document.segments), np.int32, len(document.segments)))
        scored = document.rewards[~np.isnan(document.rewards)]
        means.append(scored.mean(dtype=np.float64) if len(scored) else math.nan)
        unscored += len(scored) < len(document.rewards)
    if not rewards:
        raise InputError(f"{folder}: no documents in it")
    return np.concatenate(rewards), np.concatenate(lengths), np.array(means), unscored


def _distribution(rewards: np.ndarray, threshold: float) -> Distribution:
    scored = rewards[~np.isnan(rewards)]
    if not len(scored):
        raise InputError(f"none of {len(rewards)} rewards is a number: the scorer could not score anything")
    quantiles = np.quantile(scored, [share / 100 for share in QUANTILES])
    return Distribution(
        count=len(scored),
        unscored=len(rewards) - len(scored),
        mean=float(scored.mean(dtype=np.float64)),
        quantiles=dict(zip(QUANTILES, quantiles.tolist(), strict=True)),
        bins=_bins(scored),
        threshold=threshold,
        aligned=float((scored >= threshold).mean()),
    )


def _bins(rewards: np.ndarray) -> list[Bin]:
    """Count rewards in bins of equal width.

    Where no reward is above 0, those that are 0 have a bin of their own (nothing was found there), and the others bins of
    equal ratio if they run over orders of magnitude.
    """
    low, high = float(rewards.min()), float(rewards.max())
    if low == high:
        return [Bin(low, high, len(rewards))]
    if high > 0:
        return _counted(rewards, np.linspace(low, high, _BINS + 1))
    below = rewards[rewards < 0]
    least = float(below.max())
    if low < _WIDE * float(np.quantile(below, 0.99)):
        edges = -np.geomspace(-low, -least, _BINS + 1)
    else:
        edges = np.linspace(low, least, _BINS + 1)
    edges[[0, -1]] = low, least
    bins = _counted(below, edges) if least > low else [Bin(low, low, len(below))]
    zeros = len(rewards) - len(below)
    return [*bins, Bin(0.0, 0.0, zeros)] if zeros else bins


def _counted(rewards: np.ndarray, edges: np.ndarray) -> list[Bin]:
    counts, _ = np.histogram(rewards.astype(np.float64), edges)
    return [Bin(float(low), float(high), int(count)) for low, high, count in zip(edges, edges[1:], counts, strict=False)]


def _examples(folder: Path, column: str, rewards: np.ndarray, cut: float, count: int) -> tuple[list[Example], ...]:
    """Choose segments next to the threshold and the worst ones; among equals by a fixed random order."""
    order = np.random.default_rng(0).permutation(len(rewards))
    with np.errstate(invalid="ignore"):
        sides = (np.flatnonzero(rewards < cut), np.flatnonzero(rewards >= cut), np.flatnonzero(~np.isnan(rewards)))
    keys = (-rewards, rewards, rewards)
    wanted = [
        side[np.lexsort((order[side], key[side]))[: count * _TRIED]].tolist() for side, key in zip(sides, keys, strict=True)
    ]
    examples = dict(_pick(read_annotated(folder, column), set(itertools.chain(*wanted))))
    return tuple(_different((examples[number] for number in numbers), count) for numbers in wanted)


def _pick(documents: Iterable[Document], wanted: set[int]) -> Iterator[tuple[int, Example]]:
    first = 0
    for document in documents:
        assert document.rewards is not None
        for index in range(len(document.segments)):
            if first + index in wanted:
                reward = float(document.rewards[index])
                yield first + index, Example(document.id, index, reward, document.segments[index])
        first += len(document.segments)


def _different(examples: Iterable[Example], count: int) -> list[Example]:
    """Return the first so many whose texts differ."""
    taken: dict[str, Example] = {}
    for example in examples:
        if len(taken) < count:
            taken.setdefault(example.text.strip(), example)
    return list(taken.values())


def _lines(path: Path, *keys: str) -> Iterator[Any]:
    """Read the objects of a JSON Lines file that annotation wrote; none if there is no such file.

    Raises:
        InputError: for a line that is no object with these keys.
    """
    if not path.exists():
        return
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        try:
            if line:
                fields = json.loads(line)
                yield {key: fields[key] for key in keys}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}, line {number}: not a line that phf wrote ({error!r}); annotate again") from None
