"""How well predictions rank texts, and whether they mean what they say: measures and a plot.

N texts; importance is how much each counts
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phf import statistics
from phf.errors import require

_BINS = 15


@dataclass(frozen=True)
class Predictions:
    """Predictions beside labels.

    Args:
        probabilities: (N,) that a text is positive; for a regression, predicted labels.
        labels: (N,) of people or another scorer; 0 or 1, or between.
        importance: (N,)
    """

    probabilities: np.ndarray
    labels: np.ndarray
    importance: np.ndarray

    def of(self, which: np.ndarray) -> "Predictions":
        """Return those of some texts, (N,) bool."""
        return Predictions(self.probabilities[which], self.labels[which], self.importance[which])


def measure(predictions: Predictions) -> dict[str, float | int | None]:
    """Measure probabilities against labels.

    Returns:
        texts: how many; positive: their weighted share that is positive (a label of at least 0.5);
        auc: the probability that a positive text gets more than a negative one; auc_stderr: its standard error (Hanley and
        McNeil 1982, "The meaning and use of the area under a ROC curve");
        average_precision: mean precision over the positive texts;
        brier: mean squared difference of probability and label;
        calibration_error: mean over 15 bins of equally many texts of |mean probability - mean label|.
        None where the texts are all of one kind.
    """
    metrics = require("sklearn.metrics", "toxicity", "measuring a reward model")
    p, y, w = predictions.probabilities, predictions.labels, predictions.importance
    truth = y >= 0.5
    both = bool(truth.any() and not truth.all())
    auc = float(metrics.roc_auc_score(truth, p, sample_weight=w)) if both else None
    bins = reliability(predictions)
    return {
        "texts": len(p),
        "positive": float(np.average(truth, weights=w)),
        "auc": auc,
        "auc_stderr": _auc_stderr(auc, int(truth.sum()), int((~truth).sum())) if auc is not None else None,
        "average_precision": float(metrics.average_precision_score(truth, p, sample_weight=w)) if both else None,
        "brier": float(np.average((p - y) ** 2, weights=w)),
        "calibration_error": float(np.average(np.abs(bins[:, 0] - bins[:, 1]), weights=bins[:, 2])),
    }


def measure_regression(predictions: Predictions, scale: tuple[float, float]) -> dict[str, float | int | None]:
    """Measure predicted rewards against rewards.

    Args:
        predictions: labels of 1 stand for the lowest reward, of 0 for the highest.
        scale: these two rewards.

    Returns:
        texts: how many; correlation (Pearson's) and rank_correlation (Spearman's), None where all rewards or predictions are
        the same; rmse: root of the mean squared difference of rewards; calibration_error: mean over 15 bins of equally many
        texts of |mean prediction - mean reward|.
    """
    stats = require("scipy.stats", "toxicity", "measuring a reward model")
    p, y = predictions.probabilities, predictions.labels
    varied = len(p) > 1 and np.ptp(p) > 0 and np.ptp(y) > 0
    bins = reliability(predictions)
    size = scale[1] - scale[0]
    return {
        "texts": len(p),
        "correlation": float(np.corrcoef(p, y)[0, 1]) if varied else None,
        "rank_correlation": float(stats.spearmanr(p, y).statistic) if varied else None,
        "rmse": float(np.sqrt(np.mean((p - y) ** 2)) * size),
        "calibration_error": float(np.average(np.abs(bins[:, 0] - bins[:, 1]), weights=bins[:, 2]) * size),
    }


def reliability(predictions: Predictions) -> np.ndarray:
    """Group texts by probability into bins of equally many.

    Returns:
        (bins, 4): mean probability, mean label, total importance, number of texts.
    """
    order = np.argsort(predictions.probabilities, kind="stable")
    rows = []
    for group in np.array_split(order, min(_BINS, len(order))):
        p, y, w = predictions.probabilities[group], predictions.labels[group], predictions.importance[group]
        rows.append([np.average(p, weights=w), np.average(y, weights=w), w.sum(), len(group)])
    return np.array(rows)


def plot(curves: Mapping[str, Predictions], path: Path) -> None:
    """Plot for each set of predictions the share of positive texts against the probability, with 95% intervals, as SVG."""
    matplotlib = require("matplotlib", "report", "the calibration plot")
    figures = require("matplotlib.figure", "report", "the calibration plot")
    with matplotlib.rc_context({"svg.hashsalt": "phf", "svg.fonttype": "none"}):
        figure = figures.Figure(figsize=(5, 5), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for name, predictions in curves.items():
            bins = reliability(predictions)
            shares = [statistics.share(label * texts, int(texts)) for _, label, _, texts in bins]
            error = measure(predictions)["calibration_error"]
            around = np.maximum(0, [[each.value - each.low for each in shares], [each.high - each.value for each in shares]])
            axes.errorbar(
                bins[:, 0], bins[:, 1], around, marker="o", markersize=4, linewidth=1, label=f"{name}: mean error {error:.3f}"
            )
        axes.set(xlabel="predicted", ylabel="by the labels", xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.legend(loc="upper left", frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _auc_stderr(auc: float, positive: int, negative: int) -> float:
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (positive - 1) * (q1 - auc**2) + (negative - 1) * (q2 - auc**2)
    return math.sqrt(max(variance, 0.0) / (positive * negative))
