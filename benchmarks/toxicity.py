"""The toxicity scorer that comes with phf: how fast on one core, how large, and how well it ranks texts it was not trained on.

python benchmarks/toxicity.py [--json] [LABELS]

LABELS: the Parquet file of labelled comments (columns text, toxic, source, split), ../shared/data/toxicity/labels.parquet if not
given. Its rows of split "test" are scored. The plain alternative is scikit-learn's HashingVectorizer and a dot product.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.pipeline import make_union

import phf.scorers
from phf.calibration import Predictions, measure
from phf.scorers import toxicity

ROOT = Path(__file__).parents[1]
LABELS = ROOT.parent / "shared" / "data" / "toxicity" / "labels.parquet"
ROUNDS = 7


def seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def speed(texts: list[str]) -> list[dict]:
    """Processor time, the two ways in turn: the median ratio, and the best of the rounds."""
    scorer = phf.scorers.load("toxicity")
    plain = make_union(
        HashingVectorizer(analyzer="char", ngram_range=(3, 5), n_features=2**20, alternate_sign=False),
        HashingVectorizer(analyzer="word", ngram_range=(1, 2), n_features=2**20, alternate_sign=False),
    )
    weights = np.random.default_rng(0).normal(size=2**21)
    some = texts[::20]
    size, some_size = (sum(len(text.encode()) for text in which) / 1e6 for which in (texts, some))
    scorer.score(texts)
    rounds = [(seconds(lambda: scorer.score(texts)), seconds(lambda: plain.transform(some) @ weights)) for _ in range(ROUNDS)]
    ratio = statistics.median((size / ours) / (some_size / theirs) for ours, theirs in rounds)
    fastest, alternative = size / min(ours for ours, _ in rounds), some_size / min(theirs for _, theirs in rounds)
    against = f"HashingVectorizer of the same n-grams ({alternative:.2g} MB/s)"
    return [
        {"measure": "speed", "value": fastest, "unit": "MB/s a core", "against": "itself", "reach": ">= 3"},
        {"measure": "speed, ratio", "value": ratio, "unit": "x", "against": against},
    ]


def quality(texts: list[str], labels: np.ndarray, sources: np.ndarray) -> list[dict]:
    """AUC by source, on texts that were held out."""
    p = -phf.scorers.load("toxicity").score(texts).astype(float)
    rows = []
    for source in sorted(set(sources)):
        here = sources == source
        found = measure(Predictions(p[here], labels[here], np.ones(here.sum())))
        against = f"human labels of {found['texts']} texts held out, standard error {found['auc_stderr']:.4f}"
        row = {"measure": f"AUC: {source}", "value": found["auc"], "unit": "", "against": against}
        rows.append(row | ({"reach": ">= 0.95"} if source == "jigsaw" else {}))
    return rows


def main(arguments: list[str]) -> None:
    paths = [Path(argument) for argument in arguments if argument != "--json"]
    path = paths[0] if paths else LABELS
    if not path.exists():
        sys.exit(f"{path}: no such file; name the Parquet file of labelled comments")
    table = pq.read_table(path, filters=[("split", "=", "test")])
    texts, sources = table.column("text").to_pylist(), np.array(table.column("source").to_pylist())
    labels = np.array(table.column("toxic").to_pylist(), float)
    megabytes = toxicity._SHIPPED.stat().st_size / 1e6
    rows = [
        *speed(texts),
        {"measure": "size", "value": megabytes, "unit": "MB", "against": "itself", "reach": "<= 2"},
        *quality(texts, labels, sources),
    ]
    for row in rows:
        line = {"benchmark": "toxicity", **row}
        print(json.dumps(line) if "--json" in arguments else f"{row['measure']:24} {row['value']:8.4g} {row['unit']}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
