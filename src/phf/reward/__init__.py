"""Reward models: train one on labels of people or of another scorer, measure it on unseen texts, write what a scorer loads."""

import hashlib
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from phf import artifacts
from phf.documents import AnnotatedCorpus
from phf.errors import InputError, require
from phf.linear_model import FILE, Linear
from phf.progress import Listener, silent
from phf.reward import annotated_labels, calibration, preferences
from phf.reward import labelled_texts as labelled
from phf.reward.calibration import Predictions
from phf.reward.finetuned_model import train_finetuned
from phf.reward.labelled_texts import Labels
from phf.reward.linear_model import telling_words, train_linear
from phf.reward.options import Kind, TrainOptions
from phf.reward.splits import folds_of, importance_of

__all__ = ["Predictions", "TrainOptions", "measure", "train"]

measure = calibration.measure
_log = logging.getLogger("phf")
_DEFAULTS = TrainOptions()
_FINETUNED = ("base", "epochs", "rate", "batch", "seed")
_OF_A_CORPUS = ("kind", "column", "threshold", "limit")


def train(labels: Path, out: Path, options: TrainOptions = _DEFAULTS, on_progress: Listener = silent) -> dict[str, Any]:
    """Train a reward model: linear, or with `options.base` a finetuned sequence classifier.

    The reward is -P(positive) for labels of what is not wanted; on the scale of the rewards for an annotated corpus; and for
    pairs whatever ranks texts as the pairs do. Labelled texts are weighted so that every source has the same share of
    positive labels: where a text is from then says nothing of it.

    Args:
        labels: a .parquet, .csv, .tsv or .jsonl file of labelled texts or of pairs, or an annotated corpus.
        out: the folder to write: a linear model for the scorer `toxicity`, or a Hugging Face model for `classifier`; with it
            metrics.json and, but for pairs, calibration.svg.
        options: what the labels are, and how to train.
        on_progress: called as models are fitted, or with steps of the finetuning.

    Returns:
        What metrics.json holds: "made_from"; "measured", by which texts ("cross-validated", or "one fold" for a finetuned
        model, and "held out") and by source, the measures of `calibration` or `preferences.agreement`; "words" that weigh
        most in a linear model of labelled texts.

    Raises:
        InputError: for labels that cannot be trained on, an `out` made from something else, or a base that cannot be loaded.
        MissingExtra: without scikit-learn or matplotlib.
    """
    require("sklearn", "toxicity", "training a reward model")
    require("matplotlib", "report", "the calibration plot")
    kind = _kind(labels, options)
    data = _read(labels, kind, options)
    made_from = _made_from(labels, kind, options, data)
    if (out / "metrics.json").exists():
        metrics = artifacts.read_object(out / "metrics.json", "made_from")
        artifacts.check_unchanged(out, metrics["made_from"], made_from)
        _log.info("%s: finished already, left alone", out)
        return metrics
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists, and is not a reward model; choose another output folder")
    if isinstance(data, Labels):
        return _train_on_labels(data, made_from, out, options, on_progress)
    with artifacts.whole_directory(out) as folder:
        measured = preferences.train_on_pairs(data, folder, options, on_progress)
        metrics = {"made_from": made_from, "measured": measured}
        artifacts.write_json(folder / "metrics.json", metrics)
    return metrics


def _train_on_labels(
    data: Labels, made_from: dict[str, Any], out: Path, options: TrainOptions, on_progress: Listener
) -> dict[str, Any]:
    fold_of, importance = folds_of(data, options.folds), importance_of(data)
    with artifacts.whole_directory(out) as folder:
        metrics: dict[str, Any] = {"made_from": made_from}
        if options.base is None:
            curves = train_linear(data, importance, fold_of, folder, on_progress)
            texts = [text for text, trains in zip(data.texts, data.trains, strict=True) if trains]
            metrics["words"] = telling_words(Linear.load(folder / FILE), texts)
        else:
            curves = train_finetuned(data, importance, fold_of, folder, options, on_progress)
        predictions = {
            name: Predictions(probabilities, data.labels[rows], importance[rows])
            for name, (rows, probabilities) in curves.items()
        }
        metrics["measured"] = {name: _by_source(data, curves[name][0], predictions[name]) for name in curves}
        calibration.plot(predictions, folder / "calibration.svg")
        artifacts.write_json(folder / "metrics.json", metrics)
    return metrics


def _kind(labels: Path, options: TrainOptions) -> Kind:
    annotated = annotated_labels.is_annotated(labels)
    if options.kind == "regression" and not annotated:
        raise InputError(f"{labels}: no annotated corpus, whose rewards a regression needs; `phf annotate` writes one")
    if options.kind != "auto":
        return options.kind
    if annotated:
        return "regression"
    named = set(labelled.column_names(labels))
    return "pairs" if set(preferences.COLUMNS) <= named else "classification"


def _read(labels: Path, kind: Kind, options: TrainOptions) -> Labels | preferences.Pairs:
    if kind == "pairs":
        return preferences.read(labels, options.split)
    if annotated_labels.is_annotated(labels):
        classes = kind == "classification"
        return annotated_labels.read(labels, options.column, options.threshold, classes, options.limit)
    return labelled.read(labels, options.text, options.label, options.source, options.split)


def _made_from(labels: Path, kind: Kind, options: TrainOptions, data: Labels | preferences.Pairs) -> dict[str, Any]:
    fields = asdict(options)
    finetuned = None if options.base is None else {name: fields[name] for name in _FINETUNED}
    made_from: dict[str, Any] = {"folds": options.folds, "finetuned": finetuned}
    if labels.is_dir():
        corpus = {"corpus": artifacts.fingerprint(AnnotatedCorpus(labels).identity)}
        return made_from | corpus | {name: fields[name] for name in _OF_A_CORPUS} | {"kind": kind}
    made_from["labels"] = hashlib.blake2b(labels.read_bytes(), digest_size=16).hexdigest()
    return made_from | ({"columns": data.columns} if isinstance(data, Labels) else {"kind": kind})


def _by_source(data: Labels, rows: np.ndarray, predictions: Predictions) -> dict[str, Any]:
    """Measure all predictions together, and those of each source."""
    if data.scale is not None:
        return {"all": calibration.measure_regression(predictions, data.scale)}
    measured = {"all": calibration.measure(predictions)}
    if data.sources is not None:
        here = data.sources[rows]
        measured.update({str(source): calibration.measure(predictions.of(here == source)) for source in np.unique(here)})
    return measured
