"""An annotated corpus as a repository of the hub: its parts, the record of how it was made, and the dataset card."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from phf.documents import AnnotatedCorpus
from phf.errors import InputError
from phf.push.card import Card, described, hub_datasets, inputs_of, public_name
from phf.push.repository import README, Repository
from phf.quantiles import streaming_quantiles

MANIFEST = "manifest.json"
_REPLACES = ("part-*.parquet", MANIFEST)
_SHARES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M"),
          (10**8, "10M<n<100M"), (10**9, "100M<n<1B"))  # fmt: skip


def corpus_repository(source: str, card: Card) -> Repository:
    """Return the repository of an annotated corpus. Its rewards are read, in constant memory, for their distribution.

    Args:
        source: a folder that `annotate` wrote.
        card: where it is going to be.

    Raises:
        InputError: for a folder without a manifest, or one whose annotation is not finished, or damaged files.
    """
    corpus = AnnotatedCorpus(Path(source))
    if not corpus.made_from:
        raise InputError(
            f"{source}: no {MANIFEST}, so a card could not say how it was scored; expected what `phf annotate` writes"
        )
    manifest = json.loads((corpus.folder / MANIFEST).read_text(encoding="utf-8"))
    files: dict[str, Path | bytes] = {path.name: path for path in corpus.parts}
    files[MANIFEST] = (json.dumps(_public(manifest), indent=2, ensure_ascii=False) + "\n").encode()
    files[README] = _card(card, corpus, manifest).encode()
    return Repository("dataset", card.name, card.revision, files, _REPLACES)


def _public(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest without the folders that inputs lay in on this machine."""
    made_from = dict(manifest["made_from"])
    corpus = dict(made_from.get("corpus") or {})
    if corpus.get("inputs"):
        corpus["inputs"] = [public_name(str(address)) for address in corpus["inputs"]]
    return {**manifest, "made_from": {**made_from, "corpus": corpus}}


def _card(card: Card, corpus: AnnotatedCorpus, manifest: Mapping[str, Any]) -> str:
    recipe = corpus.made_from.get("corpus") or {}
    annotate = corpus.made_from.get("annotate") or {}
    documents = sum(pq.read_metadata(path).num_rows for path in corpus.parts)
    columns = {"rewards": annotate.get("scorer"), **(annotate.get("also") or {})}
    metadata = {
        "pretty_name": card.name.rpartition("/")[2],
        **card.license_fields,
        "tags": ["phf", "pretraining-with-human-feedback"],
        "task_categories": ["text-generation"],
        "size_categories": [next((name for limit, name in _SIZES if documents < limit), "n>1B")],
        **({"source_datasets": names} if (names := hub_datasets(recipe)) else {}),
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "part-*.parquet"}]}],
    }
    return card.render(
        "dataset_card.md",
        metadata,
        documents=documents,
        segments=manifest.get("segments"),
        characters=manifest.get("characters"),
        unscored=manifest.get("unscored"),
        failed=manifest.get("failed"),
        inputs=inputs_of(recipe),
        text_column=recipe.get("text_column"),
        segmenter=described("segmenters", annotate.get("segmenter")),
        scorers={column: described("scorers", scorer) for column, scorer in columns.items()},
        shares=_SHARES,
        quantiles={column: streaming_quantiles(_Rewards(corpus, column), _SHARES) for column in columns},
        versions=", ".join(f"{name} {number}" for name, number in (manifest.get("versions") or {}).items()),
    )


@dataclass(frozen=True)
class _Rewards:
    """The rewards of a column, document by document, as often as they are asked for."""

    corpus: AnnotatedCorpus
    column: str

    def __iter__(self) -> Iterator[np.ndarray]:
        for document in self.corpus.documents(self.column):
            if document.rewards is not None and len(document.rewards):
                yield document.rewards
