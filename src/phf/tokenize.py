"""The tokenize stage: an annotated corpus to a token store, segment by segment, once for all objectives."""

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phf import __version__, artifacts, config
from phf.documents import AnnotatedCorpus, Document, is_held_out, read_annotated
from phf.errors import InputError
from phf.locks import locks_output
from phf.progress import Listener, Progress, silent
from phf.tokens import DOCUMENT, HELD_OUT, SEGMENT, document_start, encode, load_tokenizer, train_tokenizer, write_shard

_SHARD_TOKENS = 64 * 2**20
_BATCH_SEGMENTS = 8192
_TRAINING_CHARACTERS = 200_000_000

log = logging.getLogger("phf")


@dataclass(frozen=True, slots=True)
class Summary:
    """What a token store holds, and what was left out of it."""

    documents: int
    segments: int
    tokens: int
    held_out: int
    empty: int
    continued: bool = False
    already_done: bool = False


@locks_output("tokenize")
def tokenize(annotated: Path, out: Path, options: config.Tokenize, progress: Listener = silent) -> Summary:
    """Tokenise an annotated corpus into a token store; the documents set apart go into a store of their own inside it.

    Written shard by shard; called again it goes on with the next shard, and leaves a finished store alone.

    Args:
        annotated: folder that `annotate` wrote, or published scored data.
        out: folder of the store.
        options: the tokenizer, and the held-out share.

    Raises:
        InputError: for an unusable corpus, a tokenizer that cannot be loaded or is smaller than the byte alphabet, or an output
            folder that holds another corpus's tokens.
    """
    corpus = AnnotatedCorpus(annotated)
    wanted = {"corpus": corpus.identity, "tokenize": config.plain(options)}
    meta_path = out / "meta.json"
    if meta_path.exists():
        meta = artifacts.read_json(meta_path)
        artifacts.check_unchanged(out, meta["made_from"], wanted)
        if meta["finished"]:
            return Summary(**meta["counts"], already_done=True)
    else:
        out.mkdir(parents=True, exist_ok=True)
        artifacts.sweep(out)
        meta = {
            "made_from": wanted,
            "finished": False,
            "segmenter": corpus.segmenter.name if corpus.segmenter else None,
            "annotated": os.path.relpath(annotated, out),
            "shards": [],
            "held_out": [],
            "next_part": 0,
        }
    tokenizer = load_tokenizer(_tokenizer(corpus, out, options, progress))
    start = document_start(tokenizer)
    dtype = np.uint16 if len(tokenizer) + 2 <= 2**16 else np.uint32  # two more ids for control tokens
    meta |= {"document_start": start, "vocab_size": len(tokenizer), "dtype": np.dtype(dtype).name, "phf": __version__}
    meta.setdefault("counts", {"documents": 0, "segments": 0, "tokens": 0, "held_out": 0, "empty": 0})
    continued = meta["next_part"] > 0
    _write_shards(corpus, out, options, tokenizer, np.dtype(dtype), meta, progress)
    if not meta["counts"]["tokens"]:
        raise InputError(f"{annotated}: no training document has any text; nothing to tokenise")
    artifacts.write_json(meta_path, meta | {"finished": True})
    return Summary(**meta["counts"], continued=continued)


def _tokenizer(corpus: AnnotatedCorpus, out: Path, options: config.Tokenize, progress: Listener) -> str | Path:
    """Give the tokenizer of this store as a folder: trained there, or copied there."""
    folder = out / "tokenizer"
    if folder.exists():
        return folder
    if options.tokenizer == "train":
        progress(Progress("tokenize", 0, None, "documents", {"training": f"BPE of {options.vocab_size} entries"}))
        training = (document for document in corpus.documents() if not is_held_out(document.id, options.held_out))
        tokenizer = train_tokenizer(_some(training, _TRAINING_CHARACTERS), options.vocab_size)
        if len(tokenizer) < options.vocab_size:
            log.warning("tokenize: the corpus has merges for only %d of %d entries", len(tokenizer), options.vocab_size)
    else:
        tokenizer = load_tokenizer(options.tokenizer)
    with artifacts.whole_directory(folder) as temporary:
        tokenizer.save_pretrained(temporary)
    return folder


def _some(documents: Iterable[Document], characters: int) -> Iterator[str]:
    """Give the segments of the first documents, up to so many characters."""
    for document in documents:
        yield from document.segments
        characters -= sum(map(len, document.segments))
        if characters <= 0:
            return


def _write_shards(
    corpus: AnnotatedCorpus,
    out: Path,
    options: config.Tokenize,
    tokenizer: Any,
    dtype: np.dtype[Any],
    meta: dict[str, Any],
    progress: Listener,
) -> None:
    """Tokenise part after part; write a shard when it is full, and note in meta.json which part comes next."""
    paths = corpus.parts
    counts = meta["counts"]
    training, held_out = _Shard(dtype), _Shard(dtype)
    for number in range(meta["next_part"], len(paths)):
        documents: dict[bool, list[tuple[int, Document]]] = {False: [], True: []}
        for row, document in enumerate(read_annotated(paths[number], options.column)):
            documents[is_held_out(document.id, options.held_out)].append((row, document))
        counts["held_out"] += len(documents[True])
        for batch in _by_segments(documents[False]):
            counts["empty"] += training.add(tokenizer, number, batch)
        for batch in _by_segments(documents[True]):
            held_out.add(tokenizer, number, batch)
        progress(Progress("tokenize", number + 1, len(paths), "parts", {"tokens": counts["tokens"] + training.tokens}))
        if training.tokens >= _SHARD_TOKENS or number == len(paths) - 1:
            for name, size in training.write(out, meta["shards"]).items():
                counts[name] += size
            held_out.write(out / HELD_OUT, meta["held_out"])
            meta["next_part"] = number + 1
            artifacts.write_json(out / "meta.json", meta)
            training, held_out = _Shard(dtype), _Shard(dtype)


class _Shard:
    """A shard while it fills up."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.tokens = 0
        self._segments = 0
        self._dtype = dtype
        self._flat: list[np.ndarray] = []
        self._segment_parts: list[np.ndarray] = []
        self._rows: list[tuple[int, int, int]] = []

    def add(self, tokenizer: Any, part: int, documents: list[tuple[int, Document]]) -> int:
        """Tokenise documents into the shard. Segments without a token are left out, and so are documents without any.

        Returns:
            How many documents had no token.
        """
        texts = [segment for _, document in documents for segment in document.segments]
        encoded = encode(tokenizer, texts)
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        rewards = np.concatenate([np.empty(0, np.float32), *(document.rewards for _, document in documents)])
        filled = lengths > 0
        empty, position = 0, 0
        for row, document in documents:
            size = int(filled[position : position + len(document.segments)].sum())
            position += len(document.segments)
            if size:
                self._rows.append((self._segments, part, row))
                self._segments += size
            else:
                empty += 1
        ends = np.cumsum(lengths)
        segments = np.empty(int(filled.sum()), SEGMENT)
        segments["start"] = (self.tokens + ends - lengths)[filled]
        segments["reward"] = rewards[filled]
        self._segment_parts.append(segments)
        self._flat.append(np.fromiter((token for ids in encoded for token in ids), self._dtype, int(lengths.sum())))
        self.tokens += int(lengths.sum())
        return empty

    def write(self, folder: Path, shards: list[dict[str, int]]) -> dict[str, int]:
        """Write what there is as the next shard of a folder, and note its counts in the list of shards.

        Returns:
            The counts of tokens, segments and documents; none if there is nothing to write.
        """
        if not self.tokens:
            return {}
        tokens, segments = np.concatenate(self._flat), np.concatenate(self._segment_parts)
        write_shard(folder, len(shards), tokens, segments, np.array(self._rows, DOCUMENT))
        shards.append({"tokens": len(tokens), "segments": len(segments), "documents": len(self._rows)})
        return shards[-1]


def _by_segments(documents: list[tuple[int, Document]]) -> Iterator[list[tuple[int, Document]]]:
    """Group documents so that each batch has some thousand segments."""
    batch, size = [], 0
    for row, document in documents:
        batch.append((row, document))
        size += len(document.segments)
        if size >= _BATCH_SEGMENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
