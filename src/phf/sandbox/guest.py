"""What runs in the cage: one process that holds a program and answers calls, one that examines it by calling.

Neither sees the other's memory, and the examined program sees no test: arguments come to it as plain data, results go back as
plain data, and the examiner rebuilds and judges them. So there is no verdict within the program's reach, whatever it does to
its interpreter. Frames: 4 bytes of length, then that many bytes.
"""

import builtins
import os
import sys
import types
from collections.abc import Callable
from typing import Any

from phf.sandbox.wire_format import pack, unpack

CHANNEL = 3
"""The descriptor of the channel, the only one open but for 0 to 2, which are /dev/null."""
LONGEST = 1 << 24
"""Bytes of a frame, at most."""
READY, CALL, VALUE, RAISED, PASSED, FAILED, BROKEN = (bytes([mark]) for mark in b"RCVXPFB")
"""What a frame is: its first byte."""


def receive() -> bytes:
    """Wait for a frame; none comes any more: leave."""
    length = int.from_bytes(_exactly(4), "big")
    if length > LONGEST:
        os._exit(1)
    return _exactly(length)


def send(mark: bytes, content: bytes = b"") -> None:
    """Write a frame."""
    if len(content) >= LONGEST:
        raise ValueError(f"{len(content):,} bytes are more than may cross")
    frame = (len(content) + 1).to_bytes(4, "big") + mark + content
    while frame:
        frame = frame[os.write(CHANNEL, frame) :]


def answer() -> None:
    """Hold a program: run it once, then call the function it was asked for whenever the examiner does."""
    job = unpack(receive())
    module = types.ModuleType("program")
    sys.modules["program"] = module
    try:
        code = compile(job["program"], "program", "exec", dont_inherit=True)
    except BaseException as error:
        return send(BROKEN, _of(error))
    try:
        exec(code, module.__dict__)
        function = module.__dict__[job["entry"]]
        send(READY)
    except BaseException as error:
        return send(RAISED, _of(error))
    while True:
        arguments, names = unpack(receive()[1:])
        try:
            send(VALUE, pack(function(*arguments, **names)))
        except BaseException as error:
            send(RAISED, _of(error))


def examine() -> None:
    """Run a test on the program that another process holds, and say whether it passed."""
    job = unpack(receive())
    module = types.ModuleType("test")
    sys.modules["test"] = module
    try:
        for part in (_whole(job["given"]), job["test"]):
            exec(compile(part, "test", "exec", dont_inherit=True), module.__dict__)
        # Names of the prompt that are whole stay as the prompt has them; the one to be written is the program's.
        module.__dict__[job["entry"]] = _ask
        check: Callable[[Any], Any] = module.__dict__["check"]
    except BaseException as error:
        return send(BROKEN, _of(error))
    try:
        check(_ask)
    except BaseException as error:
        return send(FAILED, _of(error))
    send(PASSED)


def _whole(prompt: str) -> str:
    """End a prompt whose last function has no body, not even a docstring."""
    try:
        compile(prompt, "prompt", "exec", dont_inherit=True)
    except SyntaxError:
        return prompt + "    pass\n"
    return prompt


def _ask(*arguments: Any, **names: Any) -> Any:
    send(CALL, pack((list(arguments), names)))
    frame = receive()
    mark, content = frame[:1], unpack(frame[1:])
    if mark == VALUE:
        return content
    kind, message = content
    known = getattr(builtins, str(kind), None)
    raised = known if isinstance(known, type) and issubclass(known, Exception) else RuntimeError
    try:
        error = raised(message)
    except TypeError:  # some take more than a message
        error = RuntimeError(f"{kind}: {message}")
    raise error


def _of(error: BaseException) -> bytes:
    try:
        message = str(error)[:300]
    except BaseException:
        message = ""
    return pack([type(error).__name__[:100], message])


def _exactly(count: int) -> bytes:
    got = bytearray()
    while len(got) < count:
        piece = os.read(CHANNEL, min(count - len(got), 1 << 20))
        if not piece:
            os._exit(0)
        got += piece
    return bytes(got)


ROLES: dict[str, Callable[[], None]] = {"answer": answer, "examine": examine}
