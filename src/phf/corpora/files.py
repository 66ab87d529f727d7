"""Where the files of a corpus are: paths, folders, globs, and addresses of fsspec."""

import glob
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import IO, Any

from phf.errors import InputError, require

_ENDS = 65536  # bytes at each end of a local file that its fingerprint covers


@dataclass(frozen=True, slots=True)
class File:
    """A file that an input names.

    Args:
        name: as the user would say it; for a file found in a folder, from the folder's name on.
        path: for its suffixes.
        size: in bytes.
        open: opens it for reading bytes, from anywhere in it.
        found: in a folder, rather than named.
        is_local: reading it again costs little.
    """

    name: str
    path: Path | PurePosixPath
    size: int
    open: Callable[[], IO[bytes]]
    found: bool
    is_local: bool


def expand(name: str) -> Iterator[File]:
    """Find the files that one input names, always in the same order.

    Raises:
        InputError: if there are none.
    """
    return _remote(name) if "://" in name else _local(name)


def mark(file: File) -> bytes:
    """Give bytes that change when the file does: its name and size, and what stands at both ends of a local one.

    Times are not covered, so that a copy is the same.
    """
    digest = blake2b(f"{file.name}\n{file.size}\n".encode("utf-8", "surrogateescape"), digest_size=16)
    if file.is_local:
        with file.open() as opened:
            digest.update(opened.read(_ENDS))
            opened.seek(max(_ENDS, file.size - _ENDS))
            digest.update(opened.read(_ENDS))
    return digest.digest()


def _local(name: str) -> Iterator[File]:
    path = Path(name).expanduser()
    if path.is_dir():
        inside = list(_walk(path))
        if not inside:
            raise InputError(f"{name}: no files in this folder")
        for file in inside:
            yield _at(file, f"{path.resolve().name}/{file.relative_to(path).as_posix()}", found=True)
    elif path.exists():
        yield _at(path, name, found=False)
    elif glob.has_magic(name):
        matches = [file for file in map(Path, sorted(glob.glob(str(path), recursive=True))) if file.is_file()]
        if not matches:
            raise InputError(f"{name}: matches no files")
        for file in matches:
            yield _at(file, file.as_posix(), found=False)
    else:
        raise InputError(f"{name}: no such file or folder; expected a path, a glob, hf:NAME or an address such as s3://...")


def _at(path: Path, name: str, found: bool) -> File:
    return File(name, path, path.stat().st_size, lambda: path.open("rb"), found, is_local=True)


def _walk(folder: Path) -> Iterator[Path]:
    """List the files of a tree in order, but not what is hidden or compiled."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__pycache__":
            continue
        if path.is_dir():
            yield from _walk(path)
        elif path.is_file():
            yield path


def _remote(name: str) -> Iterator[File]:
    fsspec = require("fsspec", "data", f"the input {name}")
    try:
        filesystem, path = fsspec.core.url_to_fs(name)
        if glob.has_magic(path):
            addresses, found = sorted(filesystem.glob(path)), False
        else:
            found = filesystem.isdir(path)
            addresses = sorted(filesystem.find(path)) if found else [path]
        sizes = [filesystem.size(address) for address in addresses]
    except FileNotFoundError:
        addresses = []
    except (ImportError, OSError, ValueError) as error:
        raise InputError(f"{name}: cannot be opened: {error}") from None
    if not addresses:
        raise InputError(f"{name}: no such file")
    for address, size in zip(addresses, sizes, strict=True):
        yield File(address, PurePosixPath(address), size or 0, _opener(filesystem, address), found, is_local=False)


def _opener(filesystem: Any, address: str) -> Callable[[], IO[bytes]]:
    def opened() -> IO[bytes]:
        file: IO[bytes] = filesystem.open(address, "rb")
        return file

    return opened
