"""What a tracker is: a run there, opened with what is known of the run here; and the samples that it is shown."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow.parquet as pq

from phf.layout import RunFolder

SAMPLES = 1000
"""Samples of an evaluation in a table; all of them are in the run's folder."""
_COLUMNS = ("prompt", "text", "misalignment", "finished")


@dataclass(frozen=True, slots=True)
class Session:
    """A run to be opened in a tracker.

    Args:
        project: what its runs are compared in.
        run: its name there.
        folder: the run's folder here.
        config: what the run is made from.
        id: the identifier of the run there, from an earlier session; None for a new run.
        step: that training resumes from; None where nothing is to be discarded.
    """

    project: str
    run: str
    folder: RunFolder
    config: Mapping[str, Any]
    id: str | None
    step: int | None

    def flat_config(self) -> dict[str, str | int | float]:
        """Return the configuration with one key a value, such as `train.lr`; what is no number or text becomes text."""
        return dict(_flat(self.config))


class Tracker(Protocol):
    """A run in a tracker."""

    id: str
    """What the run is found by in a later session."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers by name, measured at a step; steps may come in any order."""

    def table(self, name: str, columns: Mapping[str, Sequence[Any]], step: int) -> None:
        """Log a table of samples, one sequence a column."""

    def close(self) -> None:
        """Write or send what was logged."""


def read_samples(path: Path) -> dict[str, list[Any]]:
    """Return the first samples of an evaluation, by column."""
    columns = [name for name in _COLUMNS if name in pq.read_schema(path).names]
    table: dict[str, list[Any]] = pq.read_table(path, columns=columns).slice(0, SAMPLES).to_pydict()
    return table


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str | int | float]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, value if isinstance(value, int | float | str) else str(value)
