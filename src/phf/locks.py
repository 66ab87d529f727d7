"""Locks on output folders: one process works on a folder at a time, and a second one gets an error that names the first."""

import contextlib
import functools
import getpass
import inspect
import json
import logging
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import filelock

from phf.errors import InputError

log = logging.getLogger("phf")

LOCK, OWNER = ".lock", ".lock.json"
"""Files in a locked folder: the lock itself, and who holds it. Both are gone when nobody works there."""

_ATTEMPTS = 50
"""Times to try again when the process that worked here removes the folder or the lock at the same moment."""

P = ParamSpec("P")
R = TypeVar("R")


class InUse(InputError):
    """Another process works on the folder."""


@contextlib.contextmanager
def exclusive(folder: Path, task: str) -> Iterator[None]:
    """Hold the lock of a folder, which is created, and removed again if nothing was written to it.

    The kernel releases the lock when its process ends, however it ends, so no lock outlives its process. On file systems
    without such locks (`flock`) a lock file takes their place: it names host and process, and is taken over when that
    process of this host is gone; one that a lost host left has to be deleted by hand.

    Args:
        folder: the folder to work on.
        task: what is done there, such as "annotate", for the message to others.

    Raises:
        InUse: if another process holds the lock; the message says which, of whom, where and since when.
        InputError: if `folder`, or what it is to be in, is a file.
    """
    _check_is_no_file(folder)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    lock = _acquire(folder)
    try:
        _take_over(folder, task)
        yield
    finally:
        for name in (OWNER, LOCK):  # while the lock is held: whoever waits for the deleted file sees that it is deleted
            with contextlib.suppress(OSError):
                (folder / name).unlink(missing_ok=True)
        lock.release()
        with contextlib.suppress(OSError):  # not empty: there is work in it
            for path in missing:
                path.rmdir()


def locks_output(task: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator for a stage: its argument `out` is the folder that it locks while it works.

    Of several processes that `torchrun` starts for one run, the first holds the lock for all.
    """

    def decorate(stage: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(stage)

        @functools.wraps(stage)
        def locked(*args: P.args, **kwargs: P.kwargs) -> R:
            if os.environ.get("RANK", "0") != "0":
                return stage(*args, **kwargs)
            with exclusive(Path(signature.bind(*args, **kwargs).arguments["out"]), task):
                return stage(*args, **kwargs)

        return locked

    return decorate


def owner(folder: Path) -> dict[str, Any] | None:
    """Return who works on a folder (task, pid, user, host, since), or None if nobody does."""
    about = _read_owner(folder)
    if about is None:
        return None
    lock = filelock.FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return about
    except OSError:
        return None
    lock.release()
    return None


def _check_is_no_file(folder: Path) -> None:
    """Look once: at a second look the folder may be gone, removed by the process that worked there."""
    try:
        mode = folder.stat().st_mode
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise InputError(f"{folder}: a part of this path is a file; expected a folder to write to") from None
    if not stat.S_ISDIR(mode):
        raise InputError(f"{folder}: is a file; expected a folder to write to")


def _acquire(folder: Path) -> filelock.BaseFileLock:
    lock = filelock.FileLock(folder / LOCK)
    for attempt in range(_ATTEMPTS):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
            return lock
        except filelock.Timeout:
            about = _read_owner(folder)
            if _has_ended(about):  # killed: a child that it had just forked holds the lock until its own program starts
                time.sleep(0.1)
            elif about is not None or attempt == _ATTEMPTS - 1:
                raise InUse(_describe(folder, about)) from None
        except (FileNotFoundError, FileExistsError):  # its last worker has just removed the folder, perhaps within mkdir
            if attempt == _ATTEMPTS - 1:
                raise
        time.sleep(0.01)
    raise InUse(_describe(folder, _read_owner(folder)))


def _has_ended(about: dict[str, Any] | None) -> bool:
    """Return whether the owner of a lock was a process of this host that is gone."""
    if about is None or about.get("host") != socket.gethostname() or not isinstance(about.get("pid"), int):
        return False
    try:
        os.kill(about["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def _take_over(folder: Path, task: str) -> None:
    """Write who holds the lock now."""
    if (before := _read_owner(folder)) is not None:
        who = (before.get(key, "?") for key in ("task", "pid", "host"))
        log.info("%s: `phf %s` (process %s on %s) was killed here; its work is resumed", folder, *who)
    about = {
        "task": task,
        "pid": os.getpid(),
        "user": _user(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    (folder / OWNER).write_text(json.dumps(about), encoding="utf-8")


def _read_owner(folder: Path) -> dict[str, Any] | None:
    try:
        about = json.loads((folder / OWNER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return about if isinstance(about, dict) else None


def _describe(folder: Path, about: dict[str, Any] | None) -> str:
    if about is None:
        who = "another process, which left no name,"
    else:
        task, pid, user, host, since = (about.get(key, "?") for key in ("task", "pid", "user", "host", "since"))
        who = f"`phf {task}` (process {pid} of {user} on {host}, since {since})"
    return f"{folder}: {who} is at work in this folder. Wait until it ends, stop it, or choose another output folder"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return str(os.getuid()) if hasattr(os, "getuid") else "?"
