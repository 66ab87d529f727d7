"""What pep8-ruff costs against pycodestyle run plainly, and how far the two agree, on files of the standard library.

python benchmarks/pep8_ruff.py [--json] [speed] [samples] [agreement]
"""

import bisect
import collections
import contextlib
import io
import itertools
import json
import os
import resource
import sys
import sysconfig
from pathlib import Path

import numpy as np

os.environ["RAYON_NUM_THREADS"] = "1"  # ruff on one core, as pycodestyle is

import pycodestyle

from phf.scorers.pep8 import Pep8
from phf.scorers.pep8_ruff import Pep8Ruff
from phf.segmenters import Lines

REPEATS = 3
STANDARD = Path(sysconfig.get_path("stdlib"))
PLAIN = "pycodestyle {} run plainly"
# What pycodestyle checks and ruff has no rule for: continuation lines.
CONTINUATION = ("E12", "E13")


def modules():
    """Texts of the modules at the top of the standard library."""
    return [path.read_text("utf-8") for path in sorted(STANDARD.glob("*.py"))]


def packages():
    """Texts of the modules in its packages, but for its tests."""
    paths = [path for path in sorted(STANDARD.glob("*/*.py")) if path.parent.name not in ("test", "tests", "site-packages")]
    return [path.read_text("utf-8") for path in paths]


def processor(way):
    """Seconds of processor time that a call takes, in this process and those it starts."""

    def used():
        who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, who))

    before = used()
    way()
    return used() - before


def plainly(texts):
    """Run pycodestyle as anybody would."""
    with contextlib.redirect_stdout(io.StringIO()):
        for text in texts:
            pycodestyle.Checker(lines=text.splitlines(keepends=True)).check_all()


def compare(what, texts):
    """Rows of processor time: pycodestyle plainly, pep8 and pep8-ruff in turn, the best of several turns."""
    pep8, ruff = Pep8(), Pep8Ruff()
    lines = [Lines().segment(text) for text in texts]
    ways = {
        "pycodestyle": lambda: plainly(texts),
        "pep8": lambda: pep8.score(texts),
        "pep8-ruff": lambda: ruff.score(texts),
        "pep8-ruff by line": lambda: ruff.score_documents(lines),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(REPEATS):
        for name, way in ways.items():
            best[name] = min(best[name], processor(way))
    size = sum(map(len, texts))
    against = PLAIN.format(pycodestyle.__version__)
    reach = ">= 20"
    for name in ("pep8-ruff", "pep8-ruff by line"):
        yield {
            "measure": f"{name}, {what}",
            "value": best["pycodestyle"] / best[name],
            "unit": "x",
            "against": against,
            "reach": reach,
        }
    yield {"measure": f"pep8-ruff, {what}", "value": best["pep8"] / best["pep8-ruff"], "unit": "x", "against": "pep8"}
    yield {"measure": f"pep8-ruff, {what}", "value": size / 1e6 / best["pep8-ruff"], "unit": "MB/s", "against": "itself"}


def speed():
    """Whole files, by document and by line: modules of some 30 kB, and those of packages, which are smaller."""
    yield from compare("modules", modules()[::2])
    yield from compare("modules of packages", packages()[::4])


def samples():
    """The first 500 characters of files, as short as what a model writes."""
    yield from compare("500-character samples", [text[:500] for text in modules() + packages()])


def agreement():
    """By document and by line, with all that pep8 counts and without what ruff has no rule for."""
    texts = modules() + packages()
    documents = [Lines().segment(text) for text in texts]
    for ignored in ((), CONTINUATION):
        options = {"ignore": [*Pep8().ignore, *ignored]}
        pep8, ruff = Pep8(**options), Pep8Ruff(**options)
        without = " without E12, E13" if ignored else ""
        exact, close = pep8.score(texts), ruff.score(texts)
        rank = np.corrcoef(ranks(exact), ranks(close))[0, 1]
        yield row(f"documents: Spearman's rank correlation{without}", rank)
        yield row(f"documents: equal{without}", np.mean(exact == close))
        exact = np.concatenate([pep8.score_segments(lines) for lines in documents])
        close = np.concatenate(ruff.score_documents(documents))
        yield row(f"lines: equal{without}", np.mean(exact == close))
        flagged = (exact < 0) & (close < 0)
        yield row(f"lines: flagged by both, of those pep8 flags{without}", flagged.sum() / (exact < 0).sum())
        yield row(f"lines: flagged by both, of those pep8-ruff flags{without}", flagged.sum() / (close < 0).sum())
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
            yield {
                "measure": f"violations of {name} alone: {code}",
                "value": number,
                "unit": "violations",
                "against": "the other",
            }


def row(measure, value):
    return {"measure": measure, "value": float(value), "unit": "", "against": "pep8"}


def ranks(values):
    """Ranks of values, equal ones sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def main(arguments):
    parts = {part.__name__: part for part in (speed, samples, agreement)}
    for name in [each for each in arguments if not each.startswith("-")] or parts:
        for each in parts[name]():
            found = {"benchmark": "pep8_ruff", **each}
            if "--json" in arguments:
                print(json.dumps(found), flush=True)
            else:
                print(f"{found['measure']:75} {found['value']:10.3f} {found['unit']:12} {found.get('reach', '')}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
