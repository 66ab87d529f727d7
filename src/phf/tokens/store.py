"""The token store: a corpus tokenised once, on disk, for every objective.

A store holds the tokens of every segment, where segments and documents begin, and each segment's reward. All of it stays on disk
and is read when it is asked for: an open store takes no memory of its own, whatever its size.
"""

# S segments, D documents, N tokens.

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phf import artifacts, checksums
from phf.documents import parts, read_annotated
from phf.errors import InputError
from phf.machine import allow_open_files
from phf.objectives import Objective, complete
from phf.tokens import index_cache
from phf.tokens.shard import DOCUMENT as DOCUMENT
from phf.tokens.shard import FILES_PER_SHARD, Rewards, Shard, open_shard
from phf.tokens.shard import HELD_OUT as HELD_OUT
from phf.tokens.shard import SEGMENT as SEGMENT
from phf.tokens.shard import write_shard as write_shard
from phf.tokens.view import View as View


@dataclass(frozen=True)
class TokenStore:
    """A tokenised corpus on disk.

    Args:
        path: the folder.
        meta: its meta.json.
        shards: in order; documents, segments and tokens are numbered through all of them.
    """

    path: Path
    meta: dict[str, Any]
    shards: Sequence[Shard]

    @classmethod
    def open(cls, path: Path, held_out: bool = False) -> "TokenStore":
        """Open a finished store.

        Args:
            path: its folder.
            held_out: open the held-out documents in it, which no run is trained on, instead of the others.

        Raises:
            InputError: if it is missing, unfinished, without what is asked for, or its files do not fit together.
        """
        if not path.is_dir():
            raise InputError(f"{path}: no such folder; `phf tokenize` writes a token store")
        checksums.check_folder(path)
        meta = artifacts.read_object(path / "meta.json", "finished")
        if not meta["finished"]:
            raise InputError(f"{path}: tokenising was not finished; run `phf tokenize` again to continue it")
        _check_meta(path / "meta.json", meta)
        if held_out:
            if not _as_list(meta.get("held_out")):
                raise InputError(f"{path}: holds no held-out documents; tokenise with tokenize.held_out above 0")
            path, meta = path / HELD_OUT, meta | {"shards": meta["held_out"]}
            checksums.check_folder(path)
        files = FILES_PER_SHARD * len(meta["shards"])
        if (allowed := allow_open_files(files)) < files:
            raise InputError(f"{path}: has {files} files, and a process may open only {allowed}; raise `ulimit -n`")
        shards: list[Shard] = []
        for number, sizes in enumerate(meta["shards"]):
            shards.append(open_shard(path, number, meta["dtype"], sizes, shards[-1] if shards else None))
        return cls(path, meta, shards)

    @property
    def folders(self) -> list[Path]:
        """The folders that its files lie in, without indexes, which are not its own."""
        return [self.path, self.path / "tokenizer", self.path / HELD_OUT]

    @property
    def documents(self) -> int:
        """D."""
        return self.shards[-1].document_stop if self.shards else 0

    @property
    def rewards(self) -> Rewards:
        """The rewards of all segments, in chunks that are read from disk every time they are iterated."""
        return Rewards(self.path, self.shards)

    def resolve(self, objective: Objective) -> tuple[Objective, str | None]:
        """Resolve an objective's threshold on this corpus and check that it can learn from it.

        The result is cached beside the store.

        Returns:
            The objective with its threshold as a reward; a remark on what it makes of the corpus, if there is one.

        Raises:
            InputError: as `Objective.resolve` and `Objective.check` do.
        """
        return index_cache.resolve(self.path, self.shards, complete(objective))

    def names(self, numbers: Sequence[int] | np.ndarray) -> Iterator[str]:
        """Yield the names of documents: their ids, or part and row where the annotated corpus is gone."""
        annotated = self.path / self.meta.get("annotated", ".")
        for number in numbers:
            shard = next(shard for shard in self.shards if number < shard.document_stop)
            row_number = int(number) - shard.first_document
            (record,) = shard.documents.read(row_number, row_number + 1)
            part, row = int(record["part"]), int(record["row"])
            try:
                if part < 0 or row < 0:
                    raise IndexError
                yield next(itertools.islice(read_annotated(parts(annotated)[part]), row, None)).id
            except (OSError, InputError, IndexError, StopIteration):
                yield f"part {part} row {row}"

    def view(self, objective: Objective, context: int, seed: int, epoch: int = 0, control_ids: Sequence[int] = ()) -> View:
        """View one epoch of the corpus as an objective sees it: the documents it keeps, in random order.

        The order of documents is the same under every objective. Where documents begin is computed in one pass over the store
        and cached beside it, for all processes and restarts.

        Args:
            objective: with its threshold resolved.
            context: T, tokens predicted in a block.
            seed, epoch: decide the order of documents and which control tokens are dropped.
            control_ids: token ids of the objective's control tokens.
        """
        objective = complete(objective)
        assert len(control_ids) == len(objective.control_tokens)
        index = index_cache.epoch_index(self.path, self.shards, objective, seed, epoch)
        return View(self, index, context, control_ids)


def _check_meta(path: Path, meta: dict[str, Any]) -> None:
    """Raise InputError if a finished store's meta.json is not what `phf tokenize` writes."""
    sizes = [size for key in ("shards", "held_out") for size in _as_list(meta.get(key)) for size in _sizes(size)]
    whole = {
        "shards": isinstance(meta.get("shards"), list) and all(isinstance(size, int) and size >= 0 for size in sizes),
        "dtype": meta.get("dtype") in ("uint16", "uint32"),
        "document_start": isinstance(meta.get("document_start"), int),
        "vocab_size": isinstance(meta.get("vocab_size", 0), int),
        "made_from": isinstance(meta.get("made_from", {}), dict),
        "counts": isinstance(meta.get("counts", {}), dict),
    }
    if wrong := [key for key, is_whole in whole.items() if not is_whole]:
        found = f"its {wrong[0]!r} is {meta[wrong[0]]!r:.60}" if wrong[0] in meta else f"it has no {wrong[0]!r}"
        raise InputError(f"{path}: not what `phf tokenize` wrote ({found}); delete {path.parent} and run it again")


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _sizes(shard: Any) -> list[Any]:
    """Return the sizes of a shard as meta.json has them, None for those that are missing."""
    return [shard.get(name) if isinstance(shard, dict) else None for name in ("tokens", "segments", "documents")]
