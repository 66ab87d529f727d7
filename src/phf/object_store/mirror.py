"""A local folder and its copy on an object store."""

import contextlib
import json
import logging
import os
import re
import threading
import uuid
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from phf import artifacts
from phf.checksums import CHECKSUMS
from phf.errors import InputError
from phf.object_store.filesystems import checked, filesystem_of, said, version

LISTING = ".phf-files.json"
"""The object, beside an output's files, that lists them; what is not listed is not whole."""

_DESCRIBING = ("journal.jsonl", "evaluations.json", "records.jsonl", "config.yaml", "recipe.yaml", "phf.json", "meta.json")
# Checksums come after the files that they are of: one of a file that is not there yet, or longer, would contradict it.
_LAST = (*_DESCRIBING, "manifest.json", "index.html", CHECKSUMS)
_log = logging.getLogger("phf")


class Mirror:
    """A local folder and the address that it is a copy of.

    Args:
        address: without user, password and query.
        keep: pattern of the files that are kept here.

    Attributes:
        folder: the local one, in PHF_CACHE or the user's cache.
        uploaded: size of each file that is at the address.
    """

    def __init__(self, address: str, keep: str = "*") -> None:
        self.address = checked(address).rstrip("/")
        self._keep = keep
        self._filesystem, self._root = filesystem_of(self.address)
        self.folder = _cache() / _folder_name(self.address)
        self._notes = self.folder.with_name(f"{self.folder.name}.json")
        self._lock = threading.Lock()
        self._writer = uuid.uuid4().hex
        self._seen_writer: str | None = None
        self.uploaded: dict[str, int] = {}
        self._same: dict[str, list[Any]] = {}  # by name: size and time here, and version there, when both were the same

    def pull(self) -> None:
        """Copy from the address what is not here, or has changed there; what only this machine has stays."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with artifacts.alone(self._notes.with_suffix(".lock")):  # of the processes of torchrun, one copies
            self._pull()

    def _pull(self) -> None:
        self._same = artifacts.read_json(self._notes) if self._notes.exists() else {}
        with said(self.address):
            there = self._there()
            listing = self._listing()
        self._seen_writer = listing["writer"] if listing else None
        names = [name for name in there if listing is None or name in listing["files"]]
        self.uploaded = {name: there[name][0] for name in names}
        changed = [name for name in names if self._is_changed(name, there[name][1]) and fnmatch(name, self._keep)]
        if changed:
            total = sum(there[name][0] for name in changed)
            _log.info("%s: copying %d files, %.1f MB, to %s", self.address, len(changed), total / 1e6, self.folder)
        for name in filter(_is_last, changed):  # what is half copied must not look whole
            (self.folder / name).unlink(missing_ok=True)
        for name in sorted(changed, key=_is_last):
            self._download(name, there[name])
        for name in set(self._same) - set(names):
            (self.folder / name).unlink(missing_ok=True)  # deleted there
            del self._same[name]
        artifacts.write_json(self._notes, self._same)

    def push(self) -> None:
        """Upload what has changed here: data first, what describes it last, and delete there what was deleted here.

        Raises:
            InputError: if another process has written to the address since.
        """
        with self._lock, said(self.address):
            listing = self._listing()
            if (listing["writer"] if listing else None) != self._seen_writer:
                raise InputError(
                    f"{self.address}: another process has written there meanwhile; what this one has is in {self.folder}"
                )
            # Read before the data is listed: what is finished later describes data that is not uploaded yet.
            late = {name: self._read(name) for name in self._local() if _is_last(name) and self._is_new(name)}
            names = self._local()
            data = [name for name in names if not _is_last(name) and self._is_new(name)]
            gone = [name for name in self._same if name not in names and fnmatch(name, self._keep)]
            if not (late or data or gone) and listing:
                return
            self._write_listing()  # also: whoever finds a file there before the end knows that it may not be whole
            for name in data:
                self._upload(name)
            for name in sorted(late, key=lambda name: _LAST.index(Path(name).name)):
                self._upload_bytes(name, *late[name])
            for name in gone:
                del self._same[name]
                self.uploaded.pop(name, None)
            self._write_listing()
            for name in gone:
                if self._filesystem.exists(f"{self._root}/{name}"):
                    self._filesystem.rm_file(f"{self._root}/{name}")
            artifacts.write_json(self._notes, self._same)

    def note_uploaded(self, name: str, size: int) -> None:
        """Note a file that another process has uploaded."""
        with self._lock:
            self.uploaded[name] = size

    def fetch(self, folder: str) -> None:
        """Copy the files of a folder that are only at the address."""
        with self._lock, said(self.address):
            there = self._there()
            for name in self.uploaded:
                if name.startswith(f"{folder}/") and not (self.folder / name).exists():
                    self._download(name, there[name])

    def _there(self) -> dict[str, tuple[int, str]]:
        """Return size and version of every file at the address."""
        self._filesystem.invalidate_cache()
        try:
            found = self._filesystem.find(self._root, detail=True)
        except FileNotFoundError:
            return {}
        names = {path[len(self._root) :].lstrip("/"): about for path, about in found.items()}
        return {name: (about["size"], version(about)) for name, about in names.items() if name and name != LISTING}

    def _listing(self) -> dict[str, Any] | None:
        self._filesystem.invalidate_cache()
        try:
            found: dict[str, Any] = json.loads(self._filesystem.cat_file(f"{self._root}/{LISTING}"))
        except FileNotFoundError:
            return None
        return found

    def _write_listing(self) -> None:
        content = {"writer": self._writer, "files": self.uploaded}
        self._filesystem.pipe_file(f"{self._root}/{LISTING}", json.dumps(content, indent=1).encode())
        self._seen_writer = self._writer

    def _local(self) -> list[str]:
        paths = sorted(self.folder.rglob("*"))
        names = [path.relative_to(self.folder) for path in paths if path.is_file()]
        return [name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts)]

    def _is_changed(self, name: str, version: str) -> bool:
        known, path = self._same.get(name), self.folder / name
        return known is None or known[2] != version or not path.exists()

    def _download(self, name: str, about: tuple[int, str]) -> None:
        path = self.folder / name
        with artifacts.whole_file(path, copied=True) as temporary:
            self._filesystem.get_file(f"{self._root}/{name}", str(temporary))
        self._same[name] = [*_here(path), about[1]]

    def _is_new(self, name: str) -> bool:
        """Return whether a file here is not at the address, or not as it is here."""
        with contextlib.suppress(FileNotFoundError):
            return self._same.get(name, [None, None])[:2] != _here(self.folder / name)
        return False

    def _read(self, name: str) -> tuple[bytes, list[int]]:
        about = _here(self.folder / name)
        return (self.folder / name).read_bytes(), about

    def _upload(self, name: str) -> None:
        path = self.folder / name
        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile, as old states are
            about = _here(path)
            self._filesystem.put_file(str(path), f"{self._root}/{name}")
            self._note(name, about)
            if not fnmatch(name, self._keep):
                path.unlink()

    def _upload_bytes(self, name: str, content: bytes, about: list[int]) -> None:
        self._filesystem.pipe_file(f"{self._root}/{name}", content)
        self._note(name, about)

    def _note(self, name: str, about: list[int]) -> None:
        self.uploaded[name] = about[0]
        self._filesystem.invalidate_cache()
        self._same[name] = [*about, version(self._filesystem.info(f"{self._root}/{name}"))]


def _is_last(name: str) -> bool:
    return Path(name).name in _LAST


def _here(path: Path) -> list[int]:
    about = path.stat()
    return [about.st_size, about.st_mtime_ns]


def _cache() -> Path:
    folder = os.environ.get("PHF_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "phf"
    return Path(folder).absolute() / "object-stores"


def _folder_name(address: str) -> str:
    """Return a folder's name for an address; buckets of one name at different servers are different."""
    server = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', address)[-80:].lstrip('.')}-{artifacts.fingerprint([address, server])}"
