"""A document in segments with their rewards, and the folder of Parquet parts that holds an annotated corpus."""

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from phf import artifacts, checksums
from phf.config import Component
from phf.errors import InputError
from phf.segmenters import recorded_fields

SCHEMA = pa.schema(
    [("id", pa.string()), ("segments", pa.list_(pa.string())), ("rewards", pa.list_(pa.float32()))],
)
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Document:
    """A text in pieces, each with at most one reward.

    Args:
        id: of the document in its corpus, unique and stable under re-ordering.
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
    """Return an id made of a document's content: 24 hex digits, the same wherever and in whatever order the text is read."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def is_held_out(document_id: str, share: float) -> bool:
    """Return whether a document belongs to the held-out share, by a hash of its id alone.

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
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def parts(folder: Path) -> list[Path]:
    """List the Parquet files of an annotated corpus in order: a folder of them, or one file.

    Raises:
        InputError: if there are none.
    """
    if folder.is_file():
        return [folder]
    files = sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))
    if not files:
        what = "no Parquet files in it" if folder.is_dir() else "no such folder"
        raise InputError(f"{folder}: {what}; `phf annotate` writes an annotated corpus")
    return files


def read_annotated(folder: Path, column: str = "rewards") -> Iterator[Document]:
    """Read an annotated corpus, document by document, in constant memory.

    Published data with columns `texts` and `scores` (misalignment scores, lower is better) is read as segments and
    rewards = -scores; its documents are named by their content.

    Args:
        folder: a folder of Parquet parts, or one Parquet file.
        column: which rewards, where several scorers wrote one column each.

    Raises:
        InputError: for a file that is not Parquet or is damaged, lacks the columns or holds a document whose counts differ,
            with its row.
    """
    for path in parts(folder):
        with _open_part(path) as file:
            yield from _read_batches(file.iter_batches, path, 0, file.schema_arrow, column)


def row_groups(path: Path) -> list[int]:
    """Return how many rows each row group of a Parquet part has: what `read_rows` reads alone."""
    with _open_part(path) as file:
        metadata = file.metadata
        return [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]


def read_rows(path: Path, group: int, first: int, column: str = "rewards") -> Iterator[Document]:
    """Read a row group of a Parquet part, document by document.

    Args:
        path: of the part.
        group: which row group; one that does not exist has no documents.
        first: how many rows there are before it, for errors.
        column: which rewards.

    Raises:
        InputError: as `read_annotated` does.
    """
    with _open_part(path) as file:
        groups = [group] if group < file.metadata.num_row_groups else []
        batches = functools.partial(file.iter_batches, row_groups=groups)
        yield from _read_batches(batches, path, first, file.schema_arrow, column)


@contextlib.contextmanager
def _open_part(path: Path) -> Iterator[Any]:
    """Open a Parquet part; what is wrong with it while it is read is an InputError that names it."""
    checksums.verify(path)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path}: not a Parquet file, or a damaged one ({str(error).strip()}); if `phf annotate` wrote it, delete it "
            "and annotate again: what is there already stays"
        ) from None


def _read_batches(
    batches: Callable[..., Iterable[Any]], path: Path, row: int, schema: pa.Schema, column: str
) -> Iterator[Document]:
    names = set(schema.names)
    published = {"texts", "scores"} <= names and not {"segments", column} <= names
    text_column, reward_column, sign = ("texts", "scores", -1) if published else ("segments", column, 1)
    for needed in (text_column, reward_column):
        _check_column(schema, needed, column, path)
    for batch in batches(_ROWS_AT_ONCE, columns=[*({"id"} & names), text_column, reward_column]):
        texts = batch.column(text_column).to_pylist()
        # One flat float32 array for the batch, cut at its offsets: no Python float is made.
        rewards = _as_lists(batch.column(reward_column))
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


def _check_column(schema: pa.Schema, needed: str, column: str, path: Path) -> None:
    """Check that a column is there once, and that it holds a list for each document."""
    names = schema.names
    if names.count(needed) != 1:
        what = f"{names.count(needed)} columns are called" if needed in names else "no column"
        raise InputError(
            f"{path}: {what} {needed!r} (found: {', '.join(sorted(names))}); expected 'segments' and {column!r}, "
            "or 'texts' and 'scores' as published scored data has them"
        )
    kind = schema.field(needed).type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise InputError(
            f"{path}: column {needed!r} holds one {kind} a document; expected a list, with an entry for each of its segments"
        )


def _as_lists(column: pa.Array) -> pa.Array:
    """Return lists of a fixed size as lists with offsets."""
    return column.cast(pa.list_(column.type.value_type)) if pa.types.is_fixed_size_list(column.type) else column


class AnnotatedCorpus:
    """An annotated corpus on disk and the record of how it was made; the record is read once.

    A folder that `phf annotate` wrote has a manifest.json. Published scored data has none: its segmenter and scorer are known
    only if they are passed in.

    Args:
        folder: a folder of Parquet parts, or one Parquet file.
        segmenter, scorer: for published data.

    Raises:
        InputError: if manifest.json is damaged, or the corpus is not annotated to the end.
    """

    def __init__(self, folder: Path, segmenter: Component | None = None, scorer: Component | None = None) -> None:
        self.folder = folder
        self._manifest = folder / "manifest.json"
        record: dict[str, Any] = artifacts.read_json(self._manifest) if self._manifest.exists() else {}
        if not isinstance(record, dict):
            raise InputError(f"{self._manifest}: not the manifest of an annotated corpus; delete {folder} and annotate again")
        if self._manifest.exists() and not record.get("finished"):
            raise InputError(f"{folder}: annotating was not finished; run `phf annotate` again to continue it")
        self.made_from: dict[str, Any] = record.get("made_from", {})
        """What `phf annotate` recorded ("corpus", "annotate", "inputs"); empty for published data."""
        annotate = self.made_from.get("annotate", {})
        self.segmenter = recorded_segmenter(annotate.get("segmenter")) or segmenter
        """What cut the documents; None if unknown."""
        self.scorer = _scorer_of_samples(_component(annotate.get("scorer"))) or scorer
        """What scores texts as the segments were scored; None if unknown."""
        self._segments = record.get("segments")
        checksums.check_folder(folder)

    @functools.cached_property
    def parts(self) -> list[Path]:
        """Its Parquet files in order; InputError if there are none."""
        return parts(self.folder)

    @property
    def identity(self) -> Any:
        """What an output made from this corpus records about it; of published data, the names and sizes of its files."""
        if not self._manifest.exists():
            return [[path.name, path.stat().st_size] for path in self.parts]
        return self.made_from | {"segments": self._segments}

    def require(self, role: Literal["segmenter", "scorer"]) -> Component:
        """Return the segmenter or the scorer.

        Raises:
            InputError: if it is unknown.
        """
        component: Component | None = getattr(self, role)
        if component is None:
            reason = "not found; `phf annotate` writes it"
            if self._manifest.exists():
                reason = f"does not name it; annotate again, for published scores with annotate.{role}.samples"
            raise InputError(f"{self.folder}: the {role} of this corpus is unknown: {self._manifest} {reason}")
        return component

    def documents(self, column: str = "rewards") -> Iterator[Document]:
        """Yield its documents, see `read_annotated`."""
        return read_annotated(self.folder, column)


def _scorer_of_samples(scorer: Component | None) -> Component | None:
    """Return the scorer of other texts than the corpus's: for published scores, the one named beside them."""
    return _component(scorer.fields.get("samples")) if scorer is not None and scorer.name == "published" else scorer


def recorded_segmenter(recorded: Any) -> Component | None:
    """Return the segmenter that a manifest names; None if it names none."""
    component = _component(recorded)
    return component and Component(name=component.name, **recorded_fields(component.name, component.fields))


def _component(recorded: Any) -> Component | None:
    return None if recorded is None else Component.model_validate(recorded)
