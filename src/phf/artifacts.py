"""Outputs that are whole or absent: atomic writes, and the comparison of what an output was made from."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phf import checksums
from phf.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_OF_RUST = re.compile(r"\(os error (\d+)\)")
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")  # what numpy says, without an errno


@contextlib.contextmanager
def whole_file(path: Path, recorded: bool = False, grows: bool = False, copied: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to `path` when the block succeeds and deleted when it does not.

    Args:
        path: the file.
        recorded: whether its checksum is recorded beside it; that of a file that has one already always is.
        grows: whether lines are going to be appended to it: then the checksum is one of its first bytes.
        copied: whether it is a copy of a file whose checksum is copied too: then that one stays, so that damage is noticed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with _naming(path):
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o666 & ~_umask())
            if copied:
                temporary.replace(path)
            else:
                checksums.replace(temporary, path, recorded, grows)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_directory(path: Path, checksummed: bool = True) -> Iterator[Path]:
    """Yield a temporary directory beside `path`, renamed to `path` when the block succeeds and deleted when it does not.

    A directory that is already at `path` is replaced. The modes of its files are those of the umask, whatever wrote them.

    Args:
        path: of the directory.
        checksummed: whether the checksums of its files are recorded in it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        with _naming(path):
            yield temporary
            if checksummed:
                checksums.record_folder(temporary)
        mask = _umask()
        for inside in (temporary, *temporary.rglob("*")):
            inside.chmod((0o777 if inside.is_dir() else 0o666) & ~mask)
        if path.exists():
            old = _hide(path)
            temporary.replace(path)
            shutil.rmtree(old)
        else:
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Run the block in one process at a time, of all that name the same `lock` file; the others wait.

    The kernel releases the lock when its process dies. Where there are no such locks (Windows), nobody waits.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("ab") as file:
        try:
            import fcntl
        except ImportError:
            pass
        else:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_directory(path: Path) -> None:
    """Delete a directory; a process killed meanwhile leaves it whole or absent."""
    shutil.rmtree(_hide(path))


def _hide(path: Path) -> Path:
    """Move a directory into a temporary one beside it, which `sweep` would delete."""
    hidden = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old.tmp", dir=path.parent))
    path.replace(hidden / path.name)
    return hidden


def sweep(directory: Path, prefix: str = "") -> None:
    """Delete what a killed process left unfinished directly under `directory`, of outputs whose names begin with `prefix`."""
    for leftover in directory.glob(f".{prefix}*.tmp"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def whole_lines(path: Path, cut: bool = False) -> list[bytes]:
    """Return the lines of a file that is appended to, without line ends; [] if there is no such file.

    Bytes after the last line end are what a killed process left of a line: they are not a line.

    Args:
        path: the file.
        cut: also truncate the file after its last whole line, so that the next line can be appended.

    Raises:
        InputError: if its checksum is recorded, and it is another one now.
    """
    if not path.exists():
        return []
    checksums.verify(path)
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if cut and whole < len(content):
        os.truncate(path, whole)
    return content[:whole].split(b"\n")[:-1]


def write_json(path: Path, value: Any, recorded: bool = False) -> None:
    """Write `value` as indented JSON, atomically; see `whole_file`."""
    with whole_file(path, recorded) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_table(path: Path, table: "pa.Table") -> None:
    """Write a table as Parquet, atomically, with its checksum recorded; see `whole_file`."""
    import pyarrow.parquet as pq

    with whole_file(path, recorded=True) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_json(path: Path) -> Any:
    """Read a JSON file that phf wrote.

    Raises:
        InputError: if it is missing, is not JSON, or is not what was written.
    """
    checksums.verify(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found; {path.parent} is not a finished phf output") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); delete {path.parent} and make it again") from None


def read_object(path: Path, *keys: str) -> dict[str, Any]:
    """Read a JSON object that phf wrote.

    Args:
        path: the file.
        keys: that it must have.

    Raises:
        InputError: as `read_json` does, or if it is no object, or lacks a key.
    """
    value = read_json(path)
    lacking = [key for key in keys if not isinstance(value, dict) or key not in value]
    if lacking or not isinstance(value, dict):
        reason = f"it has no {lacking[0]!r}" if isinstance(value, dict) else f"it holds a {type(value).__name__}, no object"
        raise InputError(
            f"{path}: not what phf wrote ({reason}); restore it from a copy, or delete {path.parent} and make it again"
        )
    return value


def fingerprint(value: Any) -> str:
    """Return 16 hex digits that change when `value` (anything JSON can hold) changes."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def check_unchanged(where: Path, made_from: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compare what an output was made from with what it would be made from now.

    Raises:
        InputError: if they differ, naming every key that does, with both values.
    """
    found = list(differences(made_from, wanted))
    if found:
        shown = "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")
        raise InputError(
            f"{where}: already made from something else: {shown}. "
            "Choose another output folder, delete this one, or undo the change"
        )


def differences(old: Any, new: Any, key: str = "") -> Iterator[str]:
    """Yield every key in which two configurations differ, with both values."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in [*old, *(name for name in new if name not in old)]:
            yield from differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif old != new:
        yield f"{key} was {json.dumps(old, ensure_ascii=False)}, now {json.dumps(new, ensure_ascii=False)}"


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn what libraries raise when a disk is full, or a file or quota at its limit, into one line that names the output."""
    try:
        yield
    except Exception as error:
        numbers = {getattr(error, "errno", None)}
        if type(error) is Exception:  # tokenizers raises no narrower class
            numbers |= {int(number) for number in _OF_RUST.findall(str(error))}
        is_short = isinstance(error, OSError) and _SHORT_WRITE.search(str(error))
        if numbers.isdisjoint(_FULL) and not is_short:
            raise
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: could not be written: the disk is full, or a limit is reached ({reason}); nothing is left of it. "
            "Free space, or raise the limit, and run the same command again: what was finished before is whole"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
