"""Train a reward model on texts that people labelled, measure it on texts it has not seen, write a folder that a scorer loads."""

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from phf import artifacts
from phf.documents import content_id
from phf.errors import InputError, require
from phf.progress import Listener, Progress, silent
from phf.reward import calibration, fit_linear
from phf.reward import labelled_texts as labelled
from phf.reward.calibration import Predictions
from phf.reward.fit_classifier import finetune
from phf.reward.labelled_texts import Labels
from phf.scorers.classifier import Classifier
from phf.scorers.linear import FILE, Features, Linear, fold, sigmoid

_log = logging.getLogger("phf")
_STRENGTH = 5.0  # of the linear fit, chosen by cross-validation on comments, tweets and posts labelled toxic or not
_WORDS = 40  # listed of each kind
_FREQUENT = 20  # texts a listed word is in

Curves: TypeAlias = dict[str, tuple[np.ndarray, np.ndarray]]
"""By what was measured: the texts, as rows of the labels, and their probabilities."""


def train(
    labels: Path,
    out: Path,
    *,
    text: str = "text",
    label: str = "toxic",
    source: str | None = None,
    split: str | None = None,
    base: str | None = None,
    folds: int = 5,
    epochs: int = 2,
    rate: float = 2e-5,
    batch: int = 32,
    seed: int = 0,
    progress: Listener = silent,
) -> dict[str, Any]:
    """Train a reward model: linear, or with `base` a finetuned sequence classifier. Reward = -P(positive).

    Texts are weighted so that every source has the same share of positive labels: where a text is from then says nothing of it.

    Args:
        labels: a .parquet, .csv, .tsv or .jsonl file of labelled texts.
        out: the folder to write: a linear model for the scorer `toxicity`, or a Hugging Face model for `classifier`; with it
            metrics.json and calibration.svg.
        text, label, source, split: columns of `labels`; see `phf.reward.labelled_texts.read`.
        base: a Hugging Face model to finetune, by folder or hub name.
        folds: a linear model is trained without each of so many equal parts of the texts, to be measured on that part, and then
            on all of them. A classifier is finetuned once, without one such part.
        epochs, rate, batch, seed: of the finetuning: times each text is seen, learning rate, texts a step.
        progress: told of models fitted, or of steps of the finetuning.

    Returns:
        What metrics.json holds: "made_from"; "measured", by which texts ("cross-validated", or "one fold" for a classifier, and
        "held out" by the split column) and by source, the measures of `calibration.measure`; "words" that weigh most.

    Raises:
        InputError: for labels that cannot be trained on, an `out` made from something else, or a `base` that cannot be loaded.
        MissingExtra: without scikit-learn or matplotlib.
    """
    require("sklearn", "toxicity", "training a reward model")
    require("matplotlib", "report", "the calibration plot")
    data = labelled.read(labels, text, label, source, split)
    fold_of = _folds(data, folds)
    made_from = {
        "labels": hashlib.blake2b(labels.read_bytes(), digest_size=16).hexdigest(),
        "columns": data.columns,
        "folds": folds,
        "finetuned": None if base is None else {"base": base, "epochs": epochs, "rate": rate, "batch": batch, "seed": seed},
    }
    if (out / "metrics.json").exists():
        metrics: dict[str, Any] = artifacts.read_json(out / "metrics.json")
        artifacts.check_unchanged(out, metrics["made_from"], made_from)
        _log.info("%s: finished already, left alone", out)
        return metrics
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists, and is not a reward model; choose another output folder")
    importance = _importance(data)
    with artifacts.whole_directory(out) as folder:
        metrics = {"made_from": made_from}
        if base is None:
            curves, metrics["words"] = _train_linear(data, importance, fold_of, folder, progress)
        else:
            options = {"label": label, "epochs": epochs, "rate": rate, "batch": batch, "seed": seed}
            curves = _train_classifier(base, data, importance, fold_of, folder, options, progress)
        predictions = {
            name: Predictions(probabilities, data.labels[rows], importance[rows])
            for name, (rows, probabilities) in curves.items()
        }
        metrics["measured"] = {name: _by_source(data, curves[name][0], predictions[name]) for name in curves}
        calibration.draw(predictions, folder / "calibration.svg")
        artifacts.write_json(folder / "metrics.json", metrics)
    return metrics


def _train_linear(
    data: Labels, importance: np.ndarray, fold_of: np.ndarray, folder: Path, progress: Listener
) -> tuple[Curves, dict[str, list[tuple[str, float]]]]:
    """Fit a model without each fold, calibrate on what each says of the texts it has not seen, and fit one to all."""
    features = Features()
    rows = np.flatnonzero(data.trains)
    counts, owner = fit_linear.matrix(features, [data.texts[row] for row in rows])
    labels, weight = data.labels[rows], importance[rows]
    weight_of_piece = (weight / np.maximum(np.bincount(owner, minlength=len(rows)), 1))[owner]
    folds = int(fold_of.max()) + 1

    def fit(which: np.ndarray) -> tuple[np.ndarray, float]:
        return fit_linear.fit(counts[which], labels[owner[which]], weight_of_piece[which], _STRENGTH)

    scores = np.full(len(rows), -np.inf)
    for number in range(folds):
        progress(Progress("reward train", number, folds + 1, "models"))
        unseen = fold_of[rows[owner]] == number
        weights, bias = fit(np.flatnonzero(~unseen))
        np.maximum.at(scores, owner[unseen], counts[unseen] @ weights + bias)
    progress(Progress("reward train", folds, folds + 1, "models"))
    weights, bias = fit(np.arange(len(owner)))
    some = np.isfinite(scores)
    curve = fit_linear.calibrate(scores[some], labels[some], weight[some])
    model = Linear.quantised(features, weights, bias, curve, share=float(np.average(labels, weights=weight)))
    model.save(folder / FILE)
    curves = {"cross-validated": (rows, sigmoid(curve(scores)))}
    others = np.flatnonzero(~data.trains)
    if len(others):
        curves["held out"] = (others, sigmoid(model.log_odds([data.texts[row] for row in others])))
    progress(Progress("reward train", folds + 1, folds + 1, "models"))
    return curves, _words(model, [data.texts[row] for row in rows])


def _train_classifier(
    base: str,
    data: Labels,
    importance: np.ndarray,
    fold_of: np.ndarray,
    folder: Path,
    options: dict[str, Any],
    progress: Listener,
) -> Curves:
    """Finetune a classifier to all folds but one, and ask it about that one."""

    def step_done(step: int, steps: int, loss: float) -> None:
        progress(Progress("reward train", step, steps, "steps", {"loss": loss}))

    rows = np.array([row for row in np.flatnonzero(fold_of > 0) if data.texts[row].strip()])
    texts = [data.texts[row] for row in rows]
    finetune(base, folder, texts, data.labels[rows], importance[rows], step_done=step_done, **options)
    scorer = Classifier(model=str(folder), label=options["label"])
    curves = {}
    for name, which in (("one fold", fold_of == 0), ("held out", ~data.trains)):
        unseen = np.flatnonzero(which)
        if len(unseen):
            rewards = scorer.score([data.texts[row] for row in unseen])
            scored = np.isfinite(rewards)
            curves[name] = (unseen[scored], -rewards[scored])
    return curves


def _folds(data: Labels, folds: int) -> np.ndarray:
    """Deal the texts to train on out into folds of equal shares of positives: (N,) int, -1 for the others.

    The order is that of a hash of the text, so equal texts share a fold, whatever the order of the file. White space alone,
    which says nothing, goes to the first.
    """
    if folds < 2:
        raise InputError(f"folds: expected at least 2, found {folds}")
    fold_of = np.full(len(data.texts), -1)
    rows = np.flatnonzero(data.trains)
    kinds: dict[str, bool] = {}
    names = {row: content_id(data.texts[row]) for row in rows if data.texts[row].replace("\0", " ").strip()}
    for row, name in names.items():
        kinds.setdefault(name, bool(data.labels[row] >= 0.5))
    place = {}
    for kind in (True, False):
        same = sorted(name for name, is_kind in kinds.items() if is_kind is kind)
        if len(same) < folds:
            raise InputError(
                f"{len(same)} different {'positive' if kind else 'negative'} texts to train on; expected at least one for each "
                f"of {folds} folds: add labels or ask for fewer folds"
            )
        place.update({name: number % folds for number, name in enumerate(same)})
    fold_of[rows] = [place[names[row]] if row in names else 0 for row in rows]
    return fold_of


def _importance(data: Labels) -> np.ndarray:
    """Weigh texts so that every source has the share of positives of all texts to train on: (N,)."""
    importance = np.ones(len(data.texts))
    if data.sources is None:
        return importance
    share = data.labels[data.trains].mean()
    for trains in (True, False):
        for source in np.unique(data.sources):
            here = (data.sources == source) & (data.trains == trains)
            of_source = data.labels[here].mean() if here.any() else 0.0
            if 0 < of_source < 1:
                positive, negative = share / of_source, (1 - share) / (1 - of_source)
                importance[here] = data.labels[here] * positive + (1 - data.labels[here]) * negative
    return importance


def _by_source(data: Labels, rows: np.ndarray, predictions: Predictions) -> dict[str, Any]:
    """Measure all predictions together, and those of each source."""
    measured = {"all": calibration.measure(predictions)}
    if data.sources is not None:
        here = data.sources[rows]
        measured.update({str(source): calibration.measure(predictions.of(here == source)) for source in np.unique(here)})
    return measured


def _words(model: Linear, texts: Sequence[str]) -> dict[str, list[tuple[str, float]]]:
    """List the words that move a text of that one word furthest either way, each with the log-odds it has then."""
    known: Counter[str] = Counter()
    for text in texts:
        known.update(set(re.findall(r"[^\W\d_][\w']+", fold(text).decode("utf-8", "ignore"))))
    frequent = sorted(word for word, count in known.items() if count >= _FREQUENT)
    log_odds = model.log_odds(frequent)
    order = np.argsort(log_odds, kind="stable")
    listed = [(frequent[place], round(float(log_odds[place]), 3)) for place in order]
    return {"positive": listed[::-1][:_WORDS], "negative": listed[:_WORDS]}
