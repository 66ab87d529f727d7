"""Checksums of outputs: `checksums.json` in each output folder says what every file was when it was written.

Sizes and small files are checked whenever an output is opened. Large files are checked by whoever reads them from end to end
anyway, by `phf check`, and in the background while a model is trained on them. A folder without `checksums.json`, such as one of
an earlier version of phf, is read unchecked.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from phf.errors import InputError

CHECKSUMS = "checksums.json"
"""The file with the checksums of the other files of its folder."""
SMALL = 2**20
"""Files of at most so many bytes are checked whenever an output is opened."""
_AT_ONCE = 2**22


class Damaged(InputError):
    """A file is no longer what was written."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a file was when it was written.

    Args:
        bytes: its size.
        blake2b: BLAKE2b of 16 bytes, in hex.
        grows: whether lines are appended to it: then it is a checksum of its first bytes.
        former: that of the file which it is about to replace; either is right until then.
    """

    bytes: int
    blake2b: str
    grows: bool = False
    former: "Checksum | None" = None

    @classmethod
    def of(cls, path: Path, grows: bool = False) -> "Checksum":
        """Return the checksum of a file as it is now, read in pieces."""
        with path.open("rb") as file:
            digest = hashlib.blake2b(digest_size=16)
            size = sum(_update(digest, piece) for piece in _pieces(file))
        return cls(size, digest.hexdigest(), grows)

    def problem(self, path: Path, complete: bool = True, on_piece: Callable[[float], object] | None = None) -> str:
        """Compare a file with its checksum.

        Args:
            path: the file.
            complete: whether to read a file that is not small, too; else its size alone is compared.
            on_piece: called after each piece of the file with the seconds that it took.

        Returns:
            What is wrong, "" if nothing is.
        """
        if self.former is not None and not self.former.problem(path, complete, on_piece):
            return ""
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return "missing"
        if size < self.bytes or (size > self.bytes and not self.grows):
            return f"damaged: it has {size:,} bytes, but {self.bytes:,} were written"
        if not complete and self.bytes > SMALL:
            return ""
        with path.open("rb") as file:
            digest, start = hashlib.blake2b(digest_size=16), time.perf_counter()
            for piece in _pieces(file, self.bytes):
                digest.update(piece)
                if on_piece is not None:
                    on_piece(time.perf_counter() - start)
                    start = time.perf_counter()
        return "" if digest.hexdigest() == self.blake2b else "damaged: it has the size, but not the checksum, of what was written"


def verify(path: Path) -> None:
    """Check a file against its checksum, if one is recorded; one that has not changed since this process checked it is not read.

    Raises:
        Damaged: if it is not what was written.
    """
    checksum = read(path.parent).get(path.name)
    if checksum is not None and path.exists():
        _verify(path, checksum)


def verify_folder(folder: Path) -> None:
    """Check every file of an output that has a checksum, from end to end; those that `verify` has checked already are not read.

    Raises:
        Damaged: if one is missing or not what was written, naming it.
    """
    for name, checksum in read(folder).items():
        _verify(folder / name, checksum)


def check_folder(folder: Path) -> None:
    """Check that every file of an output that has a checksum is there with its size, and what the small ones hold.

    Raises:
        Damaged: if one is missing or not what was written, naming it.
    """
    for name, checksum in read(folder).items():
        _raise(folder / name, checksum.problem(folder / name, complete=False))


def folders(parent: Path) -> Iterator[Path]:
    """Yield a folder and those inside it that have checksums, without what is being written."""
    yield from (path.parent for path in _files(parent) if path.name == CHECKSUMS)


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check of outputs came to.

    Args:
        folders: that have checksums.
        files: compared, the damaged among them.
        bytes: of them.
        damaged: what is wrong, by file.
        unchecked: files without a checksum: logs, pages, and what an earlier version of phf wrote.
    """

    folders: int
    files: int
    bytes: int
    damaged: dict[Path, str]
    unchecked: list[Path]


def check_all(parent: Path) -> Checked:
    """Compare every file of an output, or of all outputs in a folder, with its checksum, from end to end.

    Raises:
        InputError: if there is no such folder, or nothing in it has a checksum.
    """
    if not parent.is_dir():
        raise InputError(f"{parent}: no such folder; expected one that phf wrote, or one that holds such folders")
    known: dict[Path, Checksum] = {}
    damaged: dict[Path, str] = {}
    outputs = list(folders(parent))
    for folder in outputs:
        try:
            known |= {folder / name: checksum for name, checksum in read(folder).items()}
        except Damaged:
            damaged[folder / CHECKSUMS] = "damaged: not what phf wrote"
    if not outputs:
        raise InputError(f"{parent}: no {CHECKSUMS} in it, so nothing to compare with; outputs of earlier versions have none")
    damaged |= {path: problem for path, checksum in known.items() if (problem := checksum.problem(path))}
    sizes = [path.stat().st_size for path in known if path.is_file()]
    others = [path for path in _files(parent) if path not in known and path.name != CHECKSUMS]
    return Checked(len(outputs), len(known), sum(sizes), damaged, others)


def _files(parent: Path) -> Iterator[Path]:
    """Yield the files of a folder and those inside it, without locks and what is being written."""
    for path, inside, files in os.walk(parent):
        inside[:] = sorted(name for name in inside if not (name.startswith(".") and name.endswith(".tmp")))
        yield from (Path(path) / name for name in sorted(files) if not name.startswith(".") and not name.endswith(".lock"))


def read(folder: Path) -> dict[str, Checksum]:
    """Return the checksums of a folder's files, by name; none if it has no `checksums.json`.

    Raises:
        Damaged: if that file itself is not what was written.
    """
    path = folder / CHECKSUMS
    try:
        content = json.loads(path.read_bytes())
        if content.pop("blake2b") != _own(content):
            raise ValueError("its checksum differs")
        return {name: _parse(fields) for name, fields in content["files"].items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Damaged(
            f"{path}: damaged: not what phf wrote; restore it from a copy, or delete it, and its folder is read unchecked"
        ) from None


def replace(temporary: Path, path: Path, recorded: bool = False, grows: bool = False) -> None:
    """Rename a file that is written to the end. At no moment, even if this process is killed, does its checksum contradict it.

    Args:
        temporary: the file.
        path: its new name.
        recorded: whether its checksum is to be recorded; that of a file that has one already always is.
        grows: whether lines are appended to it.
    """
    known = read(path.parent)
    if not recorded and path.name not in known:
        temporary.replace(path)
        return
    new = Checksum.of(temporary, grows)
    if path.name in known and path.exists():
        former = known[path.name]
        write(path.parent, {**known, path.name: Checksum(new.bytes, new.blake2b, grows, former)})
    temporary.replace(path)
    write(path.parent, {**known, path.name: new})


def record(path: Path, grows: bool = False) -> None:
    """Record the checksum of a file as it is now.

    Args:
        path: the file; what is recorded of it must not be about to change.
        grows: whether lines are appended to it.
    """
    write(path.parent, {**read(path.parent), path.name: Checksum.of(path, grows)})


def record_folder(folder: Path) -> None:
    """Record the checksum of every file of a folder that is written to the end, inner folders included."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CHECKSUMS)
    write(folder, {path.relative_to(folder).as_posix(): Checksum.of(path) for path in files})


def write(folder: Path, checksums: Mapping[str, Checksum]) -> None:
    """Write the checksums of a folder's files, in place of those that were recorded."""
    content: dict[str, Any] = {"files": {name: _fields(checksum) for name, checksum in sorted(checksums.items())}}
    text = json.dumps(content | {"blake2b": _own(content)}, indent=2, ensure_ascii=False) + "\n"
    temporary = folder / f".{CHECKSUMS}.tmp"
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / CHECKSUMS)
    finally:
        temporary.unlink(missing_ok=True)


def forget(folder: Path) -> None:
    """Delete the checksums of a folder's files, before many processes write them anew."""
    with contextlib.suppress(FileNotFoundError):
        (folder / CHECKSUMS).unlink()


def describe(path: Path, problem: str) -> str:
    """Return the message for a file that is damaged or missing, with what to do."""
    return (
        f"{path}: {problem}. Restore it from a copy, or delete the output and make it again; if it was changed on purpose, "
        f"delete {path.with_name(CHECKSUMS)}, and the folder is read unchecked"
    )


_verified: set[tuple[Any, ...]] = set()


def _verify(path: Path, checksum: Checksum) -> None:
    about = path.stat() if path.exists() else None
    state = (path, checksum, about and (about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino))
    if state not in _verified:
        _raise(path, checksum.problem(path))
        _verified.add(state)


def _raise(path: Path, problem: str) -> None:
    if problem:
        raise Damaged(describe(path, problem))


def _update(digest: Any, piece: bytes) -> int:
    digest.update(piece)
    return len(piece)


def _pieces(file: BinaryIO, limit: int | None = None) -> Iterable[bytes]:
    """Yield the first bytes of a file, piece by piece."""
    left = limit
    while piece := file.read(_AT_ONCE if left is None else min(_AT_ONCE, left)):
        left = None if left is None else left - len(piece)
        yield piece


def _own(content: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def _fields(checksum: Checksum) -> dict[str, Any]:
    fields: dict[str, Any] = {"bytes": checksum.bytes, "blake2b": checksum.blake2b}
    if checksum.grows:
        fields["grows"] = True
    return fields if checksum.former is None else fields | {"former": _fields(checksum.former)}


def _parse(fields: dict[str, Any]) -> Checksum:
    former = fields.get("former")
    return Checksum(fields["bytes"], fields["blake2b"], fields.get("grows", False), _parse(former) if former else None)
