"""The files of a corpus: paths, folders, globs, and fsspec addresses."""

import functools
import glob
import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit, urlunsplit

from phf.errors import InputError, require

_log = logging.getLogger("phf")
_ENDS = 65536  # bytes at each end of a local file that its fingerprint covers
_QUERY = re.compile(r"\?[^/?=&]+=")  # "?" is a wildcard too, but none that a name and "=" follow


@dataclass(frozen=True, slots=True)
class File:
    """A file that an input names.

    Args:
        name: as the user would write it; for a file found in a folder, from the folder's name on. Without what an address
            keeps secret, and printable.
        path: for its suffixes.
        size: in bytes.
        open: opens it for reading bytes, from anywhere in it.
        in_folder: found in a folder, rather than named.
        is_local: reading it again costs little.
        is_seekable: it may be read from its middle on.
    """

    name: str
    path: Path | PurePosixPath
    size: int
    open: Callable[[], IO[bytes]]
    in_folder: bool
    is_local: bool
    is_seekable: bool = True


def expand(name: str) -> Iterator[File]:
    """Find the files that one input names, always in the same order.

    Raises:
        InputError: if there are none.
    """
    return _remote(name) if "://" in name else _local(name)


def mark(file: File) -> bytes:
    """Return bytes that change when the file does: a hash of its name, size, and both ends of a local one.

    Times are not covered, so that a copy is the same.
    """
    digest = blake2b(f"{file.name}\n{file.size}\n".encode("utf-8", "surrogateescape"), digest_size=16)
    if file.is_local:
        with file.open() as opened:
            digest.update(opened.read(_ENDS))
            opened.seek(max(_ENDS, file.size - _ENDS))
            digest.update(opened.read(_ENDS))
    return digest.digest()


def public_address(name: str) -> str:
    """Return an input without user, password and query, which may hold a signature; paths and hub names as they are."""
    if "://" not in name:
        return name
    address, _ = _split_query(name)
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def walk(folder: Path, wanted: Callable[[Path], bool]) -> Iterator[Path]:
    """Yield the wanted files of a tree in order, each once: a link to a folder that is read anyway is not followed.

    Args:
        folder: the tree.
        wanted: called with each file and each folder; a folder that is not wanted is not entered.
    """
    root = folder.resolve()
    entered = {root}

    def enter(directory: Path) -> Iterator[Path]:
        for path in sorted(directory.iterdir()):
            if not wanted(path):
                continue
            if path.is_file():
                yield path
            elif path.is_dir():
                target = path.resolve()
                again = path.is_symlink() and (root.is_relative_to(target) or target.is_relative_to(root))
                if again or target in entered:
                    _log.warning("%s: a link to a folder that is read already, not followed", printable(str(path)))
                    continue
                entered.add(target)
                yield from enter(path)

    return enter(folder)


def printable(name: str) -> str:
    """Return a file's name as UTF-8 can hold it: bytes that are none are escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _local(name: str) -> Iterator[File]:
    path = Path(name).expanduser()
    if path.is_dir():
        inside = list(walk(path, _is_visible))
        if not inside:
            raise InputError(f"{printable(name)}: no files in this folder")
        for file in inside:
            yield _at(file, f"{path.resolve().name}/{file.relative_to(path).as_posix()}", in_folder=True)
    elif path.exists():
        yield _at(path, name, in_folder=False)
    elif glob.has_magic(name):
        matches = [file for file in map(Path, sorted(glob.glob(str(path), recursive=True))) if file.is_file()]
        if not matches:
            raise InputError(f"{name}: matches no files")
        for file in matches:
            yield _at(file, file.as_posix(), in_folder=False)
    else:
        raise InputError(
            f"{printable(name)}: no such file or folder; expected a path, a glob, hf:NAME or an address such as s3://..."
        )


def _at(path: Path, name: str, in_folder: bool) -> File:
    return File(printable(name), path, path.stat().st_size, functools.partial(_open, path), in_folder, is_local=True)


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")


def _is_visible(path: Path) -> bool:
    return not path.name.startswith(".") and path.name != "__pycache__"


def _split_query(name: str) -> tuple[str, str]:
    """Split an address at its query: http://host/f.jsonl?download=true is a file called f.jsonl."""
    query = _QUERY.search(name)
    return (name[: query.start()], name[query.start() :]) if query else (name, "")


def _remote(name: str) -> Iterator[File]:
    shown = public_address(name)
    fsspec = require("fsspec", "data", f"the input {shown}")
    try:
        filesystem, path = fsspec.core.url_to_fs(name)
        if glob.has_magic(_split_query(path)[0]):
            addresses, in_folder = sorted(filesystem.glob(path)), False
        else:
            in_folder = not _split_query(path)[1] and filesystem.isdir(path)
            addresses = sorted(filesystem.find(path)) if in_folder else [path]
        sizes = [filesystem.size(address) for address in addresses]
    except FileNotFoundError:
        addresses = []
    except (ImportError, OSError, ValueError) as error:
        raise InputError(f"{shown}: cannot be opened: {str(error).replace(name, shown)}") from None
    if not addresses:
        raise InputError(f"{shown}: no such file")
    for address, size in zip(addresses, sizes, strict=True):
        path = PurePosixPath(_split_query(address)[0])
        opener, seekable = _opener(filesystem, address), not name.startswith(("http:", "https:"))  # a server may not seek
        yield File(public_address(address), path, size or 0, opener, in_folder, is_local=False, is_seekable=seekable)


def _opener(filesystem: Any, address: str) -> Callable[[], IO[bytes]]:
    return functools.partial(filesystem.open, address, "rb")
