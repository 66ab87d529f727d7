"""Texts labelled by people: read from Parquet, CSV or JSON lines, and checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from phf import plugins
from phf.errors import InputError

_SOURCE_COLUMNS = ("source", "dataset", "origin")
_SPLIT_COLUMN = "split"
_TRAIN = "train"
_MANY = 100  # different values make a column one of addresses or names, not of sources
_BLOCK = 1 << 26  # bytes, more than the longest row


@dataclass(frozen=True)
class Labels:
    """Labelled texts.

    Args:
        texts: (N,)
        labels: (N,) float64, the probability that a text is positive; 0 or 1 where people were asked once.
        sources: (N,) str, where each text is from; None if the file does not say.
        trains: (N,) bool, False for what is only measured on.
        columns: which column held what, by the name of the argument.
        scale: for a regression, the rewards that labels of 1 and 0 stand for; None for two classes.
    """

    texts: list[str]
    labels: np.ndarray
    sources: np.ndarray | None
    trains: np.ndarray
    columns: dict[str, str | None]
    scale: tuple[float, float] | None = None

    def label_of(self, rewards: np.ndarray) -> np.ndarray:
        """Return the labels that rewards of a model stand for, of the same shape."""
        low, high = self.scale or (-1.0, 0.0)
        labels: np.ndarray = (high - rewards) / (high - low)
        return labels


def read(path: Path, text: str = "text", label: str = "toxic", source: str | None = None, split: str | None = None) -> Labels:
    """Read labelled texts.

    Args:
        path: a .parquet, .csv, .tsv or .jsonl file (the last three also as .gz).
        text: the column of texts.
        label: the column of labels: true and false, 1 and 0, or probabilities.
        source: the column that says where a text is from; if not given, one called source, dataset or origin with at most 100
            different values; "" for none.
        split: the column that says "train" of what may be trained on; if not given, one called split; "" for none.

    Raises:
        InputError: for a missing or unreadable file, a missing column (with the nearest name), an empty file, a null (with its
            row), labels of another kind, or labels that are all the same.
    """
    table = read_table(path, text)
    columns = {
        "text": _named(path, table, text),
        "label": _named(path, table, label),
        "source": _optional(path, table, source, _SOURCE_COLUMNS),
        "split": _optional(path, table, split, (_SPLIT_COLUMN,)),
    }
    if not table.num_rows:
        raise InputError(f"{path}: no rows; expected texts and labels")
    texts = text_values(path, table, text)
    labels = _as_probabilities(path, label, _values(path, table, label))
    trains = np.ones(len(texts), bool)
    if columns["split"]:
        values = _values(path, table, columns["split"])
        trains = np.array([value == _TRAIN for value in values])
        if not trains.any():
            found = ", ".join(repr(value) for value in sorted(set(map(str, values)))[:5])
            raise InputError(
                f"{path}, column {columns['split']!r}: no row says {_TRAIN!r} (found {found}); name another split column"
            )
    positive = labels[trains] >= 0.5
    if positive.all() or not positive.any():
        kind = "positive" if positive.any() else "negative"
        raise InputError(f"{path}, column {label!r}: every label to train on is {kind}; expected some of each kind")
    sources = np.array(list(map(str, _values(path, table, columns["source"])))) if columns["source"] else None
    if source is None and sources is not None and len(np.unique(sources)) > _MANY:
        sources, columns["source"] = None, None
    return Labels(texts, labels, sources, trains, columns)


def column_names(path: Path) -> list[str]:
    """Return the names of a file's columns.

    Raises:
        InputError: as `read_table`.
    """
    names: list[str] = read_table(path).column_names
    return names


def text_values(path: Path, table: pa.Table, name: str) -> list[str]:
    """Return a column of texts.

    Raises:
        InputError: if the column is missing, or a value is no text, with its row.
    """
    texts = _values(path, table, _named(path, table, name))
    for row, value in enumerate(texts):
        if not isinstance(value, str):
            raise InputError(f"{path}, row {row + 1}, column {name!r}: expected a text, found {value!r}")
    return texts


def read_table(path: Path, *texts: str) -> pa.Table:
    """Read a .parquet, .csv, .tsv or .jsonl file.

    Args:
        path: the file.
        texts: columns of it that hold texts, whatever they look like.

    Raises:
        InputError: for a file that is missing, empty, of another kind or damaged.
    """
    ending = "".join(path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:]).removesuffix(".gz")
    if not path.exists():
        raise InputError(f"{path}: no such file; expected labelled texts")
    if path.is_dir():
        raise InputError(f"{path}: a folder; expected one file of labelled texts (.parquet, .csv, .tsv or .jsonl)")
    if not path.stat().st_size:
        raise InputError(f"{path}: empty; expected texts and labels")
    try:
        if ending == ".parquet":
            return pyarrow.parquet.read_table(path)
        if ending in (".csv", ".tsv"):
            delimiter = "\t" if ending == ".tsv" else ","
            return pyarrow.csv.read_csv(
                path,
                read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK),
                parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(texts, pa.string())),
            )
        if ending in (".jsonl", ".ndjson"):
            return pyarrow.json.read_json(path, pyarrow.json.ReadOptions(block_size=_BLOCK))
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a readable {ending} file: {str(error).splitlines()[0]}") from None
    raise InputError(f"{path}: expected a file that ends in .parquet, .csv, .tsv or .jsonl")


def _named(path: Path, table: pa.Table, name: str) -> str:
    if name not in table.column_names:
        raise InputError(f"{path}: no column {name!r}{plugins.suggestion(name, table.column_names)}")
    if table.column_names.count(name) > 1:
        raise InputError(f"{path}: column {name!r} is there more than once")
    return name


def _optional(path: Path, table: pa.Table, name: str | None, usual: Sequence[str]) -> str | None:
    if name:
        return _named(path, table, name)
    return next((column for column in usual if name is None and column in table.column_names), None)


def _values(path: Path, table: pa.Table, name: str | None) -> list[Any]:
    assert name is not None
    try:
        values = table.column(name).to_pylist()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, column {name!r}: not UTF-8 ({error.reason})") from None
    missing = next((row for row, value in enumerate(values) if value is None), None)
    if missing is not None:
        raise InputError(
            f"{path}, row {missing + 1}, column {name!r}: null; {values.count(None)} rows have none: drop them or fill them in"
        )
    return list(values)


def _as_probabilities(path: Path, name: str, values: list[Any]) -> np.ndarray:
    for row, value in enumerate(values):
        if not isinstance(value, (bool, int, float)) or not 0 <= value <= 1:
            raise InputError(
                f"{path}, row {row + 1}, column {name!r}: expected true or false, 1 or 0, or a probability, found {value!r}"
            )
    return np.array(values, np.float64)
