"""Hyperparameters of finetuning."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """Hyperparameters of finetuning one task with one seed.

    Args:
        epochs: most passes over the rows.
        patience: epochs without a better score after which finetuning stops.
        lr: peak learning rate.
        batch: rows a step.
        warmup: share of the steps over which the learning rate rises.
        weight_decay: of AdamW.
        max_length: tokens of a row at most.
    """

    epochs: int
    patience: int
    lr: float
    batch: int
    warmup: float
    weight_decay: float
    max_length: int
