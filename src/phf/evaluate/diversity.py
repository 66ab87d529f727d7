"""How much samples differ: Self-BLEU over all references exactly, distinct n-grams, their entropy, and texts stuck in a loop.

Legend: N texts, W words of all texts, G different n-grams, E (n-gram, text) pairs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np

from phf import config, statistics
from phf.evaluate.protocol import EvalContext
from phf.evaluate.scored_samples import read_samples
from phf.lm import LanguageModel
from phf.records import Record
from phf.statistics import Estimate

_EPSILON = 0.1  # matches where there are none, as in nltk's method1
_GROUPS = 20  # of the jackknife
_CUT: dict[str, Callable[[str], list[str]]] = {"words": str.split, "characters": list}


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
        texts = read_samples(setting, self.of)[1]
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
        loops = sum(is_loop(text, bool(text.finished)) for text in texts)
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
    words, lengths = _words(texts, _CUT[unit])
    total = np.zeros(len(texts))
    shares_nothing = np.zeros(len(texts), bool)
    for order, (grams, owners) in enumerate(_ngrams(words, lengths, n), start=1):
        matches = _clipped_matches(grams, owners, len(texts))
        if order == 1:
            shares_nothing = matches == 0
        total += _log_precision(matches, lengths, order) / n
    return np.where(shares_nothing, 0.0, _brevity(lengths) * np.exp(total))


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


def distinct_2(texts: Sequence[Sequence[str]], length: int) -> float:
    """Return the share of different ones among the pairs of neighbouring words in the first `length` words of all texts.

    It falls with the number of words, so texts of two models are compared over equally many.
    """
    pairs: list[tuple[str, str]] = []
    left = length
    for text in texts:
        words = text[: max(left, 0)]
        left -= len(words)
        pairs += pairwise(words)
    return len(set(pairs)) / len(pairs) if pairs else float("nan")


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
    values = self_bleu(texts, n, unit)
    value = float(values.mean()) if len(values) else float("nan")
    return statistics.jackknife(value, self_bleu_without_groups(texts, n, unit), len(texts))


def self_bleu_without_groups(texts: Sequence[str], n: int = 5, unit: Literal["words", "characters"] = "words") -> list[float]:
    """Return the mean Self-BLEU of the texts that are left without each of 20 groups, every 20th text; as many as texts if fewer.

    Equal to `self_bleu` of the texts that are left, but n-grams are counted once: without group g an n-gram of a text in group
    h is clipped at its largest count in h's other texts or in any group but g and h, which is among its three largest groups.
    """
    groups = min(_GROUPS, len(texts))
    words, lengths = _words(texts, _CUT[unit])
    group_of = np.arange(len(texts)) % max(groups, 1)
    total = np.zeros((groups, len(texts)))
    shares_nothing = np.zeros((groups, len(texts)), bool)
    for order, (grams, owners) in enumerate(_ngrams(words, lengths, n), start=1):
        for group, matches in enumerate(_matches_without_groups(grams, owners, group_of, groups)):
            if order == 1:
                shares_nothing[group] = matches == 0
            total[group] += _log_precision(matches, lengths, order) / n
    means = []
    for group in range(groups):
        left = group_of != group
        if left.sum() < 2:
            means.append(float("nan"))
            continue
        bleu = np.where(shares_nothing[group][left], 0.0, _brevity(lengths[left]) * np.exp(total[group][left]))
        means.append(float(bleu.mean()))
    return means


def _log_precision(matches: np.ndarray, lengths: np.ndarray, order: int) -> np.ndarray:
    possible = np.maximum(lengths - order + 1, 1)
    precision: np.ndarray = np.log(np.where(matches == 0, _EPSILON, matches) / possible)
    return precision


def _brevity(lengths: np.ndarray) -> np.ndarray:
    """Return BLEU's brevity penalty of each text against the other text of the closest length: (N,)."""
    closest = _closest_other(lengths)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(lengths > closest, 1.0, np.exp(1 - closest / lengths))


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
    gram, owner, counts = _count_pairs(grams, owners, texts)
    return np.bincount(owner, np.minimum(counts, _largest_elsewhere(gram, counts)), minlength=texts)


def _matches_without_groups(grams: np.ndarray, owners: np.ndarray, group_of: np.ndarray, groups: int) -> Iterator[np.ndarray]:
    """Yield for each group the clipped matches of every text, as if the group's texts were no references: (N,)."""
    texts = len(group_of)
    if not len(grams):
        yield from np.zeros((groups, texts))
        return
    gram, owner, counts = _count_pairs(grams, owners, texts)
    group = group_of[owner]
    by_cell = np.lexsort((group, gram))
    gram, owner, counts, group = (values[by_cell] for values in (gram, owner, counts, group))
    cell = gram * groups + group
    in_own_group = _largest_elsewhere(cell, counts)
    firsts = np.flatnonzero(np.diff(cell, prepend=-1))
    largest, cell_gram, cell_group = np.maximum.reduceat(counts, firsts), gram[firsts], group[firsts]
    best_first = np.lexsort((-largest, cell_gram))
    _, starts, sizes = np.unique(cell_gram, return_index=True, return_counts=True)
    rank = np.arange(len(firsts)) - np.repeat(starts, sizes)  # of each cell among those of its n-gram, the largest first
    best, best_group = np.zeros((3, gram.max() + 1), np.int64), np.full((3, gram.max() + 1), -1)
    for place in range(3):
        chosen = best_first[rank == place]
        best[place, cell_gram[chosen]], best_group[place, cell_gram[chosen]] = largest[chosen], cell_group[chosen]
    best, best_group = best[:, gram], best_group[:, gram]  # (3, E)
    for left_out in range(groups):
        free = (best_group != left_out) & (best_group != group)
        elsewhere = np.where(free[0], best[0], np.where(free[1], best[1], best[2]))
        yield np.bincount(owner, np.minimum(counts, np.maximum(in_own_group, elsewhere)), minlength=texts)


def _count_pairs(grams: np.ndarray, owners: np.ndarray, texts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return n-gram, text and count of every (n-gram, text) pair, sorted by n-gram: (E,) each."""
    pairs, counts = np.unique(grams * texts + owners, return_counts=True)
    return pairs // texts, pairs % texts, counts


def _largest_elsewhere(keys: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return for each entry the largest count among the other entries of its key, 0 if there are none; keys are sorted: (E,)."""
    firsts = np.flatnonzero(np.diff(keys, prepend=-1))  # where each key's entries begin
    group = np.cumsum(np.diff(keys, prepend=-1) > 0) - 1
    largest = np.maximum.reduceat(counts, firsts)
    holders = np.flatnonzero(counts == largest[group])
    holders = holders[np.unique(group[holders], return_index=True)[1]]  # one entry with the largest count of each key
    without = counts.copy()
    without[holders] = 0
    elsewhere = largest[group]
    elsewhere[holders] = np.maximum.reduceat(without, firsts)
    return np.asarray(elsewhere)


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
