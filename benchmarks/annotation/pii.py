"""The pii scorer against the same detectors run plainly: how much faster, and whether it finds the same."""

from pathlib import Path

import phf.scorers
from annotation import Rows, column, documentation, processor, row, some
from phf.segmenters import Sentences

TEXTS, SENTENCES, AT_ONCE = 600, 2000, 50
DOCUMENTATION = 3_000_000
WARM_UP = "Born 1 May 1980 at 1 Main Street, Springfield, MO: call 650 253 0000, skype foobarx or @foobarx, me@example.com"


def pii(data: Path) -> Rows:
    """Reviews nearly free of personal data, invented texts full of it, documentation; by document and by sentence."""
    corpora = {
        "film reviews": column(data / "english" / "reviews_a.parquet"),
        "invented personal data": column(data / "pii" / "synthetic.parquet"),
        "documentation": documentation(DOCUMENTATION),
    }
    for detectors, reach in (("extended", ">= 10"), ("default", "")):
        for name, source in corpora.items():
            texts = some(source, TEXTS)
            yield from compare(detectors, f"{name}, documents", texts, reach)
            pieces = [piece for text in texts for piece in Sentences().segment(text)]
            yield from compare(detectors, f"{name}, sentences", some(pieces, SENTENCES), reach)


def compare(detectors: str, what: str, texts: list[str], reach: str) -> Rows:
    """Both ways over the same texts, some of them at a time in turn. Each text is seen once: what is cached does not count."""
    scorer = phf.scorers.load("pii", detectors=detectors, spacy_model=None)
    plain = scorer.plain()
    scorer.score([WARM_UP])
    list(plain.iter_filth(WARM_UP))
    ours, theirs = [], []
    times = [0.0, 0.0]
    for start in range(0, len(texts), AT_ONCE):
        part = texts[start : start + AT_ONCE]
        times[0] += processor(lambda: ours.extend([scorer.findings(text) for text in part]))  # noqa: B023
        times[1] += processor(lambda: theirs.extend([list(plain.iter_filth(text)) for text in part]))  # noqa: B023
    equal = [
        [(each.start, each.end) for each in found] == [(each.beg, each.end) for each in expected]
        for found, expected in zip(ours, theirs)
    ]
    characters = sum(map(len, texts))
    against = f"the same detectors run plainly, {len(texts):,} texts, {characters:,} characters, {sum(map(len, theirs)):,} found"
    yield row(f"pii {detectors}: {what}", times[1] / times[0], "x", against, reach)
    yield row(f"pii {detectors}: {what}, texts with the same findings", sum(equal) / len(equal), "", against, ">= 1")
    yield row(f"pii {detectors}: {what}", characters / 1e6 / times[0], "MB/s")
