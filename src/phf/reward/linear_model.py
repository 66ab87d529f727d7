"""A linear reward model: cross-validated, calibrated on what it has not seen, and fitted to everything in the end."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from phf.linear_model import FILE, Features, Linear, fold, sigmoid
from phf.progress import Listener, Progress
from phf.reward import fit_linear
from phf.reward.labelled_texts import Labels

STRENGTH = 5.0
"""Of the fit, chosen by cross-validation on comments, tweets and posts labelled toxic or not."""
_WORDS = 40  # listed of each kind
_FREQUENT = 20  # texts a listed word is in

Curves: TypeAlias = dict[str, tuple[np.ndarray, np.ndarray]]
"""By what was measured: the texts, as rows of the labels, and their probabilities."""


def train_linear(data: Labels, importance: np.ndarray, fold_of: np.ndarray, folder: Path, on_progress: Listener) -> Curves:
    """Fit a model without each fold, calibrate it on the scores of what it has not seen, and fit one to all; write that one."""
    features = Features()
    rows = np.flatnonzero(data.trains)
    counts, owner = fit_linear.matrix(features, [data.texts[row] for row in rows])
    labels, weight = data.labels[rows], importance[rows]
    weight_of_piece = (weight / np.maximum(np.bincount(owner, minlength=len(rows)), 1))[owner]
    folds = int(fold_of.max()) + 1

    def fit(pieces: np.ndarray) -> tuple[np.ndarray, float]:
        return fit_linear.fit(counts[pieces], labels[owner[pieces]], weight_of_piece[pieces], STRENGTH)

    scores = np.full(len(rows), -np.inf)
    for number in range(folds):
        on_progress(Progress("reward train", number, folds + 1, "models"))
        unseen = fold_of[rows[owner]] == number
        weights, bias = fit(np.flatnonzero(~unseen))
        np.maximum.at(scores, owner[unseen], counts[unseen] @ weights + bias)
    on_progress(Progress("reward train", folds, folds + 1, "models"))
    weights, bias = fit(np.arange(len(owner)))
    finite = np.isfinite(scores)
    curve = fit_linear.calibrate(scores[finite], labels[finite], weight[finite])
    model = Linear.quantised(features, weights, bias, curve, float(np.average(labels, weights=weight)), data.scale)
    model.save(folder / FILE)
    curves = {"cross-validated": (rows, sigmoid(curve(scores)))}
    held_out = np.flatnonzero(~data.trains)
    if len(held_out):
        curves["held out"] = (held_out, sigmoid(model.log_odds([data.texts[row] for row in held_out])))
    on_progress(Progress("reward train", folds + 1, folds + 1, "models"))
    return curves


def telling_words(model: Linear, texts: Sequence[str]) -> dict[str, list[tuple[str, float]]]:
    """List the words that move a text of that one word furthest either way, each with the log-odds it has then."""
    known: Counter[str] = Counter()
    for text in texts:
        known.update(set(re.findall(r"[^\W\d_][\w']+", fold(text).decode("utf-8", "ignore"))))
    frequent = sorted(word for word, count in known.items() if count >= _FREQUENT)
    log_odds = model.log_odds(frequent)
    order = np.argsort(log_odds, kind="stable")
    listed = [(frequent[number], round(float(log_odds[number]), 3)) for number in order]
    return {"positive": listed[::-1][:_WORDS], "negative": listed[:_WORDS]}
