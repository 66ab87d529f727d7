"""Exports with a row a document: JSON Lines and Parquet with text, a `datasets` folder with token ids."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from phf import config
from phf.artifacts import fingerprint, whole_directory, whole_file
from phf.errors import require
from phf.export.documents import Exported, ExportedDocument

_ROWS = 1000  # of a row group
_SCHEMA = pa.schema([("text", pa.string()), ("document", pa.int64())])


def write_jsonl(exported: Exported, documents: Iterator[ExportedDocument], path: Path) -> None:
    """Write {"text": text with control tokens, "document": number in the store}, a line a document."""
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for document in documents:
            file.write(json.dumps({"text": document.text, "document": document.number}, ensure_ascii=False) + "\n")


def write_parquet(exported: Exported, documents: Iterator[ExportedDocument], path: Path) -> None:
    """Write the same columns as Parquet."""
    with whole_file(path) as temporary, pq.ParquetWriter(temporary, _SCHEMA, compression="zstd") as writer:
        rows: list[dict[str, Any]] = []
        for document in documents:
            rows.append({"text": document.text, "document": document.number})
            if len(rows) == _ROWS:
                writer.write_table(pa.Table.from_pylist(rows, _SCHEMA))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, _SCHEMA))


def write_datasets(exported: Exported, documents: Iterator[ExportedDocument], path: Path) -> None:
    """Write a folder for `datasets.load_from_disk`: input_ids, rewards, and loss_weights where the objective is a weighting.

    Unlikelihood, whose bad tokens have another loss, and objectives with a value head have no loss_weights: they need
    `phf.integrations.transformers`.
    """
    datasets: Any = require("datasets", "data", "export to datasets")
    columns = [("input_ids", pa.list_(pa.int32())), ("rewards", pa.list_(pa.float32()))]
    if exported.is_weighted:
        columns.append(("loss_weights", pa.list_(pa.float32())))

    def rows(**_: Any) -> Iterator[dict[str, Any]]:
        for document in documents:
            row = {"input_ids": document.tokens, "rewards": document.rewards}
            if exported.is_weighted:
                row["loss_weights"] = document.loss_weights
            yield row

    tokens, component, seed, epoch = exported.source
    made_from = {"tokens": str(tokens.resolve()), "objective": config.plain(component), "seed": seed, "epoch": epoch}
    with whole_directory(path) as folder, TemporaryDirectory(dir=path.parent) as cache, _without_bars(datasets):
        try:
            dataset = datasets.Dataset.from_generator(
                rows,
                features=datasets.Features.from_arrow_schema(pa.schema(columns)),
                cache_dir=cache,
                fingerprint=fingerprint(made_from),
            )
        except datasets.exceptions.DatasetGenerationError as error:
            raise error.__cause__ or error from None  # what failed is ours: a document that cannot be read
        dataset.save_to_disk(str(folder))
        exported.tokenizer.save_pretrained(folder / "tokenizer")


@contextlib.contextmanager
def _without_bars(datasets: Any) -> Iterator[None]:
    """Keep the library's progress bars off; phf shows its own."""
    if not datasets.is_progress_bar_enabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()
