"""What runs in the sandbox: one process that holds a program and answers calls, one that runs its test by calling.

Neither sees the other's memory, and the program sees no test: arguments reach it as plain data, and the test judges what comes
back, which is rebuilt with its exact type and content. So there is no verdict within the program's reach, whatever it does to
its interpreter. What would not arrive as it is, is not judged at all: the verdict is then `REFUSED`. Frames: 4 bytes of
length, then that many bytes.
"""

import builtins
import os
import sys
import types
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

from phf.sandbox.wire_format import pack, unpack

CHANNEL = 3
"""The descriptor of the channel, the only one open but for 0 to 2, which are /dev/null."""
LONGEST = 1 << 24
"""Bytes of a frame, at most."""
READY, CALL, VALUE, CHANGED, RAISED, REFUSED, PASSED, FAILED, BROKEN = (bytes([mark]) for mark in b"RCVGXNPFB")
"""What a frame is: its first byte. A call's answer is VALUE, CHANGED (a value, and the arguments that the call changed), RAISED
or REFUSED; a verdict is PASSED, FAILED or REFUSED; BROKEN is what does not compile or cannot be run."""


def receive() -> bytes:
    """Wait for a frame; exit when none can come any more."""
    length = int.from_bytes(_exactly(4), "big")
    if length > LONGEST:
        os._exit(1)
    return _exactly(length)


def send(mark: bytes, content: bytes = b"") -> None:
    """Write a frame."""
    if len(content) >= LONGEST:
        mark, content = REFUSED, pack(["ValueError", f"{len(content):,} bytes are more than may cross"])
    frame = (len(content) + 1).to_bytes(4, "big") + mark + content
    while frame:
        frame = frame[os.write(CHANNEL, frame) :]


def answer() -> None:
    """Hold a program: run it once, then call the function it was asked for whenever the test does."""
    job = unpack(receive())
    module = types.ModuleType("program")
    sys.modules["program"] = module
    try:
        code = compile(job["program"], "program", "exec", dont_inherit=True)
    except BaseException as error:
        return send(BROKEN, _described(error))
    try:
        exec(code, module.__dict__)
        function = module.__dict__[job["entry"]]
        send(READY)
    except BaseException as error:
        return send(RAISED, _described(error))
    while True:
        packed = receive()[1:]
        arguments = unpack(packed)
        try:
            value = function(*arguments[0], **arguments[1])
        except BaseException as error:
            send(*_raised(error))
        else:
            send(*_returned(value, packed, arguments))


def _returned(value: Any, before: bytes, arguments: Any) -> tuple[bytes, bytes]:
    """Return the answer to a call, with the arguments as the call left them if it changed them."""
    try:
        content, after = pack(value), pack(arguments)
    except BaseException as error:
        return REFUSED, _described(error)
    return (VALUE, content) if after == before else (CHANGED, b"[" + content + b"," + after + b"]")


def _raised(error: BaseException) -> tuple[bytes, bytes]:
    """Return the answer to a call that raised: the class with those it extends, the arguments and the plain attributes."""
    try:
        lineage = [[kind.__module__, kind.__qualname__] for kind in type(error).__mro__ if kind is not object]
        attributes = {name: value for name, value in vars(error).items() if isinstance(value, str | int | float | None)}
        return RAISED, pack([*unpack(_described(error)), lineage, list(error.args), attributes])
    except BaseException as failure:
        return REFUSED, _described(failure)


def examine() -> None:
    """Run a test on the program that another process holds, and send the verdict."""
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
        return send(BROKEN, _described(error))
    try:
        check(_ask)
    except BaseException as error:
        return send(FAILED, _described(error))
    send(PASSED)


def _whole(prompt: str) -> str:
    """End a prompt whose last function has no body, not even a docstring."""
    try:
        compile(prompt, "prompt", "exec", dont_inherit=True)
    except SyntaxError:
        return prompt + "    pass\n"
    return prompt


def _ask(*arguments: Any, **names: Any) -> Any:
    """Call the program's function as the test calls it: return what it returned, or raise what it raised."""
    try:
        content = pack([list(arguments), names])
    except (TypeError, RecursionError) as error:
        _end(REFUSED, _described(error))
    send(CALL, content)
    frame = receive()
    mark = frame[:1]
    if mark == REFUSED:
        _end(REFUSED, frame[1:])
    try:
        value = unpack(frame[1:])
        if mark == CHANGED:
            value, (changed, changed_names) = value
            for old, new in [*zip(arguments, changed, strict=True), *((names[key], changed_names[key]) for key in names)]:
                _overwrite(old, new)
        raised = None if mark in (VALUE, CHANGED) else _exception(*value)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        _end(FAILED, _described(error))  # the program wrote into the channel: not for the test to catch
    if raised is not None:
        raise raised
    return value


def _overwrite(old: Any, new: Any) -> None:
    """Change an argument of the test as the call changed the program's copy."""
    if isinstance(old, list | bytearray):
        old[:] = new
    elif isinstance(old, dict | set | deque):
        old.clear()
        (old.extend if isinstance(old, deque) else old.update)(new)


def _exception(name: str, message: str, lineage: list[list[str]], arguments: list[Any], attributes: dict[str, Any]) -> Any:
    """Rebuild an exception: of its own class where that is Python's or the prompt's, else of a new one that extends such."""
    known = [(place, kind) for place, (module, path) in enumerate(lineage) if (kind := _class(module, path))]
    place, kind = known[0]
    if place:
        kind = type(name, (kind,), {})
    error = kind.__new__(kind, *arguments)
    try:
        BaseException.__init__(error, *arguments)
        kind.__init__(error, *arguments)
    except TypeError:  # what it was made with is not what it keeps
        error.args = tuple(arguments)
    vars(error).update(attributes)
    return error


def _class(module: str, path: str) -> Any:
    """Return an exception's class of Python or of the problem's prompt; None if it is the program's own."""
    home: Any = sys.modules.get("test" if module == "program" else module)
    if module not in ("builtins", "program") and module.partition(".")[0] not in sys.stdlib_module_names:
        return None
    if module == "builtins":
        home = builtins
    for name in path.split("."):
        home = getattr(home, name, None)
    return home if isinstance(home, type) and issubclass(home, BaseException) else None


def _end(mark: bytes, content: bytes) -> NoReturn:
    """Send a verdict, and exit."""
    send(mark, content)
    os._exit(0)


def _described(error: BaseException) -> bytes:
    try:
        message = str(error)[:300]
    except BaseException:
        message = ""
    return pack([str(type(error).__name__)[:100], str.__str__(message)])


def _exactly(count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        piece = os.read(CHANNEL, min(count - len(received), 1 << 20))
        if not piece:
            os._exit(0)
        received += piece
    return bytes(received)


ROLES: dict[str, Callable[[], None]] = {"answer": answer, "examine": examine}
