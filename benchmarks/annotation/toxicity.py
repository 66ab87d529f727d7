"""The toxicity scorer that comes with phf: how fast on one core, how large, and how well it ranks texts it was not trained on.

The plain alternative is scikit-learn's HashingVectorizer of the same n-grams and a dot product.
"""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.pipeline import make_union

import phf.scorers
from annotation import Rows, interleaved, row
from phf.reward import Predictions, measure
from phf.scorers import toxicity as shipped

ROUNDS = 5


def speed(texts: list[str]) -> Rows:
    """Processor time, the two ways in turn; the plain one on a part of the texts."""
    scorer = phf.scorers.load("toxicity")
    plain = make_union(
        HashingVectorizer(analyzer="char", ngram_range=(3, 5), n_features=2**20, alternate_sign=False),
        HashingVectorizer(analyzer="word", ngram_range=(1, 2), n_features=2**20, alternate_sign=False),
    )
    weights = np.random.default_rng(0).normal(size=2**21)
    some = texts[::20]
    size, some_size = (sum(len(text.encode()) for text in which) / 1e6 for which in (texts, some))
    scorer.score(texts)
    best = interleaved({"ours": lambda: scorer.score(texts), "plain": lambda: plain.transform(some) @ weights}, ROUNDS)
    against = f"HashingVectorizer of the same n-grams ({some_size / best['plain']:.2g} MB/s)"
    yield row("toxicity: speed", size / best["ours"], "MB/s", f"{len(texts):,} comments, one core", ">= 3")
    yield row("toxicity: speed", (size / best["ours"]) / (some_size / best["plain"]), "x", against)


def quality(texts: list[str], labels: np.ndarray, sources: np.ndarray) -> Rows:
    """AUC by source, on texts that were held out."""
    p = -phf.scorers.load("toxicity").score(texts).astype(float)
    for source in sorted(set(sources)):
        here = sources == source
        found = measure(Predictions(p[here], labels[here], np.ones(here.sum())))
        against = f"human labels of {found['texts']} texts held out, standard error {found['auc_stderr']:.4f}"
        yield row(f"toxicity: AUC, {source}", found["auc"], "", against, ">= 0.95" if source == "jigsaw" else "")


def toxicity(data: Path) -> Rows:
    """The test split of the labelled comments."""
    table = pq.read_table(data / "toxicity" / "labels.parquet", filters=[("split", "=", "test")])
    texts, sources = table.column("text").to_pylist(), np.array(table.column("source").to_pylist())
    labels = np.array(table.column("toxic").to_pylist(), float)
    yield from speed(texts)
    yield row("toxicity: size", shipped._SHIPPED.stat().st_size / 1e6, "MB", "", "<= 2")
    yield from quality(texts, labels, sources)
