"""Stand-ins for data sets of the hub: folders that `datasets` reads offline, in the columns of the real ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Columns = Mapping[str, Sequence[Any]]


def write_hub_data(folder: Path, configurations: Mapping[str, Mapping[str, Columns]]) -> Path:
    """Write a data set with its configurations ("default" where it has one alone), each with the columns of its splits."""
    lines = ["---", "configs:"]
    for name, splits in configurations.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split, columns in splits.items():
            path = folder / name / f"{split}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table(dict(columns)), path)
            lines += [f"  - split: {split}", f"    path: {path.relative_to(folder)}"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return folder
