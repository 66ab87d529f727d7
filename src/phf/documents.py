"""A document in segments with their rewards, and the folder of Parquet parts that holds an annotated corpus."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from phf import artifacts
from phf.errors import InputError

SCHEMA = pa.schema(
    [("id", pa.string()), ("segments", pa.list_(pa.string())), ("rewards", pa.list_(pa.float32()))],
)
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Document:
    """A text in pieces, each with at most one reward.

    Args:
        id: names the document in its corpus, unique and stable under re-ordering.
        segments: (S,) pieces; joined, they are the text exactly.
        rewards: (S,) float32, higher is better, NaN where a segment could not be scored; None before scoring.

    Raises:
        InputError: if the counts of segments and rewards differ.
    """

    id: str
    segments: Sequence[str]
    rewards: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.rewards is not None and np.shape(self.rewards) != (len(self.segments),):
            raise InputError(
                f"document {self.id!r}: {len(self.segments)} segments but rewards of shape {np.shape(self.rewards)}; "
                "there must be one reward a segment"
            )

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.segments)


def content_id(text: str) -> str:
    """Name a document by its content: 24 hex digits, the same wherever and in whatever order the text is met."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def is_held_out(document_id: str, share: float) -> bool:
    """Tell whether a document belongs to the held-out share, by a hash of its id alone.

    The split does not depend on order, on other documents or on the machine, and a larger share contains a smaller one.
    """
    digest = hashlib.blake2b(document_id.encode("utf-8", "surrogatepass"), digest_size=8, person=b"phf-heldout").digest()
    return int.from_bytes(digest, "big") < share * 2**64


def write_part(path: Path, documents: Sequence[Document], extra: dict[str, Sequence[Any]] | None = None) -> None:
    """Write one Parquet part of an annotated corpus, whole or not at all.

    Args:
        path: such as `annotated/part-00000.parquet`.
        documents: with rewards.
        extra: more columns by name, one value a document (the rewards of further scorers, say).
    """
    table = pa.table(
        {
            "id": pa.array([document.id for document in documents], pa.string()),
            "segments": pa.array([list(document.segments) for document in documents], SCHEMA.field("segments").type),
            "rewards": pa.array([document.rewards for document in documents], SCHEMA.field("rewards").type),
            **(extra or {}),
        }
    )
    with artifacts.whole_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def parts(folder: Path) -> list[Path]:
    """List the Parquet files of an annotated corpus in order: a folder of them, or one file.

    Raises:
        InputError: if there are none.
    """
    if folder.is_file():
        return [folder]
    found = sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))
    if not found:
        what = "no Parquet files in it" if folder.is_dir() else "no such folder"
        raise InputError(f"{folder}: {what}; `phf annotate` writes an annotated corpus")
    return found


def read_annotated(folder: Path, column: str = "rewards") -> Iterator[Document]:
    """Read an annotated corpus, document by document, in constant memory.

    Published data with columns `texts` and `scores` (misalignment scores, lower is better) is read as segments and
    rewards = -scores; its documents are named by their content.

    Args:
        folder: a folder of Parquet parts, or one Parquet file.
        column: which rewards, where several scorers wrote one column each.

    Raises:
        InputError: for a file that is not Parquet, lacks the columns or holds a document whose counts differ, with its row.
    """
    for path in parts(folder):
        try:
            file = pq.ParquetFile(path)
        except pa.ArrowInvalid as error:
            raise InputError(f"{path}: not a Parquet file ({error})") from None
        with file:
            yield from _read_part(file, path, column)


def _read_part(file: Any, path: Path, column: str) -> Iterator[Document]:
    names = set(file.schema_arrow.names)
    published = {"texts", "scores"} <= names and not {"segments", column} <= names
    text_column, reward_column, sign = ("texts", "scores", -1) if published else ("segments", column, 1)
    for needed in (text_column, reward_column):
        if needed not in names:
            raise InputError(
                f"{path}: no column {needed!r} (found: {', '.join(sorted(names))}); expected 'segments' and {column!r}, "
                "or 'texts' and 'scores' as published scored data has them"
            )
    row = 0
    for batch in file.iter_batches(_ROWS_AT_ONCE, columns=[*({"id"} & names), text_column, reward_column]):
        texts = batch.column(text_column).to_pylist()
        # One flat float32 array for the batch, cut at its offsets: no Python float is made.
        rewards = batch.column(reward_column)
        offsets = rewards.offsets.to_numpy()
        values = (sign * rewards.values.to_numpy(zero_copy_only=False)).astype(np.float32)
        ids = batch.column("id").to_pylist() if "id" in names else [None] * len(texts)
        for index, (name, segments) in enumerate(zip(ids, texts, strict=True)):
            where = f"{path}, row {row + index}"
            if segments is None or any(segment is None for segment in segments):
                raise InputError(f"{where}: {text_column} is null; expected a list of strings")
            try:
                yield Document(
                    name if name is not None else content_id("".join(segments)),
                    segments,
                    values[offsets[index] : offsets[index + 1]],
                )
            except InputError as error:
                raise InputError(f"{where}: {error}") from None
        row += len(texts)


def batched(documents: Iterable[Document], size: int) -> Iterator[list[Document]]:
    """Group documents, `size` at a time."""
    batch: list[Document] = []
    for document in documents:
        batch.append(document)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def provenance(annotated: Path) -> dict[str, Any]:
    """Return what `phf annotate` made a corpus from."""
    manifest = annotated / "manifest.json"
    if not manifest.is_file():
        raise InputError(f"{manifest}: not found; expected a folder that `phf annotate` wrote, which says scorer and segmenter")
    content = artifacts.read_json(manifest)
    made_from: dict[str, Any] = content.get("made_from", {})
    if not {"scorer", "segmenter"} <= set(made_from.get("annotate", {})):
        raise InputError(f"{manifest}: does not say scorer and segmenter; annotate again")
    if not content.get("finished"):
        raise InputError(f"{annotated}: annotating was not finished; run `phf annotate` again to continue it")
    return made_from


def corpus_identity(annotated: Path) -> Any:
    """Say what an annotated corpus was made from; of published data, which files it is."""
    manifest = annotated / "manifest.json"
    if not manifest.exists():
        return [[path.name, path.stat().st_size] for path in parts(annotated)]
    content = artifacts.read_json(manifest)
    if not content.get("finished"):
        raise InputError(f"{annotated}: annotating was not finished; run `phf annotate` again to continue it")
    return content["made_from"] | {"segments": content["segments"]}


def segmenter_name(annotated: Path) -> str:
    """Name how the corpus was cut, for generation to know; published data without a manifest is in sentences."""
    manifest = annotated / "manifest.json"
    if not manifest.exists():
        return "sentences"
    name: str = artifacts.read_json(manifest)["made_from"]["annotate"]["segmenter"]["name"]
    return name
