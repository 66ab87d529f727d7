"""Preference pairs: a chosen and a rejected text, and a model whose rewards agree with the choices (Bradley and Terry 1952)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phf import statistics
from phf.documents import content_id
from phf.errors import InputError, require
from phf.linear_model import FILE, Curve, Features, Linear
from phf.progress import Listener, Progress
from phf.reward import fit_linear
from phf.reward.fit_classifier import Examples, finetune
from phf.reward.labelled_texts import read_table, text_values
from phf.reward.linear_model import STRENGTH
from phf.reward.options import TrainOptions
from phf.reward.splits import check_folds
from phf.scorers.classifier import Classifier

COLUMNS = ("chosen", "rejected")
_BINS = 10
_PAIRS_IN_A_BIN = 30  # at least


@dataclass(frozen=True)
class Pairs:
    """Preference pairs.

    Args:
        chosen, rejected: (N,)
        trains: (N,) bool, False for what is only measured on.
    """

    chosen: list[str]
    rejected: list[str]
    trains: np.ndarray


def read(path: Path, split: str | None) -> Pairs:
    """Read pairs from a .parquet, .csv, .tsv or .jsonl file with columns `chosen` and `rejected`.

    Args:
        path: the file.
        split: the column that says "train" of what may be trained on; if not given, one called split.

    Raises:
        InputError: for a file that cannot be read, a missing column, a null or a value that is no text, or too few pairs.
    """
    table = read_table(path, *COLUMNS)
    chosen, rejected = (text_values(path, table, column) for column in COLUMNS)
    column = split or ("split" if "split" in table.column_names else None)
    trains = np.array([value == "train" for value in table.column(column).to_pylist()]) if column else np.ones(len(chosen), bool)
    if trains.sum() < 10:
        raise InputError(f"{path}: {int(trains.sum())} pairs to train on; expected some hundreds")
    return Pairs(chosen, rejected, trains)


def train_on_pairs(pairs: Pairs, folder: Path, options: TrainOptions, on_progress: Listener) -> dict[str, Any]:
    """Train a model on pairs, and measure how often, and how surely, it agrees with pairs that it has not seen.

    Returns:
        By which pairs were measured ("cross-validated" or "one fold", and "held out"), see `agreement`.
    """
    check_folds(options.folds)
    fold_of = np.full(len(pairs.chosen), -1)
    rows = np.flatnonzero(pairs.trains)
    order = sorted(rows, key=lambda row: content_id(f"{pairs.chosen[row]}\0{pairs.rejected[row]}"))
    fold_of[order] = np.arange(len(order)) % options.folds
    if options.base is None:
        margins = _linear(pairs, fold_of, folder, on_progress)
    else:
        margins = _finetuned(pairs, fold_of, folder, options, on_progress)
    return {name: {"all": agreement(values)} for name, values in margins.items() if len(values)}


def agreement(margins: np.ndarray) -> dict[str, float | int]:
    """Measure the margins by which chosen texts beat rejected ones, in log-odds.

    Returns:
        pairs: how many; agreement: the share with a margin above 0 (half of those at 0), with its 95% Wilson interval;
        log_loss: mean -log P(chosen is better); calibration_error: mean over at most 10 bins of equally many pairs of
        |mean probability of the text that the model prefers - share in which it was chosen|.
    """
    agrees = (margins > 0) + 0.5 * (margins == 0)
    share = statistics.share(float(agrees.sum()), len(margins))
    sure = 1 / (1 + np.exp(-np.abs(margins)))
    bins = np.array_split(np.argsort(sure, kind="stable"), min(_BINS, max(1, len(margins) // _PAIRS_IN_A_BIN)))
    errors = [abs(sure[group].mean() - agrees[group].mean()) * len(group) for group in bins]
    return {
        "pairs": len(margins),
        "agreement": share.value,
        "agreement_low": share.low,
        "agreement_high": share.high,
        "log_loss": float(np.logaddexp(0, -margins).mean()),
        "calibration_error": float(sum(errors) / len(margins)),
    }


def _linear(pairs: Pairs, fold_of: np.ndarray, folder: Path, on_progress: Listener) -> dict[str, np.ndarray]:
    features = Features()
    count = len(pairs.chosen)
    texts, owner = fit_linear.matrix(features, [*pairs.chosen, *pairs.rejected])
    means = fit_linear.mean_by_owner(texts, owner, 2 * count)
    folds = int(fold_of.max()) + 1
    margins = np.zeros(count)
    for number in range(folds):
        on_progress(Progress("reward train", number, folds + 1, "models"))
        unseen = np.flatnonzero(fold_of == number)
        weights = fit_linear.fit_pairs(means, np.flatnonzero((fold_of >= 0) & (fold_of != number)), STRENGTH)
        margins[unseen] = (means[unseen + count] - means[unseen]) @ weights
    seen = fold_of >= 0
    scale = _calibrated(margins[seen])
    margins *= scale
    weights = scale * fit_linear.fit_pairs(means, np.flatnonzero(seen), STRENGTH)
    bias = -float((means @ weights).mean())  # so that a usual text is in the middle
    model = Linear.quantised(features, weights, bias, Curve(), 0.5)
    model.save(folder / FILE)
    on_progress(Progress("reward train", folds + 1, folds + 1, "models"))
    held_out = np.flatnonzero(fold_of < 0)
    chosen, rejected = ([side[row] for row in held_out] for side in (pairs.chosen, pairs.rejected))
    # A model's log-odds are those of a text that nobody wants.
    return {"cross-validated": margins[seen], "held out": model.log_odds(rejected) - model.log_odds(chosen)}


def _calibrated(margins: np.ndarray) -> float:
    """Return the factor by which margins of pairs that a model has not seen are log-odds: that of least log loss."""
    optimize = require("scipy.optimize", "toxicity", "training a linear reward model")

    def loss(size: float) -> float:
        return float(np.logaddexp(0, -np.exp(size) * margins).mean())

    return float(np.exp(optimize.minimize_scalar(loss, bounds=(-6, 6), method="bounded").x))


def _finetuned(
    pairs: Pairs, fold_of: np.ndarray, folder: Path, options: TrainOptions, on_progress: Listener
) -> dict[str, np.ndarray]:
    rows = np.flatnonzero(fold_of > 0)
    texts = [(pairs.chosen[row], pairs.rejected[row]) for row in rows]
    finetune(Examples("pairs", texts, np.zeros(len(rows)), np.ones(len(rows))), options, folder, on_progress)
    scorer = Classifier(model=str(folder))
    margins = {}
    for name, unseen in (("one fold", np.flatnonzero(fold_of == 0)), ("held out", np.flatnonzero(fold_of < 0))):
        chosen, rejected = (scorer.score([side[row] for row in unseen]) for side in (pairs.chosen, pairs.rejected))
        known = np.isfinite(chosen) & np.isfinite(rejected)
        margins[name] = (chosen - rejected)[known].astype(np.float64)
    return margins
