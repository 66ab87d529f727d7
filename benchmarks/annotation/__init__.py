"""What the benchmarks of annotation share: processor time of several ways in turn, rows of results, texts to run on.

Each module has functions that take the folder of data and give rows; `benchmarks/annotate.py` prints them.
"""

import resource
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from phf.corpora import PythonDocs

Rows = Iterator[dict]
STANDARD = Path(sysconfig.get_path("stdlib"))


def row(measure: str, value: float, unit: str, against: str = "", reach: str = "") -> dict:
    """Make one row of results; `reach` such as ">= 10"."""
    more = {"against": against, "reach": reach}
    return {"measure": measure, "value": float(value), "unit": unit} | {name: said for name, said in more.items() if said}


def processor(way: Callable[[], object]) -> float:
    """Seconds of processor time that a call takes, in this process and those it starts."""

    def used() -> float:
        who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, who))

    before = used()
    way()
    return used() - before


def interleaved(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Run each way in turn, several rounds; the least processor time of each."""
    times = [{name: processor(way) for name, way in ways.items()} for _ in range(rounds)]
    return {name: min(each[name] for each in times) for name in ways}


def modules() -> list[str]:
    """Texts of the modules at the top of the standard library."""
    return [path.read_text("utf-8") for path in sorted(STANDARD.glob("*.py"))]


def packages() -> list[str]:
    """Texts of the modules in its packages, but for its tests."""
    paths = [path for path in sorted(STANDARD.glob("*/*.py")) if path.parent.name not in ("test", "tests", "site-packages")]
    return [path.read_text("utf-8") for path in paths]


def documentation(characters: int) -> list[str]:
    """Docstrings and descriptions of what is installed."""
    return [text for _, text in PythonDocs(limit_characters=characters).texts()]


def column(path: Path, name: str = "text") -> list:
    """One column of a Parquet file."""
    return pq.read_table(path, columns=[name]).column(name).to_pylist()


def some(texts: Sequence[str], count: int) -> list[str]:
    """Draw texts, always the same."""
    return [texts[place] for place in np.random.default_rng(0).permutation(len(texts))[:count]]
