"""Export: what an objective trains on, for those who train elsewhere: documents kept, control tokens, order, rewards."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from phf import config
from phf.errors import InputError
from phf.export.documents import Exported, ExportedDocument
from phf.export.megatron import write_megatron
from phf.export.tables import write_datasets, write_jsonl, write_parquet
from phf.progress import Listener, Progress, silent

_log = logging.getLogger("phf")
_REPORT_EVERY = 256  # documents

Format = Literal["jsonl", "parquet", "datasets", "megatron"]
_WRITERS: dict[str, Callable[[Exported, Iterator[ExportedDocument], Path], None]] = {
    "jsonl": write_jsonl,
    "parquet": write_parquet,
    "datasets": write_datasets,
    "megatron": write_megatron,
}


@dataclass(frozen=True)
class Summary:
    """What was exported.

    Args:
        documents: that the objective keeps.
        tokens: of these, document starts and control tokens counted.
        files: that were written.
        remark: what the objective makes of the corpus, if there is something to say.
    """

    documents: int
    tokens: int
    files: tuple[Path, ...]
    remark: str | None


def export(
    tokens: Path,
    out: Path,
    objective: config.Component,
    to: Format,
    *,
    seed: int = 0,
    epoch: int = 0,
    on_progress: Listener = silent,
) -> Summary:
    """Write one epoch of a token store as an objective sees it, in the format of another trainer.

    Documents come in the order of the epoch, in constant memory. The output is whole or not there.

    Args:
        tokens: folder of the token store.
        out: what to write: a file for jsonl and parquet, a folder for datasets, a prefix for megatron's `.bin` and `.idx`.
        objective: by name and fields; a quantile threshold is resolved on this corpus.
        to: the format.
        seed, epoch: decide the order of documents and which control tokens are dropped, as in training.
        on_progress: called with the number of documents written.

    Raises:
        InputError: for a store or an objective that cannot be used, an objective that keeps no document, or an output that
            exists.
    """
    if to not in _WRITERS:
        raise InputError(f"--to {to}: no such format (known: {', '.join(_WRITERS)})")
    targets = (out.with_name(out.name + ".bin"), out.with_name(out.name + ".idx")) if to == "megatron" else (out,)
    for target in targets:
        if target.exists():
            raise InputError(f"{target}: exists already; delete it, or export to another name")
    exported = Exported.open(tokens, objective, seed, epoch)
    counts = {"documents": 0, "tokens": 0, "ambiguous": 0}

    def counted() -> Iterator[ExportedDocument]:
        for document in exported.documents():
            if counts["documents"] % _REPORT_EVERY == 0:
                on_progress(Progress("export", counts["tokens"], exported.view.tokens, "tokens"))
            counts["documents"] += 1
            counts["tokens"] += len(document.tokens)
            counts["ambiguous"] += document.spells_control_tokens
            yield document

    _WRITERS[to](exported, counted(), out)
    if counts["ambiguous"]:
        _log.warning(
            "%d documents spell a control token in their text: a tokenizer reads it as one; export to datasets or megatron, "
            "which hold token ids, or choose other control tokens",
            counts["ambiguous"],
        )
    return Summary(counts["documents"], counts["tokens"], targets, exported.remark)
