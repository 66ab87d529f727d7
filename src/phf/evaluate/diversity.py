"""How much samples differ: Self-BLEU over all references exactly, distinct n-grams, their entropy, and texts stuck in a loop.

Legend: N texts, W words of all texts, G different n-grams, E (n-gram, text) pairs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow.parquet as pq

from phf import checksums, config, statistics
from phf.errors import InputError
from phf.evaluate.protocol import EvalContext
from phf.lm import LanguageModel
from phf.records import Record
from phf.statistics import Estimate

_EPSILON = 0.1  # matches where there are none, as in nltk's method1
_GROUPS = 20  # of the jackknife


@dataclass(frozen=True)
class Diversity:
    """Diversity of the samples of another evaluation. Lower Self-BLEU and higher distinct-n and entropy: more diverse.

    Args:
        of: name of the evaluation whose samples are read.
        ngrams: n of distinct-n and entropy.
        self_bleu: longest n-gram of Self-BLEU.
        characters: also Self-BLEU as the released code has it, by character, among the first so many samples; it used 200.
    """

    of: str = "no-prompt"
    ngrams: list[config.Count] = field(default_factory=lambda: [1, 2, 3])
    self_bleu: config.Count = 5
    characters: config.Count | None = None

    def measure(self, model: LanguageModel, setting: EvalContext) -> Iterator[Record]:
        """Measure the samples as they are, also those without a score; n = samples.

        Raises:
            InputError: if the evaluation `of` has stored none.
        """
        path = setting.samples_of(self.of)
        if not path.exists():
            raise InputError(f"{setting.name}.of: {self.of!r} has no samples ({path} is missing); run that evaluation first")
        checksums.verify(path)
        table = pq.read_table(path, columns=["text", "finished"])
        texts, finished = table.column("text").to_pylist(), table.column("finished").to_pylist()
        setting.report(0, len(texts), "samples")
        yield from setting.records(f"self_bleu_{self.self_bleu}", _self_bleu_of_all(texts, self.self_bleu))
        if self.characters is not None:
            first_texts = texts[: self.characters]
            name = f"self_bleu_{self.self_bleu}_characters"
            yield from setting.records(name, _self_bleu_of_all(first_texts, self.self_bleu, "characters"))
        for n in self.ngrams:
            yield from setting.records(f"distinct_{n}", statistics.mean(distinct(texts, n), setting.seed))
            yield from setting.records(f"distinct_{n}_of_all", distinct_of_all(texts, n))
            yield from setting.records(f"entropy_{n}", entropy(texts, n))
        loops = sum(is_loop(text, whole) for text, whole in zip(texts, finished, strict=True))
        yield from setting.records("loop_share", statistics.share(loops, len(texts)))


def self_bleu(texts: Sequence[str], n: int = 5, unit: Literal["words", "characters"] = "words") -> np.ndarray:
    """Return the BLEU of each text against all others as its references (Zhu et al. 2018, arXiv 1802.01886).

    Equal to nltk's `sentence_bleu(others, text, (1/n,) * n, SmoothingFunction().method1)` on white-space words: geometric mean
    of the clipped precisions of 1- to n-grams, 0.1 matches where there are none, and the brevity penalty of the closest length.
    A text's n-gram is clipped at the largest count in any other text: the largest count over all texts, or, for the one text
    that holds it, the second largest. So the cost grows with the number of words, not of pairs.

    Args:
        texts: (N,).
        n: longest n-gram.
        unit: what texts are sequences of.

    Returns:
        (N,) float64 in [0, 1]; 0 for a text that shares nothing with any other; NaN if there is no other text.
    """
    if len(texts) < 2:
        return np.full(len(texts), np.nan)
    words, lengths = _words(texts, list if unit == "characters" else str.split)
    total = np.zeros(len(texts))
    shares_nothing = np.zeros(len(texts), bool)
    for order, (grams, owners) in enumerate(_ngrams(words, lengths, n), start=1):
        matches = _clipped_matches(grams, owners, len(texts))
        if order == 1:
            shares_nothing = matches == 0
        possible = np.maximum(lengths - order + 1, 1)
        total += np.log(np.where(matches == 0, _EPSILON, matches) / possible) / n
    closest = _closest_other(lengths)
    with np.errstate(divide="ignore", invalid="ignore"):
        brevity = np.where(lengths > closest, 1.0, np.exp(1 - closest / lengths))
    return np.where(shares_nothing, 0.0, brevity * np.exp(total))


def distinct(texts: Sequence[str], n: int) -> np.ndarray:
    """Return the share of different ones among each text's n-grams of words: (N,), NaN for a text shorter than n words."""
    words, lengths = _words(texts, str.split)
    *_, (grams, owners) = _ngrams(words, lengths, n)
    different = np.bincount(np.unique(grams * len(texts) + owners) % max(len(texts), 1), minlength=len(texts))
    total = np.bincount(owners, minlength=len(texts))
    return np.where(total > 0, different / np.maximum(total, 1), np.nan)


def distinct_of_all(texts: Sequence[str], n: int) -> Estimate:
    """Return the share of different ones among the n-grams of all texts together (Li et al. 2016). It falls with N."""
    return _jackknife(texts, n, lambda counts: float((counts > 0).sum() / max(counts.sum(), 1)))


def entropy(texts: Sequence[str], n: int) -> Estimate:
    """Return the entropy in nats of the n-grams of all texts together, -sum p log p over their shares. It grows with N."""

    def nats(counts: np.ndarray) -> float:
        shares = counts[counts > 0] / counts.sum()
        return float(-(shares * np.log(shares)).sum()) + 0.0

    return _jackknife(texts, n, nats)


def is_loop(text: str, whole: bool = True) -> bool:
    """Return whether a text ends in a phrase of two or more words three times over (Holtzman et al. 2020, section 5.3).

    Args:
        text: a sample.
        whole: False if the length limit cut it off; its last, partial word is then ignored.
    """
    words = text.split()
    if not whole:
        words = words[:-1]
    return any(
        words[-size:] == words[-2 * size : -size] == words[-3 * size : -2 * size] for size in range(2, len(words) // 3 + 1)
    )


def _self_bleu_of_all(texts: Sequence[str], n: int, unit: Literal["words", "characters"] = "words") -> Estimate:
    """Return mean Self-BLEU, with an interval by leaving out texts, as samples and as references of the others."""
    groups = min(_GROUPS, len(texts))

    def mean_without(group: int | None) -> float:
        values = self_bleu([text for place, text in enumerate(texts) if place % groups != group], n, unit)
        known = values[~np.isnan(values)]
        return float(known.mean()) if len(known) else float("nan")

    return statistics.jackknife(mean_without(None), [mean_without(group) for group in range(groups)], len(texts))


def _words(texts: Sequence[str], cut: Callable[[str], list[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the words of all texts as numbers, (W,) int64, and how many each text has, (N,) int64."""
    numbers: dict[str, int] = {}
    pieces = [cut(text) for text in texts]
    flat = np.fromiter((numbers.setdefault(word, len(numbers)) for piece in pieces for word in piece), np.int64)
    return flat, np.array([len(piece) for piece in pieces], np.int64)


def _ngrams(words: np.ndarray, lengths: np.ndarray, n: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the 1-grams, ..., n-grams of all texts as integer ids, each with the index of its text."""
    owners = np.repeat(np.arange(len(lengths)), lengths)
    ends = np.repeat(np.cumsum(lengths), lengths)
    starts = np.arange(len(words))
    grams = words
    for order in range(1, n + 1):
        yield grams, owners[starts]
        longer = starts + order < ends[starts]  # the text continues after the n-gram
        starts = starts[longer]
        pairs = grams[longer] * (words.max(initial=0) + 1) + words[starts + order]
        grams = np.unique(pairs, return_inverse=True)[1]


def _clipped_matches(grams: np.ndarray, owners: np.ndarray, texts: int) -> np.ndarray:
    """Return the number of each text's n-grams, each clipped at its largest count in any other text: (N,)."""
    if not len(grams):
        return np.zeros(texts)
    pairs, counts = np.unique(grams * texts + owners, return_counts=True)  # (E,), sorted by n-gram
    gram, owner = pairs // texts, pairs % texts
    firsts = np.flatnonzero(np.diff(gram, prepend=-1))  # (G,) where each n-gram's pairs begin
    group = np.cumsum(np.diff(gram, prepend=-1) > 0) - 1  # (E,)
    largest = np.maximum.reduceat(counts, firsts)
    holders = np.flatnonzero(counts == largest[group])
    holders = holders[np.unique(group[holders], return_index=True)[1]]  # (G,) one text with the largest count of each
    without = counts.copy()
    without[holders] = 0
    elsewhere = largest[group]
    elsewhere[holders] = np.maximum.reduceat(without, firsts)
    return np.bincount(owner, np.minimum(counts, elsewhere), minlength=texts)


def _closest_other(lengths: np.ndarray) -> np.ndarray:
    """Return for each text the length of the other text closest to its own, the shorter on a tie: (N,)."""
    known, places, counts = np.unique(lengths, return_inverse=True, return_counts=True)
    far = np.iinfo(np.int64).max // 4
    below = np.concatenate([[-far], known[:-1]])
    above = np.concatenate([known[1:], [far]])
    closest = np.where(counts > 1, known, np.where(known - below <= above - known, below, above))
    return np.asarray(closest[places])


def _jackknife(texts: Sequence[str], n: int, statistic: Callable[[np.ndarray], float]) -> Estimate:
    """Return the estimate of a statistic of n-gram counts, with a delete-a-group jackknife standard error."""
    words, lengths = _words(texts, str.split)
    *_, (grams, owners) = _ngrams(words, lengths, n)
    if not len(grams):
        return Estimate(float("nan"), float("nan"), float("nan"), float("nan"), len(texts))
    counts = np.bincount(grams)
    value = statistic(counts)
    groups = min(_GROUPS, len(texts))
    left_out = [
        statistic(counts - np.bincount(grams[owners % groups == group], minlength=len(counts))) for group in range(groups)
    ]
    return statistics.jackknife(value, left_out, len(texts))
