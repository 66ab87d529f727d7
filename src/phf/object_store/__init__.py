"""Outputs and inputs on object stores (s3://, gs://, any address of fsspec): a local folder, copied from there and to there.

Stages work on local folders. An output is written into one under the cache and uploaded while the stage runs: data first, then
what describes it, so that nothing there is called finished whose data is not there. An input is copied to the same place before
it is read, and only what has changed since.
"""

import contextlib
import logging
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from phf.credentials import scrubbed
from phf.errors import InputError
from phf.object_store.filesystems import filesystem_of, said
from phf.object_store.mirror import Mirror as Mirror

_EVERY = 30.0  # seconds between two uploads while a stage runs
_log = logging.getLogger("phf")
_active: dict[Path, Mirror] = {}


def is_address(name: str | Path) -> bool:
    """Return whether an input or output is on an object store."""
    return re.match(r"[A-Za-z][\w+.-]*://", str(name)) is not None


@contextlib.contextmanager
def output(target: str | Path, keep: str = "*") -> Iterator[Path]:
    """Yield the folder to write an output into: `target` itself, or a local one for an address, uploaded as it grows.

    What is there already is copied first, so that a stage resumes on any machine. Uploads happen twice a minute, and at the end,
    also of a stage that failed or was stopped.

    Args:
        target: a path, or an address such as s3://bucket/annotated.
        keep: pattern of the files to keep here as well; others are deleted here once they are uploaded.

    Raises:
        InputError: for an address that holds a secret or cannot be used, or to which somebody else has written meanwhile.
    """
    if not is_address(target):
        yield Path(target)
        return
    mirror = Mirror(str(target), keep)
    mirror.pull()
    if os.environ.get("RANK", "0") != "0":  # torchrun: one process uploads
        yield mirror.folder
        return
    _active[mirror.folder] = mirror
    ended = threading.Event()

    def upload() -> None:
        while not ended.wait(_EVERY):
            try:
                mirror.push()
            except Exception as error:  # said at the end, where the stage can hear it
                _log.warning("%s: not uploaded yet: %s", target, scrubbed(str(error)))

    thread = threading.Thread(target=upload, daemon=True)
    thread.start()
    try:
        yield mirror.folder
    finally:
        ended.set()
        thread.join()
        del _active[mirror.folder]
        mirror.push()


def local_copy(target: str | Path) -> Path:
    """Return an input's folder or file: `target` itself, or for an address a copy in the cache, brought up to date.

    Raises:
        InputError: for an address that holds a secret, cannot be used, or has nothing.
    """
    if not is_address(target):
        return Path(target)
    mirror = Mirror(str(target))
    mirror.pull()
    if not any(mirror.folder.iterdir()):
        raise InputError(f"{target}: nothing there; expected an output of phf")
    return mirror.folder


def size_of(path: Path) -> int | None:
    """Return the bytes of a file of an output, here or on the object store that it is uploaded to; None if it is missing."""
    if path.is_file():
        return path.stat().st_size
    found = _mirror_of(path)
    return found[0].uploaded.get(found[1]) if found else None


def names_in(folder: Path) -> set[str]:
    """Return the names of the files of an output's folder, here or on the object store that it is uploaded to."""
    names = {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set()
    found = _mirror_of(folder)
    if found:
        prefix = "" if found[1] == "." else f"{found[1]}/"
        inside = (name.removeprefix(prefix) for name in found[0].uploaded if name.startswith(prefix))
        names |= {name for name in inside if "/" not in name}
    return names


def address_of(path: Path) -> str | None:
    """Return the address that a file of an output is uploaded to, if it is."""
    found = _mirror_of(path)
    return f"{found[0].address}/{found[1]}" if found else None


def note_uploaded(path: Path, size: int) -> None:
    """Note that another process has uploaded a file of an output to its `address_of`."""
    found = _mirror_of(path)
    assert found, path
    found[0].note_uploaded(found[1], size)


def fetch_missing(folder: Path) -> None:
    """Copy what other processes have uploaded of an output's folder to where it is read."""
    found = _mirror_of(folder)
    if found:
        found[0].fetch(found[1])


def upload_file(path: Path, address: str) -> None:
    """Upload one file, whole or not at all."""
    filesystem, key = filesystem_of(address)
    with said(address):
        filesystem.put_file(str(path), key)


def _mirror_of(path: Path) -> tuple[Mirror, str] | None:
    """Return the mirror that a path is in, and its name there."""
    path = path.absolute()
    for folder, mirror in _active.items():
        if path.is_relative_to(folder):
            return mirror, path.relative_to(folder).as_posix()
    return None
