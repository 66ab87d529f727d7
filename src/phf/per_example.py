"""Results of an evaluation per example (document or sample), kept so that runs can be compared on the same examples.

A ratio of sums is kept as both its parts: bits and bytes of each document, and not bits per byte.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from phf import checksums, statistics
from phf.artifacts import write_table
from phf.errors import InputError
from phf.statistics import Estimate

Parts = tuple[np.ndarray, np.ndarray]
"""Numerators and denominators of a metric, one a unit, (N,) each."""


def write(file: Path, ids: Sequence[str], metrics: Mapping[str, Parts]) -> None:
    """Write columns `id`, and `METRIC` and `METRIC.weight` of each metric: sum of the one / sum of the other is its value.

    Args:
        file: see `RunFolder.per_example_of`.
        ids: (N,) names of the units, different from each other.
        metrics: by name.
    """
    columns = {"id": pa.array(list(ids), pa.string())}
    for metric, (numerators, denominators) in metrics.items():
        columns[metric] = pa.array(np.asarray(numerators, np.float64))
        columns[f"{metric}.weight"] = pa.array(np.asarray(denominators, np.float64))
    write_table(file, pa.table(columns))


def read(file: Path, metric: str) -> tuple[list[str], Parts] | None:
    """Read one metric's units; None if it was not kept.

    Raises:
        InputError: if the file is broken.
    """
    checksums.verify(file)
    try:
        if not file.exists() or metric not in pq.read_schema(file).names:
            return None
        table = pq.read_table(file, columns=["id", metric, f"{metric}.weight"])
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{file}: not what `phf evaluate` writes ({reason}); delete it and evaluate again") from None
    return table.column("id").to_pylist(), (table.column(metric).to_numpy(), table.column(f"{metric}.weight").to_numpy())


def difference(one: Path, other: Path, metric: str) -> Estimate | None:
    """Return the difference of a metric between two files, unit by unit; None if they do not hold the same units of it."""
    return paired_difference(read(one, metric), read(other, metric))


def paired_difference(one: tuple[list[str], Parts] | None, other: tuple[list[str], Parts] | None) -> Estimate | None:
    """Return the difference of what `read` returned of two files, unit by unit; None if they are not the same units."""
    if one is None or other is None:
        return None
    (ids, parts), (other_ids, other_parts) = one, other
    if len(ids) != len(other_ids) or set(ids) != set(other_ids) or len(set(ids)) < len(ids):
        return None
    places = {name: place for place, name in enumerate(other_ids)}
    order = [places[name] for name in ids]
    return statistics.ratio_difference(parts, (other_parts[0][order], other_parts[1][order]))
