"""Corpora that are read from their beginning only: sources by name, and data sets of the hub."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

from phf import config
from phf.corpora.formats import checked_rows
from phf.corpora.rows import Row
from phf.errors import InputError, require
from phf.hub import offline_if_unreachable


@runtime_checkable
class Source(Protocol):
    """A corpus by name, such as `python-docs`: what an entry point of `phf.corpora` builds."""

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield (id, text), always in the same order."""


@runtime_checkable
class FingerprintedSource(Source, Protocol):
    """A source that can tell cheaply whether it has changed."""

    def fingerprint(self) -> str:
        """Return a text that changes when the documents do."""


@runtime_checkable
class VersionedSource(Source, Protocol):
    """A source made of things that have versions."""

    def versions(self) -> dict[str, str]:
        """Return the versions by name."""


@runtime_checkable
class LimitedSource(Source, Protocol):
    """A source that knows how much it yields.

    Attributes:
        limit_characters: of its texts together; None if it does not know.
    """

    @property
    def limit_characters(self) -> int | None:
        """Characters of all texts."""


def from_source(source: Source, on_share: Callable[[float], None] = lambda share: None) -> Iterator[Row]:
    """Read a source; `on_share` is called with the share of it that is read, if it knows its size."""
    limit = source.limit_characters if isinstance(source, LimitedSource) else None
    characters = 0
    for name, text in source.texts():
        characters += len(text)
        if limit:
            on_share(min(1.0, characters / limit))
        yield Row(name, text)


def from_hub(name: str, corpus: config.Corpus) -> Iterator[Row]:
    """Stream a data set of the hub, or one that `datasets` finds in a folder: hf:NAME, or hf:NAME#CONFIGURATION."""
    datasets = require("datasets", "data", f"the input {name}")
    address, _, configuration = name.removeprefix("hf:").partition("#")
    try:
        with offline_if_unreachable():
            stream = datasets.load_dataset(address, configuration or None, split=corpus.split, streaming=True)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"{name}, split {corpus.split!r}: cannot be opened: {error}") from None
    yield from checked_rows(_streamed(stream, name, datasets.exceptions.DatasetsError), corpus)


def _streamed(stream: Any, name: str, errors: type[Exception]) -> Iterator[tuple[str, Any]]:
    number = 0
    try:
        for number, row in enumerate(stream, start=1):
            yield f"{name}, row {number - 1}", row
    except (OSError, ValueError, TypeError, KeyError, errors) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"{name}: cannot be read beyond {number} rows: {lines[0]}. If its files have different columns or types, list the "
            "files themselves as inputs"
        ) from None
