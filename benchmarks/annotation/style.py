"""Both style scorers against pycodestyle run plainly, on files of the standard library: speed, equality, agreement."""

import bisect
import collections
import contextlib
import io
import itertools
import os
from pathlib import Path

import numpy as np

os.environ["RAYON_NUM_THREADS"] = "1"  # ruff on one core, as pycodestyle is

import pycodestyle

from annotation import Rows, interleaved, modules, packages, row
from phf.scorers.pep8 import Pep8
from phf.scorers.pep8.ruff import Pep8Ruff
from phf.segmenters import Lines

ROUNDS = 3
PLAIN = f"pycodestyle {pycodestyle.__version__} run plainly"
# What pycodestyle checks and ruff has no rule for: continuation lines.
CONTINUATION = ("E12", "E13")


def plainly(text):
    """Run pycodestyle as anybody would: the number of violations, or NaN where it falls."""
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            return pycodestyle.Checker(lines=io.StringIO(text).readlines()).check_all()
        except IndexError:
            return np.nan


def speed(data: Path) -> Rows:
    """Whole files of some 30 kB, smaller ones, and the first 500 characters of files, as short as what a model writes."""
    texts = modules() + packages()
    yield from compare("modules", modules()[::2])
    yield from compare("modules of packages", packages()[::4])
    yield from compare("500-character samples", [text[:500] for text in texts])


def compare(what, texts):
    """The ways in turn: each scorer by document and by line."""
    pep8, ruff = Pep8(), Pep8Ruff()
    lines = [Lines().segment(text) for text in texts]
    best = interleaved(
        {
            "plainly": lambda: [plainly(text) for text in texts],
            "pep8": lambda: pep8.score(texts),
            "pep8 by line": lambda: [pep8.score_segments(segments) for segments in lines],
            "pep8-ruff": lambda: ruff.score(texts),
            "pep8-ruff by line": lambda: ruff.score_documents(lines),
        },
        ROUNDS,
    )
    characters = sum(map(len, texts))
    for name in list(best)[1:]:
        reach = ">= 20" if "ruff" in name else ">= 1.5"
        yield row(
            f"{name}: {what}", best["plainly"] / best[name], "x", f"{PLAIN}, {len(texts)} texts, {characters:,} characters", reach
        )
        yield row(f"{name}: {what}", characters / 1e6 / best[name], "MB/s")
    counts = np.array([plainly(text) for text in texts], float)
    sizes = np.array([max(len(text), 1) for text in texts])
    equal = np.array_equal(pep8.score(texts), (-counts / sizes).astype(np.float32), equal_nan=True)
    by_line = [(pep8.score_segments(segments).astype(float) * [len(each) for each in segments]).sum() for segments in lines]
    yield row(
        f"pep8: {what}, equal to the last digit",
        equal and np.allclose(by_line, -counts, atol=1e-3, equal_nan=True),
        "",
        PLAIN,
        ">= 1",
    )


def agreement(data: Path) -> Rows:
    """By document and by line, with all that pep8 counts and without what ruff has no rule for."""
    texts = modules() + packages()
    documents = [Lines().segment(text) for text in texts]
    for ignored in ((), CONTINUATION):
        options = {"ignore": [*Pep8().ignore, *ignored]}
        pep8, ruff = Pep8(**options), Pep8Ruff(**options)
        without = " without E12, E13" if ignored else ""
        exact, close = pep8.score(texts), ruff.score(texts)
        rank = np.corrcoef(ranks(exact), ranks(close))[0, 1]
        yield row(f"agreement, documents: Spearman's rank correlation{without}", rank, "", "pep8")
        yield row(f"agreement, documents: equal{without}", np.mean(exact == close), "", "pep8")
        exact = np.concatenate([pep8.score_segments(lines) for lines in documents])
        close = np.concatenate(ruff.score_documents(documents))
        yield row(f"agreement, lines: equal{without}", np.mean(exact == close), "", "pep8")
        flagged = (exact < 0) & (close < 0)
        yield row(
            f"agreement, lines: flagged by both, of those pep8 flags{without}", flagged.sum() / (exact < 0).sum(), "", "pep8"
        )
        yield row(
            f"agreement, lines: flagged by both, of those pep8-ruff flags{without}", flagged.sum() / (close < 0).sum(), "", "pep8"
        )
    yield from by_code(texts)


def by_code(texts):
    """Violations on which the two part, code by code, the ten greatest first."""
    pep8, ruff = Pep8(), Pep8Ruff()
    counts = [collections.Counter(), collections.Counter()]
    for text in texts:
        ends = list(itertools.accumulate(map(len, Lines().segment(text))))
        places = [
            collections.Counter((bisect.bisect_right(ends, each.start), each.kind) for each in scorer.findings(text))
            for scorer in (pep8, ruff)
        ]
        for count, only in zip(counts, (places[0] - places[1], places[1] - places[0]), strict=True):
            for (_, code), number in only.items():
                count[code] += number
    for count, name in zip(counts, ("pep8", "pep8-ruff"), strict=True):
        for code, number in count.most_common(10):
            yield row(f"violations of {name} alone: {code}", number, "violations", "the other")


def ranks(values):
    """Ranks of values, equal ones sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
