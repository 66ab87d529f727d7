"""Folds of equal parts, and weights by which every source counts alike."""

import numpy as np

from phf.documents import content_id
from phf.errors import InputError
from phf.reward.labelled_texts import Labels


def folds_of(data: Labels, folds: int) -> np.ndarray:
    """Deal the texts to train on out into folds of equal shares of positives: (N,) int, -1 for the others.

    The order is that of a hash of the text, so equal texts share a fold, whatever the order of the file. White space alone,
    which says nothing, goes to the first.
    """
    check_folds(folds)
    fold_of = np.full(len(data.texts), -1)
    rows = np.flatnonzero(data.trains)
    kinds: dict[str, bool] = {}
    names = {row: content_id(data.texts[row]) for row in rows if data.texts[row].replace("\0", " ").strip()}
    for row, name in names.items():
        kinds.setdefault(name, data.scale is not None or bool(data.labels[row] >= 0.5))
    number_of = {}
    for kind in (True, False) if data.scale is None else (True,):
        same = sorted(name for name, is_kind in kinds.items() if is_kind is kind)
        if len(same) < folds:
            what = "" if data.scale is not None else "positive " if kind else "negative "
            raise InputError(
                f"{len(same)} different {what}texts to train on; expected at least one for each "
                f"of {folds} folds: add labels or ask for fewer folds"
            )
        number_of.update({name: number % folds for number, name in enumerate(same)})
    fold_of[rows] = [number_of[names[row]] if row in names else 0 for row in rows]
    return fold_of


def check_folds(folds: int) -> None:
    """Refuse a number of folds that leaves nothing to measure on."""
    if folds < 2:
        raise InputError(f"folds: expected at least 2, found {folds}")


def importance_of(data: Labels) -> np.ndarray:
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
