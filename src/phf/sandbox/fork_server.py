"""The sandbox's server: a small process that forks sandboxed ones, isolated before they read a byte, and kills them.

It is started fresh, without the caller's memory, environment or open files, has loaded what sandboxed programs may import, and
never sees a program or a test: each sandboxed process reads those itself from a channel of its own. So what a program can find in
its memory is this file and the standard library.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

from phf.sandbox import guest, isolation

IMPORTABLE = (  # noqa: SIM905
    "abc array ast base64 binascii bisect calendar cmath codecs collections.abc contextlib copy csv ctypes dataclasses datetime "
    "decimal difflib doctest enum fractions functools gc getpass glob graphlib hashlib heapq hmac html inspect io itertools json "
    "keyword linecache locale logging math numbers operator os pathlib pickle pprint queue random re resource sched secrets "
    "select shutil signal socket stat statistics string struct subprocess tempfile textwrap threading time timeit token tokenize "
    "traceback types typing unicodedata unittest urllib.parse uuid warnings weakref zlib zoneinfo _strptime encodings.ascii "
    "encodings.latin_1 encodings.cp1252 encodings.utf_8_sig encodings.utf_16 encodings.utf_16_le encodings.utf_16_be "
    "encodings.utf_32 encodings.idna encodings.punycode encodings.rot_13 encodings.hex_codec encodings.base64_codec"
).split()
"""What a sandboxed program can import: loaded beforehand, since it cannot open a file."""


def main(layers: list[str]) -> None:
    """Serve the caller on descriptor 0.

    It sends JSON: {"start": id, "role", "memory", "seconds"} together with a channel, or {"kill": id}.
    """
    for name in IMPORTABLE:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    control = socket.socket(fileno=os.dup(0))
    nowhere = os.open("/dev/null", os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    if "namespaces" in layers and isolation.enter_namespaces():
        child = os.fork()  # the first process inside; with it all others go
        if child:
            control.close()
            os.waitpid(child, 0)
            return
    isolation.bind_to_parent()
    try:
        _serve(control, layers)
    finally:
        os._exit(0)


def _serve(control: socket.socket, layers: list[str]) -> None:
    control.send(b"ready")
    running: dict[int, tuple[int, float]] = {}  # by id: process, and when it is killed
    while True:
        soonest = min((deadline for _, deadline in running.values()), default=None)
        wait = None if soonest is None else min(max(0.0, soonest - time.monotonic()), 0.2)
        if select.select([control], [], [], wait)[0]:
            data, channels, _, _ = socket.recv_fds(control, 4096, 1)
            if not data:
                break
            message = json.loads(data)
            if "kill" in message:
                _kill(running, message["kill"])
            else:
                pid = _start(message, channels[0], layers)
                os.close(channels[0])
                running[message["start"]] = (pid, time.monotonic() + message["seconds"])
        for job, (_, deadline) in list(running.items()):
            if time.monotonic() > deadline:
                _kill(running, job)
        _reap(running)
    for job in list(running):
        _kill(running, job)


def _start(message: dict[str, Any], channel: int, layers: list[str]) -> int:
    """Fork a sandboxed process."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        os.dup2(channel, guest.CHANNEL)
        os.closerange(guest.CHANNEL + 1, os.sysconf("SC_OPEN_MAX"))
        sys.setrecursionlimit(1000)
        isolation.lock(layers, message["memory"], message["seconds"])
        guest.ROLES[message["role"]]()
    finally:
        os._exit(0)


def _kill(running: dict[int, tuple[int, float]], job: int) -> None:
    if job in running:
        pid, _ = running.pop(job)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _reap(running: dict[int, tuple[int, float]]) -> None:
    """Forget those that ended by themselves."""
    by_process = {pid: job for job, (pid, _) in running.items()}
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            running.pop(by_process.get(found[0], -1), None)
