"""Sandbox for untrusted code: processes without network, files, children or a way to reach others, and with limits.

`Sandbox` starts them; `check` tries everything that must not be possible and refuses when any of it is. How they are isolated
is in `isolation`, what they do in `guest`; the test and the program tested are always in two of them.
"""

import contextlib
import functools
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

from phf.errors import InputError
from phf.sandbox import guest
from phf.sandbox.escape_probes import PROBES, Decoys
from phf.sandbox.guest import BROKEN as BROKEN
from phf.sandbox.guest import CALL as CALL
from phf.sandbox.guest import PASSED as PASSED
from phf.sandbox.guest import READY as READY
from phf.sandbox.guest import REFUSED as REFUSED
from phf.sandbox.isolation import LAYERS
from phf.sandbox.wire_format import pack as pack
from phf.sandbox.wire_format import unpack as unpack

MEMORY = 1 << 30
"""Bytes of address space of a sandboxed process, of which Python itself takes some 50 MB."""
_STARTS_WITHIN = 60.0


class Died(Exception):
    """A sandboxed process exited or broke the wire protocol."""


class TimedOut(Exception):
    """A sandboxed process did not answer in time."""


class Sandbox:
    """A server that forks sandboxed processes, and these. For one thread: it cannot be shared.

    Args:
        memory: bytes of address space of each process.
        layers: which kinds of isolation to use: all that the kernel has, unless a test says otherwise.

    Raises:
        InputError: on another system than Linux.
    """

    def __init__(self, memory: int = MEMORY, layers: Collection[str] = LAYERS) -> None:
        if sys.platform != "linux":
            raise InputError(
                f"code that a model wrote runs in a sandbox only, and this system ({sys.platform}) has none that phf knows; "
                "evaluate on Linux, in a container for example, or leave this evaluation out"
            )
        self.memory = memory
        self._ids = itertools.count()
        self._folder = tempfile.TemporaryDirectory(prefix="phf-sandbox-")  # stays empty
        os.chmod(self._folder.name, 0o555)
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        home = Path(__file__).resolve().parents[2]
        program = (
            f"import sys; sys.path.insert(0, {str(home)!r}); from phf.sandbox import fork_server; del sys.path[0]; "
            f"fork_server.main({list(layers)!r})"
        )
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", program],
                stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=self._folder.name, env={},
            )  # fmt: skip
        self._control.settimeout(_STARTS_WITHIN)
        try:
            ready = self._control.recv(16) == b"ready"
        except OSError:
            ready = False
        if not ready:
            self._server.kill()
            lines = self._server.communicate()[1].decode(errors="replace").strip().splitlines()
            self.close()
            raise InputError(
                f"the sandbox for code that a model wrote cannot be started here: {lines[-1] if lines else 'no reason is known'}"
            )

    def start(self, role: str, seconds: float) -> "Process":
        """Start a process that is killed after `seconds`, whatever it does."""
        ours, theirs = socket.socketpair()
        job = next(self._ids)
        message = {"start": job, "role": role, "memory": self.memory, "seconds": seconds}
        with theirs:
            socket.send_fds(self._control, [json.dumps(message).encode()], [theirs.fileno()])
        return Process(self, job, ours, time.monotonic() + seconds)

    def kill(self, job: int) -> None:
        """Kill a process, if it still runs."""
        with contextlib.suppress(OSError):
            self._control.send(json.dumps({"kill": job}).encode())

    def close(self) -> None:
        """Kill all processes in the sandbox, and the server."""
        self._control.close()
        try:
            self._server.wait(5)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        if self._server.stderr is not None:
            self._server.stderr.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Process:
    """A sandboxed process and the channel of frames to it, until its time is up."""

    def __init__(self, sandbox: Sandbox, job: int, channel: socket.socket, deadline: float) -> None:
        self._sandbox, self._job, self._channel, self._deadline = sandbox, job, channel, deadline

    def send(self, frame: bytes) -> None:
        """Send a frame.

        Raises:
            Died, TimedOut: if it is not received.
        """
        self._set_timeout()
        try:
            self._channel.sendall(len(frame).to_bytes(4, "big") + frame)
        except TimeoutError:
            raise TimedOut from None
        except OSError:
            raise Died from None

    def receive(self) -> bytes:
        """Wait for a frame: a mark of one byte, then a packed value or nothing.

        Raises:
            Died, TimedOut: if none comes.
        """
        length = int.from_bytes(self._exactly(4), "big")
        if not 1 <= length <= guest.LONGEST:
            raise Died
        return self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        received = bytearray()
        while len(received) < count:
            self._set_timeout()
            try:
                piece = self._channel.recv(min(count - len(received), 1 << 20))
            except TimeoutError:
                raise TimedOut from None
            except OSError:
                raise Died from None
            if not piece:
                # The server kills at the deadline too, and may be the first to.
                raise TimedOut if time.monotonic() >= self._deadline else Died
            received += piece
        return bytes(received)

    def _set_timeout(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimedOut
        self._channel.settimeout(left)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._channel.close()
        self._sandbox.kill(self._job)


def broken_by(layers: Collection[str] = LAYERS) -> list[str]:
    """Try, from inside, what must not be possible, each attempt harmless, and return what was.

    Raises:
        InputError: if nothing runs inside at all.
    """
    memory = 1 << 28
    with Sandbox(memory, layers) as sandbox, Decoys(memory) as decoys:
        with sandbox.start("answer", 20.0) as honest:
            honest.send(pack({"program": "import json\ndef f(x): return json.loads(x)", "entry": "f"}))
            try:
                works = honest.receive() == guest.READY
                honest.send(guest.CALL + pack([["[1]"], {}]))
                works = works and honest.receive() == guest.VALUE + pack([1])
            except (Died, TimedOut):
                works = False
        if not works:
            raise InputError("the sandbox for code that a model wrote lets nothing run on this system, not even honest code")
        return [what for what, program in PROBES.items() if _succeeds(sandbox, program, decoys)]


@functools.cache
def check() -> None:
    """Check that the sandbox holds on this machine.

    Raises:
        InputError: if it does not; the message says what is possible, and what to do.
    """
    escapes = broken_by()
    if escapes:
        raise InputError(
            f"code that a model wrote is not run: in the sandbox that this system allows it could {', '.join(escapes)}. "
            "Allow seccomp (prctl PR_SET_SECCOMP), which some containers' own profile forbids; without it what is left is weaker "
            "and not used; or leave this evaluation out"
        )


def _succeeds(sandbox: Sandbox, program: str, decoys: Decoys) -> bool:
    """Return whether a probe got through: it answered so, or it still runs after its time."""
    with sandbox.start("answer", 10.0) as process:
        process.send(pack({"program": program, "entry": "attempt"}))
        try:
            if process.receive() != guest.READY:
                return False
            process.send(guest.CALL + pack([[decoys.named], {}]))
            frame = process.receive()
            return frame[:1] == guest.VALUE and unpack(frame[1:]) is True
        except Died:
            return False
        except TimedOut:
            return True  # no probe waits
