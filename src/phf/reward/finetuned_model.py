"""A finetuned reward model: trained on all folds but one, and measured on that one."""

from pathlib import Path

import numpy as np

from phf.progress import Listener
from phf.reward.fit_classifier import Examples, finetune
from phf.reward.labelled_texts import Labels
from phf.reward.linear_model import Curves
from phf.reward.options import TrainOptions
from phf.scorers.classifier import Classifier


def train_finetuned(
    data: Labels, importance: np.ndarray, fold_of: np.ndarray, folder: Path, options: TrainOptions, on_progress: Listener
) -> Curves:
    """Finetune the base to all folds but one, and return what it says of that one and of the held-out texts."""
    rows = np.array([row for row in np.flatnonzero(fold_of > 0) if data.texts[row].strip()])
    targets = data.labels[rows]
    if data.scale is not None:
        low, high = data.scale
        targets = high - (high - low) * targets
    loss = "classification" if data.scale is None else "regression"
    examples = Examples(loss, [(data.texts[row],) for row in rows], targets, importance[rows])  # type: ignore[arg-type]
    finetune(examples, options, folder, on_progress)
    scorer = Classifier(model=str(folder))
    curves = {}
    for name, chosen in (("one fold", fold_of == 0), ("held out", ~data.trains)):
        unseen = np.flatnonzero(chosen)
        if len(unseen):
            rewards = scorer.score([data.texts[row] for row in unseen])
            scored = np.isfinite(rewards)
            curves[name] = (unseen[scored], data.label_of(rewards[scored]))
    return curves
