"""GLUE's tasks: their rows, from folders of TSV files or the hub, and the metrics of each.

Wang et al. 2019 (arXiv 1804.07461). Legend: N rows.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import stats

from phf import artifacts
from phf.errors import InputError
from phf.hub import load_table

log = logging.getLogger("phf")

Name = Literal["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"]

WHY_NOT_WNLI = (
    "WNLI is not finetuned: its dev rows share their sentences with train rows of the other class, so that what is learned of "
    "train scores below the larger class on dev, and results leave it out (Devlin et al. 2019)"
)
"""Why the ninth task is named here and not among the tasks."""


@dataclass(frozen=True, slots=True)
class Row:
    """One or two sentences and the index of their class, or, of a regression, their score."""

    texts: tuple[str, ...]
    label: float


@dataclass(frozen=True, slots=True)
class Rows:
    """A task's rows. The labels of GLUE's test rows are not public.

    Args:
        train: those to learn from.
        dev: those to judge by, by the suffix of their metrics: "", and "_mismatched" of MNLI.
    """

    train: Sequence[Row]
    dev: Mapping[str, Sequence[Row]]

    def fingerprint(self) -> str:
        """Return a text that changes when a row does."""
        splits = [self.train, *self.dev.values()]
        return artifacts.fingerprint([[[*row.texts, row.label] for row in split] for split in splits])


@dataclass(frozen=True, slots=True)
class Task:
    """One task, and how its TSV files and the hub's data set name things.

    Args:
        folder: folder of train.tsv and the dev file.
        texts: columns of the sentences in the TSV files.
        hub_texts: the same on the hub.
        label: column of the class in the TSV files; on the hub it is "label".
        classes: names in the TSV files, in the order of the hub's class indices; none for a regression.
        metrics: names of the metrics; the task's score is their mean, as in GLUE.
        columns: columns of TSV files that have no header.
        dev: name of each dev split, in files and on the hub, by the suffix of its metrics.
    """

    folder: str
    texts: tuple[str, ...]
    hub_texts: tuple[str, ...]
    label: str = "label"
    classes: tuple[str, ...] = ("0", "1")
    metrics: tuple[str, ...] = ("acc",)
    columns: tuple[str, ...] | None = None
    dev: Mapping[str, tuple[str, str]] = field(default_factory=lambda: {"": ("dev", "validation")})

    def score(self, metrics: Mapping[str, float]) -> float:
        """Return the task's score, the mean of its metrics on all dev rows."""
        return float(np.mean(list(metrics.values())))


_PAIR = ("sentence1", "sentence2")
_ENTAILS = ("entailment", "not_entailment")
TASKS: Mapping[str, Task] = {
    "cola": Task("CoLA", ("sentence",), ("sentence",), metrics=("mcc",), columns=("source", "label", "mark", "sentence")),
    "sst2": Task("SST-2", ("sentence",), ("sentence",)),
    "mrpc": Task("MRPC", ("#1 String", "#2 String"), _PAIR, label="Quality", metrics=("acc", "f1")),
    "rte": Task("RTE", _PAIR, _PAIR, classes=_ENTAILS),
    "stsb": Task("STS-B", _PAIR, _PAIR, label="score", classes=(), metrics=("pearson", "spearman")),
    "qnli": Task("QNLI", ("question", "sentence"), ("question", "sentence"), classes=_ENTAILS),
    "qqp": Task("QQP", ("question1", "question2"), ("question1", "question2"), label="is_duplicate", metrics=("acc", "f1")),
    "mnli": Task(
        "MNLI", _PAIR, ("premise", "hypothesis"), label="gold_label",
        classes=("entailment", "neutral", "contradiction"),
        dev={"": ("dev_matched", "validation_matched"), "_mismatched": ("dev_mismatched", "validation_mismatched")},
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
        train = _from_hub(task, name, data[3:], "train")
        return Rows(train, {suffix: _from_hub(task, name, data[3:], split) for suffix, (_, split) in task.dev.items()})
    folder = Path(data) / task.folder
    train = _from_file(task, folder / "train.tsv")
    return Rows(train, {suffix: _from_file(task, folder / f"{split}.tsv") for suffix, (split, _) in task.dev.items()})


def measure(metrics: Sequence[str], predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the metrics of predicted classes by name.

    acc = accuracy. f1 = 2 TP / (2 TP + FP + FN) of class 1. mcc = (TP TN - FP FN) / sqrt((TP + FP) (TP + FN)
    (TN + FP) (TN + FN)), Matthews' correlation. pearson and spearman: correlation of predicted and true scores, and of their
    ranks. All but acc are 0 where their denominator is, as when only one class is predicted.

    Args:
        metrics: names of the metrics.
        predicted: (N,) predicted classes, or scores.
        labels: (N,) true ones.
    """
    hit, miss = float(((predicted == 1) & (labels == 1)).sum()), float(((predicted == 0) & (labels == 1)).sum())
    alarm, pass_ = float(((predicted == 1) & (labels == 0)).sum()), float(((predicted == 0) & (labels == 0)).sum())
    denominator = np.sqrt((hit + alarm) * (hit + miss) * (pass_ + alarm) * (pass_ + miss))
    known: dict[str, Callable[[], float]] = {
        "acc": lambda: float((predicted == labels).mean()),
        "f1": lambda: 2 * hit / (2 * hit + alarm + miss) if hit else 0.0,
        "mcc": lambda: float((hit * pass_ - alarm * miss) / denominator) if denominator else 0.0,
        "pearson": lambda: _correlation(predicted, labels),
        "spearman": lambda: _correlation(stats.rankdata(predicted), stats.rankdata(labels)),
    }
    return {metric: known[metric]() for metric in metrics}


def parts(predicted: np.ndarray, labels: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return what each row adds to numerator and denominator of the metrics that are ratios of sums over rows: acc and f1.

    Args:
        predicted: (N,) predicted classes.
        labels: (N,) true ones.
    """
    hit = (predicted == 1) & (labels == 1)
    wrong = (predicted == 1) != (labels == 1)
    return {"acc": ((predicted == labels).astype(float), np.ones(len(labels))), "f1": (2.0 * hit, 2.0 * hit + wrong)}


def _correlation(predicted: np.ndarray, labels: np.ndarray) -> float:
    if len(labels) < 2 or np.ptp(predicted) == 0 or np.ptp(labels) == 0:
        return 0.0
    return float(np.corrcoef(predicted, labels)[0, 1])


def _from_file(task: Task, path: Path) -> list[Row]:
    try:
        lines = path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")  # not splitlines(): \u2028 is text
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; expected data to be a folder with GLUE's {task.folder}/{path.name}, or hf:nyu-mll/glue"
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
        rows.append(Row(tuple(cells[index] for index in indices), _label(task, cells[label], f"{path}, line {number}")))
    if not rows:
        raise InputError(f"{path}: no rows; expected one of GLUE's TSV files")
    if broken:
        log.warning("%s: %d of %d lines lack columns and are left out, line %d first", path, len(broken), len(lines), broken[0])
    return rows


def _from_hub(task: Task, name: str, dataset: str, split: str) -> list[Row]:
    expected = "a data set such as hf:nyu-mll/glue, or a folder of GLUE's TSV files"
    rows = load_table(dataset, name, split, (*task.hub_texts, "label"), expected)
    labels = [float(row["label"]) if not task.classes else int(row["label"]) for row in rows]
    return [Row(tuple(str(row[column]) for column in task.hub_texts), label) for row, label in zip(rows, labels, strict=True)]


def _label(task: Task, text: str, where: str) -> float:
    """Return the index of a class, or the score of a regression, as a file has it."""
    if task.classes:
        if text not in task.classes:
            raise InputError(f"{where}: class {text!r}; expected one of {', '.join(task.classes)}")
        return task.classes.index(text)
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{where}: score {text!r}; expected a number") from None
