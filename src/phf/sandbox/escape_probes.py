"""What must not be possible in the sandbox: small programs that try it, each harmless if it succeeds."""

import contextlib
import os
import platform
import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_KEYCTL = 219 if platform.machine() == "aarch64" else 250


class Decoys:
    """What probes reach for: a file of ours to read and change, a folder to write in, a port that listens, our process.

    Args:
        memory: bytes that a sandboxed process may hold.
    """

    def __init__(self, memory: int) -> None:
        self._memory = memory

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="phf-decoy-")))
        folder.chmod(0o777)
        canary = folder / "canary"
        canary.write_text("canary")
        canary.chmod(0o666)
        listening = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.named: dict[str, Any] = {
            "canary": str(canary), "folder": str(folder), "port": listening.getsockname()[1], "process": os.getpid(),
            "memory": self._memory,
        }  # fmt: skip
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()


def _attempt(body: str) -> str:
    """Return a program whose function `attempt(decoys)` returns True if the body gets to its end."""
    lines = "\n".join(f"        {line}" for line in body.strip().splitlines())
    return (
        f"import ctypes, os, socket, signal, subprocess, sys\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"def attempt(decoys):\n    try:\n{lines}\n        return True\n    except BaseException:\n        return False\n"
    )


PROBES = {
    what: _attempt(body)
    for what, body in {
        "read a file": "open(decoys['canary']).read()",
        "read a system file": "open('/etc/hostname').read()",
        "list a folder": "os.listdir('/')",
        "write outside its folder": "open(decoys['folder'] + '/made', 'w').close()",
        "write in its folder": "open('made', 'w').close()",
        "change a file's rights": "os.chmod(decoys['canary'], 0o600)",
        "make a link": "os.symlink(decoys['canary'], decoys['folder'] + '/link')",
        "reach a port of this machine": "socket.create_connection(('127.0.0.1', decoys['port']), 2)",
        "open a port": "socket.create_server(('127.0.0.1', 0))",
        "open a datagram socket": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', decoys['port']))",
        "start a process": "child = os.fork()\nif child == 0: os._exit(0)",
        "start a program": "assert subprocess.run(['/bin/true']).returncode == 0",
        "signal the process that started it": "os.kill(os.getppid(), 0)",
        "signal another process": "os.kill(decoys['process'], 0)",
        "signal every process": "os.kill(-1, 0)",
        # SEIZE, since ATTACH would stop the process; the hold ends with the one that has it.
        "trace a process": "assert libc.ptrace(0x4206, decoys['process'], 0, 0) == 0",
        "read another process's memory": "open(f\"/proc/{decoys['process']}/mem\", 'rb')",
        "read another process's environment": "open(f\"/proc/{os.getppid()}/environ\", 'rb').read()",
        "take more memory than its limit": "held = bytearray(decoys['memory'] + (1 << 26))",
        "use a right of root": "os.chroot('/')",
        "fill a file in memory": "os.ftruncate(os.memfd_create('filled'), 1)",
        # IPC_PRIVATE: nobody else's; removed at once.
        "share System V memory": "held = libc.shmget(0, 4096, 0o1600)\nassert held >= 0\nlibc.shmctl(held, 0, 0)",
        # KEYCTL_GET_KEYRING_ID of the session's keyring, which is the caller's.
        "reach the caller's keyring": f"assert libc.syscall({_KEYCTL}, 0, -3, 0) != -1",
    }.items()
}  # fmt: skip
"""By what each shows to be possible."""
