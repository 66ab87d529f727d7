"""The tokenize stage: an annotated corpus to a token store, segment by segment, once for all objectives."""

import contextlib
import logging
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phf import __version__, artifacts, config
from phf.documents import AnnotatedCorpus, Document, is_held_out, row_groups
from phf.errors import InputError
from phf.locks import locks_output
from phf.machine import usable_cores
from phf.processes import die_with_parent
from phf.progress import Listener, Progress, silent
from phf.tokens import (
    HELD_OUT,
    Encoded,
    EncodedRows,
    RoundTrip,
    RowEncoder,
    Rows,
    document_start,
    exact_tokenizer,
    load_tokenizer,
    train_tokenizer,
    vocabulary_size,
    write_shard,
)

_SHARD_TOKENS = 64 * 2**20
_TRAINING_CHARACTERS = 200_000_000
_LATER_FIELDS = (("document_start", None), ("trust_remote_code", False))  # which older stores do not record
_WORKER_BYTES = 8 * 2**20  # of Parquet; less is done sooner than a process is started

_EncoderFields = tuple[str, str, float, np.dtype[Any]]  # of a `RowEncoder`

log = logging.getLogger("phf")


@dataclass(frozen=True, slots=True)
class Summary:
    """What a token store holds, and what was left out of it.

    Args:
        documents, segments, tokens: to train on.
        held_out: documents that are held out.
        empty: documents without a token, left out.
        continued: whether an earlier run had begun it.
        already_done: whether an earlier run had finished it.
        differing: share of a sample's tokens that differ from those of documents tokenised whole; None if it was not counted.
    """

    documents: int
    segments: int
    tokens: int
    held_out: int
    empty: int
    continued: bool = False
    already_done: bool = False
    differing: float | None = None


@locks_output("tokenize")
def tokenize(annotated: Path, out: Path, options: config.Tokenize, on_progress: Listener = silent) -> Summary:
    """Tokenise an annotated corpus into a token store; held-out documents go into a store of their own inside it.

    Written shard by shard; called again it resumes at the next shard, and leaves a finished store alone. The store does not
    depend on the number of processes, byte for byte.

    Args:
        annotated: folder that `annotate` wrote, or published scored data.
        out: folder of the store.
        options: the tokenizer, and the held-out share.
        on_progress: called as parts are finished.

    Raises:
        InputError: for an unusable corpus, a tokenizer that cannot be loaded, is smaller than the byte alphabet or does not give
            texts back, or an output folder that holds another corpus's tokens.
    """
    corpus = AnnotatedCorpus(annotated)
    wanted = {"corpus": corpus.identity, "tokenize": _identity(options)}
    meta_path = out / "meta.json"
    if meta_path.exists():
        meta = artifacts.read_object(meta_path, "made_from", "finished", "shards", "held_out", "next_part")
        artifacts.check_unchanged(out, meta["made_from"], wanted)
        if meta["finished"]:
            return _summary(meta, already_done=True)
    else:
        out.mkdir(parents=True, exist_ok=True)
        artifacts.sweep(out)
        meta = {
            "made_from": wanted,
            "finished": False,
            "segmenter": _recorded(corpus.segmenter),
            "annotated": os.path.relpath(annotated, out),
            "shards": [],
            "held_out": [],
            "next_part": 0,
            "next_group": 0,
        }
    folder = _tokenizer(corpus, out, options, on_progress)
    tokenizer = load_tokenizer(folder)
    size = vocabulary_size(tokenizer)
    dtype = np.dtype(np.uint16 if size + 2 <= 2**16 else np.uint32)  # two more ids for control tokens
    meta |= {
        "document_start": document_start(tokenizer, options.document_start),
        "vocab_size": size,
        "dtype": dtype.name,
        "phf": __version__,
    }
    meta.setdefault("counts", {"documents": 0, "segments": 0, "tokens": 0, "held_out": 0, "empty": 0})
    meta.setdefault("round_trip", vars(RoundTrip()))
    continued = meta["next_part"] > 0
    _write_shards(corpus, tokenizer.backend_tokenizer.to_str(), out, options, meta, on_progress)
    if not meta["counts"]["tokens"]:
        raise InputError(f"{annotated}: no training document has any text; nothing to tokenise")
    artifacts.write_json(meta_path, meta | {"finished": True}, recorded=True)
    return _summary(meta, continued=continued)


def _identity(options: config.Tokenize) -> dict[str, Any]:
    """Return the options that the store depends on."""
    fields: dict[str, Any] = config.plain(options)
    del fields["workers"]
    return {name: value for name, value in fields.items() if (name, value) not in _LATER_FIELDS}


def _summary(meta: dict[str, Any], continued: bool = False, already_done: bool = False) -> Summary:
    known = meta.get("round_trip", {})
    differing = known["differing"] / known["sampled"] if known.get("sampled") else None
    return Summary(**meta["counts"], continued=continued, already_done=already_done, differing=differing)


def _tokenizer(corpus: AnnotatedCorpus, out: Path, options: config.Tokenize, on_progress: Listener) -> Path:
    """Return the folder of this store's tokenizer: trained, or copied from elsewhere and made exact."""
    folder = out / "tokenizer"
    if folder.exists():
        return folder
    if options.tokenizer == "train":
        on_progress(Progress("tokenize", 0, None, "documents", {"training": f"BPE of {options.vocab_size} entries"}))
        training = (document for document in corpus.documents() if not is_held_out(document.id, options.held_out))
        tokenizer = train_tokenizer(_first_segments(training, _TRAINING_CHARACTERS), options.vocab_size)
        if len(tokenizer) < options.vocab_size:
            log.warning("tokenize: the corpus has merges for only %d of %d entries", len(tokenizer), options.vocab_size)
    else:
        tokenizer = exact_tokenizer(load_tokenizer(options.tokenizer, options.trust_remote_code), plain=options.trust_remote_code)
    with artifacts.whole_directory(folder) as temporary:
        tokenizer.save_pretrained(temporary)
    return folder


def _first_segments(documents: Iterable[Document], characters: int) -> Iterator[str]:
    """Yield the segments of the first documents, up to so many characters."""
    for document in documents:
        yield from document.segments
        characters -= sum(map(len, document.segments))
        if characters <= 0:
            return


def _write_shards(
    corpus: AnnotatedCorpus, tokenizer: str, out: Path, options: config.Tokenize, meta: dict[str, Any], on_progress: Listener
) -> None:
    """Tokenise rows after rows; write a shard when it is full, and note in meta.json which rows come next."""
    rows = _rows_from(corpus.parts, meta["next_part"], meta.get("next_group", 0))
    counts, round_trip = meta["counts"], RoundTrip(**meta["round_trip"])
    training, held_out = Encoded(), Encoded()
    encoder = (tokenizer, options.column, options.held_out, np.dtype(meta["dtype"]))
    with _encode_all(encoder, rows, _workers(corpus.parts, options.workers)) as results:
        for part, encoded in results:
            counts["empty"] += encoded.empty
            counts["held_out"] += encoded.held_out_count
            round_trip.add(encoded.round_trip)
            round_trip.check(options.tokenizer)
            for shard, documents in ((training, encoded.training), (held_out, encoded.held_out)):
                if documents.size:
                    shard.add(*documents.arrays())
            facts = {"tokens": counts["tokens"] + training.size}
            on_progress(Progress("tokenize", part.part + part.last, len(corpus.parts), "parts", facts))
            if training.size >= _SHARD_TOKENS or (part.last and part.part == len(corpus.parts) - 1):
                for name, size in _write(out, training, meta["shards"]).items():
                    counts[name] += size
                _write(out / HELD_OUT, held_out, meta["held_out"])
                following = {"next_part": part.part + part.last, "next_group": 0 if part.last else part.group + 1}
                meta |= {**following, "round_trip": vars(round_trip)}
                artifacts.write_json(out / "meta.json", meta, recorded=True)
                training, held_out = Encoded(), Encoded()
    if round_trip.lost:
        log.warning(
            "tokenize: %d of %d characters are lost or added when tokens are decoded, in %d documents, first in %s",
            round_trip.lost, round_trip.characters, round_trip.documents, round_trip.example,
        )  # fmt: skip


def _write(folder: Path, shard: Encoded, shards: list[dict[str, int]]) -> dict[str, int]:
    """Write what there is as the next shard of a folder, and note its counts in the list of shards.

    Returns:
        The counts of tokens, segments and documents; none if there is nothing to write.
    """
    if not shard.size:
        return {}
    tokens, segments, documents = shard.arrays()
    write_shard(folder, len(shards), tokens, segments, documents)
    shards.append({"tokens": len(tokens), "segments": len(segments), "documents": len(documents)})
    return shards[-1]


def _rows_from(paths: Sequence[Path], part: int, group: int) -> Iterator[Rows]:
    """Yield the rows of a corpus, row group by row group, from one on."""
    for number in range(part, len(paths)):
        sizes = row_groups(paths[number]) or [0]
        first = 0
        for index, size in enumerate(sizes):
            if number > part or index >= group:
                yield Rows(paths[number], number, index, first, last=index == len(sizes) - 1)
            first += size


def _workers(paths: Sequence[Path], workers: int | None) -> int:
    """Return how many processes to tokenise with: by default all cores, fewer for a corpus that is small."""
    if workers is not None:
        return workers
    return max(1, min(usable_cores(), sum(path.stat().st_size for path in paths) // _WORKER_BYTES))


@contextlib.contextmanager
def _encode_all(encoder: _EncoderFields, rows: Iterator[Rows], workers: int) -> Iterator[Iterator[tuple[Rows, EncodedRows]]]:
    """Yield an iterator over the encoded rows in order, made by so many processes."""
    if workers == 1:
        encode = RowEncoder(*encoder)
        yield ((part, encode(part)) for part in rows)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_begin_worker, initargs=(os.getpid(), encoder))
    try:
        yield _in_order(pool, rows, 2 * workers)
    except BrokenProcessPool:
        raise InputError(
            "tokenize: a process was killed, most likely because memory ran out; set tokenize.workers lower"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(pool: ProcessPoolExecutor, rows: Iterator[Rows], ahead: int) -> Iterator[tuple[Rows, EncodedRows]]:
    """Yield results in order, with at most so many of them under way or waiting."""
    pending: deque[tuple[Rows, Future[EncodedRows]]] = deque()
    for part in rows:
        pending.append((part, pool.submit(_encode_in_worker, part)))
        if len(pending) >= ahead:
            done, future = pending.popleft()
            yield done, future.result()
    for done, future in pending:
        yield done, future.result()


def _begin_worker(parent: int, encoder: _EncoderFields) -> None:
    global _encoder
    die_with_parent(parent)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there is a process for each core
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent stops its workers
    _encoder = RowEncoder(*encoder)


_encoder: RowEncoder | None = None  # of a worker


def _encode_in_worker(rows: Rows) -> EncodedRows:
    assert _encoder is not None
    return _encoder(rows)


def _recorded(segmenter: config.Component | None) -> Any:
    """Return a segmenter as meta.json has it: its name, with its fields where it has any, so that a model cuts texts the same."""
    if segmenter is None:
        return None
    return config.plain(segmenter) if segmenter.fields else segmenter.name
