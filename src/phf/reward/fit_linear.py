"""Fit the linear model of `linear.py` to labelled texts.

Logistic regression with a squared-norm penalty, in which the n-grams that tell the two kinds of text apart are given room: each
is scaled by the size of its log ratio of positive to negative counts (Wang and Manning 2012, "Baselines and bigrams"):

    r = log((1 + positive count) / sum of these) - log((1 + negative count) / sum of these)
    minimise over v   sum of losses + |v|^2 / (2 strength),    weights = |r| v

P pieces, N texts
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from phf.errors import require
from phf.scorers.linear import Curve, Features, batches

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
    here = counts.astype(bool).astype(np.float32)
    positive, negative = 1 + here.T @ (importance * labels), 1 + here.T @ (importance * (1 - labels))
    del here
    ratio = np.abs(np.log(positive / positive.sum()) - np.log(negative / negative.sum()))
    model = _logistic(counts @ sparse.diags(ratio.astype(np.float32), format="csr"), labels, importance, strength)
    weights = np.zeros(buckets)
    weights[seen] = ratio * model.coef_[0]
    return weights, float(model.intercept_[0])


def calibrate(scores: np.ndarray, labels: np.ndarray, importance: np.ndarray) -> Curve:
    """Fit the curve that makes log-odds of the scores of texts a model was not fitted to, all (N,).

    By least cross-entropy; labels count as a little less than certain, as Platt (1999) does, so that the curve has an end.
    """
    optimize = require("scipy.optimize", "toxicity", "training a linear reward model")
    positive, negative = importance @ labels, importance @ (1 - labels)
    targets = labels * (positive + 1) / (positive + 2) + (1 - labels) / (negative + 2)
    centre, spread = float(np.average(scores, weights=importance)), float(scores.std()) or 1.0

    def curve_of(parameters: np.ndarray) -> Curve:
        shift, scale, place, width = (float(value) for value in parameters)
        return Curve(shift, np.exp(scale), centre + spread * place, spread * np.exp(width))

    def loss(parameters: np.ndarray) -> float:
        log_odds = curve_of(parameters)(scores)
        losses = targets * np.logaddexp(0, -log_odds) + (1 - targets) * np.logaddexp(0, log_odds)
        return float(np.average(losses, weights=importance))

    return curve_of(optimize.minimize(loss, np.zeros(4), method="L-BFGS-B", bounds=[(-20, 20)] * 4).x)


def _logistic(inputs: Any, labels: np.ndarray, importance: np.ndarray, strength: float) -> Any:
    """Fit scikit-learn's logistic regression to labels that may be probabilities: such a row counts as one of each kind."""
    linear_model = require("sklearn.linear_model", "toxicity", "training a linear reward model")
    exceptions = require("sklearn.exceptions", "toxicity", "training a linear reward model")
    both = np.flatnonzero((labels > 0) & (labels < 1))
    kinds = np.concatenate([labels > 0, np.zeros(len(both), bool)])
    shares = np.concatenate([np.where(labels > 0, labels, 1), 1 - labels[both]])
    rows = np.concatenate([np.arange(len(labels)), both])
    model = linear_model.LogisticRegression(
        C=strength, solver="liblinear", dual=True, tol=1e-3, max_iter=_ITERATIONS, random_state=0
    )
    with warnings.catch_warnings():  # a last step that is not the smallest possible changes nothing that matters
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        return model.fit(inputs[rows] if len(both) else inputs, kinds, importance[rows] * shares)
