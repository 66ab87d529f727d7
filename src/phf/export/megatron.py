"""Megatron's indexed datasets: a `.bin` of token ids and an `.idx` that says where each document is.

The format is that of Megatron-LM, NeMo and GPT-NeoX ("MMIDIDX", version 1); a document is one sequence.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np

from phf.artifacts import whole_file
from phf.export.documents import Exported, ExportedDocument

_MAGIC = b"MMIDIDX\x00\x00"
_VERSION = 1
_CODES = {np.dtype(np.int32): 4, np.dtype(np.uint16): 8}
_CHUNK = 2**20  # lengths at once


def write_megatron(exported: Exported, documents: Iterator[ExportedDocument], path: Path) -> None:
    """Write `PATH.bin` and `PATH.idx`. Every document begins with the document start, which ends the one before it."""
    largest = max(*exported.control_ids, max(exported.tokenizer.get_vocab().values()), 0)
    dtype = np.dtype(np.uint16 if largest < 2**16 else np.int32)
    count = 0
    # The index is renamed last: where it is, the tokens are.
    with (
        whole_file(path.with_name(path.name + ".idx")) as index_path,
        whole_file(path.with_name(path.name + ".bin")) as tokens_path,
        NamedTemporaryFile(dir=path.parent) as lengths,
    ):
        with tokens_path.open("wb") as tokens:
            for document in documents:
                document.tokens.astype(dtype).tofile(tokens)
                lengths.write(np.int32(len(document.tokens)).tobytes())
                count += 1
        lengths.flush()
        _write_index(index_path, np.memmap(lengths.name, np.int32, "r", shape=(count,)), dtype)


def _write_index(path: Path, lengths: np.ndarray, dtype: np.dtype[Any]) -> None:
    """Write the header, each sequence's length (int32) and offset in bytes (int64), and where documents begin (int64)."""
    count = len(lengths)
    with path.open("wb") as index:
        index.write(_MAGIC + struct.pack("<QBQQ", _VERSION, _CODES[dtype], count, count + 1))
        for start in range(0, count, _CHUNK):
            lengths[start : start + _CHUNK].tofile(index)
        offset = 0
        for start in range(0, count, _CHUNK):
            sizes = lengths[start : start + _CHUNK].astype(np.int64) * dtype.itemsize
            (offset + np.cumsum(sizes) - sizes).tofile(index)
            offset += int(sizes.sum())
        for start in range(0, count + 1, _CHUNK):
            np.arange(start, min(start + _CHUNK, count + 1), dtype=np.int64).tofile(index)
