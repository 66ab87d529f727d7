"""Fit the linear model of `linear.py` to labelled texts.

Logistic regression with a squared-norm penalty, with less penalty on n-grams that tell the two kinds of text apart: each is
scaled by the size of its log ratio of positive to negative counts (Wang and Manning 2012, "Baselines and bigrams"):

    r = log((1 + positive count) / sum of these) - log((1 + negative count) / sum of these)
    minimise over v   sum of losses + |v|^2 / (2 strength),    weights = |r| v

P pieces, N texts
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from phf.errors import require
from phf.linear_model import Curve, Features, batches

_ITERATIONS = 30


def matrix(features: Features, texts: Sequence[str]) -> tuple[Any, np.ndarray]:
    """Count the n-grams of the pieces of texts.

    Returns:
        a sparse (P, buckets) float32 matrix of counts / sqrt(count of all), and (P,) int64, the text of each piece.
    """
    sparse = require("scipy.sparse", "toxicity", "training a linear reward model")
    blocks, texts_of = [], []
    for rows, pieces in batches(texts):
        kinds = list(features.of(pieces))
        buckets = np.concatenate([kind for kind, _ in kinds])
        owners = np.concatenate([np.repeat(np.arange(len(pieces)), np.diff(bounds)) for _, bounds in kinds])
        sizes = 1 / np.sqrt(np.bincount(owners, minlength=len(pieces)))
        shape = (len(pieces), features.buckets)
        blocks.append(sparse.csr_matrix((sizes[owners].astype(np.float32), (owners, buckets)), shape))
        texts_of.append(np.array(rows))
    if not blocks:
        return sparse.csr_matrix((0, features.buckets), dtype=np.float32), np.zeros(0, np.int64)
    return sparse.vstack(blocks, format="csr"), np.concatenate(texts_of)


def fit(counts: Any, labels: np.ndarray, importance: np.ndarray, strength: float) -> tuple[np.ndarray, float]:
    """Fit weights and bias.

    Args:
        counts: sparse (P, buckets), of `matrix`.
        labels: (P,) the probability that each piece is positive.
        importance: (P,) how much each counts in the loss.
        strength: inverse of the penalty.

    Returns:
        (buckets,) float64 weights, 0 for buckets without an n-gram, and the bias.
    """
    sparse = require("scipy.sparse", "toxicity", "training a linear reward model")
    buckets = counts.shape[1]
    seen = np.unique(counts.indices)
    counts = counts[:, seen]
    ratio = _log_count_ratio(counts, labels, importance)
    model = _logistic(counts @ sparse.diags(ratio.astype(np.float32), format="csr"), labels, importance, strength)
    weights = np.zeros(buckets)
    weights[seen] = ratio * model.coef_[0]
    return weights, float(model.intercept_[0])


def mean_by_owner(counts: Any, owner: np.ndarray, texts: int) -> Any:
    """Return the mean of the pieces of each text, sparse (N, buckets)."""
    sparse = require("scipy.sparse", "toxicity", "training a linear reward model")
    share = 1 / np.maximum(np.bincount(owner, minlength=texts), 1)
    mixing = sparse.csr_matrix((share[owner], (owner, np.arange(len(owner)))), (texts, len(owner)))
    return (mixing @ counts).tocsr()


def fit_pairs(means: Any, rows: np.ndarray, strength: float) -> np.ndarray:
    """Fit weights by which rejected texts score higher than chosen ones: logistic regression on the differences.

    Args:
        means: sparse (2N, buckets), of `mean_by_owner`: N chosen texts, then N rejected ones.
        rows: of the pairs to fit to.
        strength: inverse of the penalty.

    Returns:
        (buckets,) float64 weights.
    """
    sparse = require("scipy.sparse", "toxicity", "training a linear reward model")
    chosen, rejected = means[rows], means[rows + means.shape[0] // 2]
    both = sparse.vstack([chosen, rejected], format="csr")
    seen = np.unique(both.indices)
    ratio = _log_count_ratio(both[:, seen], np.repeat([0.0, 1.0], len(rows)), np.ones(2 * len(rows)))
    scaled = (rejected - chosen)[:, seen] @ sparse.diags(ratio.astype(np.float32), format="csr")
    labels = np.repeat([1.0, 0.0], len(rows))  # each difference both ways, so that there is nothing to shift
    model = _logistic(sparse.vstack([scaled, -scaled], format="csr"), labels, np.full(2 * len(rows), 0.5), strength, shift=False)
    weights = np.zeros(means.shape[1])
    weights[seen] = ratio * model.coef_[0]
    return weights


def _log_count_ratio(counts: Any, labels: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """Return the size of each n-gram's log ratio of positive to negative counts: (buckets,)."""
    here = counts.astype(bool).astype(np.float32)
    positive, negative = 1 + here.T @ (importance * labels), 1 + here.T @ (importance * (1 - labels))
    ratio: np.ndarray = np.abs(np.log(positive / positive.sum()) - np.log(negative / negative.sum()))
    return ratio


def calibrate(scores: np.ndarray, labels: np.ndarray, importance: np.ndarray) -> Curve:
    """Fit the curve that makes log-odds of the scores of texts a model was not fitted to, all (N,).

    By least cross-entropy; labels count as a little less than certain, as Platt (1999) does, so that the curve has an end.
    """
    optimize = require("scipy.optimize", "toxicity", "training a linear reward model")
    positive, negative = importance @ labels, importance @ (1 - labels)
    targets = labels * (positive + 1) / (positive + 2) + (1 - labels) / (negative + 2)
    centre, spread = float(np.average(scores, weights=importance)), float(scores.std()) or 1.0

    def curve_of(parameters: np.ndarray) -> Curve:
        shift, scale, offset, width = (float(value) for value in parameters)
        return Curve(shift, np.exp(scale), centre + spread * offset, spread * np.exp(width))

    def loss(parameters: np.ndarray) -> float:
        log_odds = curve_of(parameters)(scores)
        losses = targets * np.logaddexp(0, -log_odds) + (1 - targets) * np.logaddexp(0, log_odds)
        return float(np.average(losses, weights=importance))

    return curve_of(optimize.minimize(loss, np.zeros(4), method="L-BFGS-B", bounds=[(-20, 20)] * 4).x)


def _logistic(inputs: Any, labels: np.ndarray, importance: np.ndarray, strength: float, shift: bool = True) -> Any:
    """Fit scikit-learn's logistic regression to labels that may be probabilities: such a row counts as one of each kind."""
    linear_model = require("sklearn.linear_model", "toxicity", "training a linear reward model")
    exceptions = require("sklearn.exceptions", "toxicity", "training a linear reward model")
    both = np.flatnonzero((labels > 0) & (labels < 1))
    kinds = np.concatenate([labels > 0, np.zeros(len(both), bool)])
    shares = np.concatenate([np.where(labels > 0, labels, 1), 1 - labels[both]])
    rows = np.concatenate([np.arange(len(labels)), both])
    model = linear_model.LogisticRegression(
        C=strength, fit_intercept=shift, solver="liblinear", dual=True, tol=1e-3, max_iter=_ITERATIONS, random_state=0
    )
    with warnings.catch_warnings():  # a last step that is not the smallest possible changes nothing that matters
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        return model.fit(inputs[rows] if len(both) else inputs, kinds, importance[rows] * shares)
