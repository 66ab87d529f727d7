"""GLUE's classification tasks: their rows, from folders of TSV files or the hub, and the metrics of each.

Wang et al. 2019 (arXiv 1804.07461). Legend: N rows.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from phf.errors import InputError
from phf.hub import load_table

log = logging.getLogger("phf")

Name = Literal["cola", "sst2", "mrpc", "rte", "qnli", "wnli", "qqp", "mnli"]


@dataclass(frozen=True, slots=True)
class Row:
    """One or two sentences and the index of their class."""

    texts: tuple[str, ...]
    label: int


@dataclass(frozen=True, slots=True)
class Rows:
    """A task's train and dev rows. The labels of GLUE's test rows are not public."""

    train: Sequence[Row]
    dev: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Task:
    """One task, and how its TSV files and the hub's data set name things.

    Args:
        folder: folder of train.tsv and the dev file.
        texts: columns of the sentences in the TSV files.
        hub_texts: the same on the hub.
        label: column of the class in the TSV files; on the hub it is "label".
        classes: names in the TSV files, in the order of the hub's class indices.
        metrics: names of the metrics; the task's score is their mean, as in GLUE.
        columns: columns of TSV files that have no header.
        dev: name of the dev split, in files and on the hub.
    """

    folder: str
    texts: tuple[str, ...]
    hub_texts: tuple[str, ...]
    label: str = "label"
    classes: tuple[str, ...] = ("0", "1")
    metrics: tuple[str, ...] = ("acc",)
    columns: tuple[str, ...] | None = None
    dev: tuple[str, str] = ("dev", "validation")

    def score(self, metrics: Mapping[str, float]) -> float:
        """Return the task's score, the mean of its metrics."""
        return float(np.mean([metrics[metric] for metric in self.metrics]))


_PAIR = ("sentence1", "sentence2")
_ENTAILS = ("entailment", "not_entailment")
TASKS: Mapping[str, Task] = {
    "cola": Task("CoLA", ("sentence",), ("sentence",), metrics=("mcc",), columns=("source", "label", "mark", "sentence")),
    "sst2": Task("SST-2", ("sentence",), ("sentence",)),
    "mrpc": Task("MRPC", ("#1 String", "#2 String"), _PAIR, label="Quality", metrics=("acc", "f1")),
    "rte": Task("RTE", _PAIR, _PAIR, classes=_ENTAILS),
    "qnli": Task("QNLI", ("question", "sentence"), ("question", "sentence"), classes=_ENTAILS),
    "wnli": Task("WNLI", _PAIR, _PAIR),
    "qqp": Task("QQP", ("question1", "question2"), ("question1", "question2"), label="is_duplicate", metrics=("acc", "f1")),
    "mnli": Task(
        "MNLI", _PAIR, ("premise", "hypothesis"), label="gold_label",
        classes=("entailment", "neutral", "contradiction"), dev=("dev_matched", "validation_matched"),
    ),
}  # fmt: skip


def read(name: str, data: str) -> Rows:
    """Return a task's rows.

    Args:
        name: name of the task.
        data: folder of the tasks' folders, as in GLUE's archives; or `hf:` and a data set of the hub.

    Raises:
        InputError: if they are missing or not in GLUE's format; the message names file, line or column.
    """
    task = TASKS[name]
    if data.startswith("hf:"):
        train, dev = (_from_hub(task, name, data[3:], split) for split in ("train", task.dev[1]))
    else:
        train, dev = (_from_file(task, Path(data) / task.folder / f"{split}.tsv") for split in ("train", task.dev[0]))
    return Rows(train, dev)


def measure(metrics: Sequence[str], predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the metrics of predicted classes by name.

    acc = accuracy. f1 = 2 TP / (2 TP + FP + FN) of class 1. mcc = (TP TN - FP FN) / sqrt((TP + FP) (TP + FN)
    (TN + FP) (TN + FN)), Matthews' correlation. Both are 0 where their denominator is, as
    when only one class is predicted.

    Args:
        metrics: names of the metrics.
        predicted: (N,) predicted classes.
        labels: (N,) true ones.
    """
    hit, miss = float(((predicted == 1) & (labels == 1)).sum()), float(((predicted == 0) & (labels == 1)).sum())
    alarm, pass_ = float(((predicted == 1) & (labels == 0)).sum()), float(((predicted == 0) & (labels == 0)).sum())
    denominator = np.sqrt((hit + alarm) * (hit + miss) * (pass_ + alarm) * (pass_ + miss))
    known: dict[str, Callable[[], float]] = {
        "acc": lambda: float((predicted == labels).mean()),
        "f1": lambda: 2 * hit / (2 * hit + alarm + miss) if hit else 0.0,
        "mcc": lambda: float((hit * pass_ - alarm * miss) / denominator) if denominator else 0.0,
    }
    return {metric: known[metric]() for metric in metrics}


def _from_file(task: Task, path: Path) -> list[Row]:
    try:
        lines = path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")  # not splitlines(): \u2028 is text
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; expected data to be a folder with GLUE's {task.folder}/train.tsv and {task.dev[0]}.tsv, "
            "or hf:nyu-mll/glue"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start}); expected one of GLUE's TSV files") from None
    first = 0 if task.columns else 1
    columns = list(task.columns or lines[0].split("\t"))
    missing = [name for name in (*task.texts, task.label) if name not in columns]
    if missing:
        raise InputError(f"{path}: no column {missing[0]!r}; found {', '.join(filter(None, columns)) or 'nothing'}")
    indices, label = [columns.index(name) for name in task.texts], columns.index(task.label)
    rows, broken = [], []
    for number, line in enumerate(lines[first:], start=first + 1):
        cells = line.split("\t")  # GLUE's files have no quoting
        if len(cells) <= max(*indices, label):
            broken.append(number)
            continue
        if cells[label] not in task.classes:
            raise InputError(f"{path}, line {number}: class {cells[label]!r}; expected one of {', '.join(task.classes)}")
        rows.append(Row(tuple(cells[index] for index in indices), task.classes.index(cells[label])))
    if not rows:
        raise InputError(f"{path}: no rows; expected one of GLUE's TSV files")
    if broken:
        log.warning("%s: %d of %d lines lack columns and are left out, line %d first", path, len(broken), len(lines), broken[0])
    return rows


def _from_hub(task: Task, name: str, dataset: str, split: str) -> list[Row]:
    expected = "a data set such as hf:nyu-mll/glue, or a folder of GLUE's TSV files"
    rows = load_table(dataset, name, split, (*task.hub_texts, "label"), expected)
    return [Row(tuple(str(row[column]) for column in task.hub_texts), int(row["label"])) for row in rows]
