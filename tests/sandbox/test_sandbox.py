"""Breaking out of the sandbox: every attempt is made, harmless should it succeed, and none does."""

import collections
import contextlib
import enum
import itertools
import json
import os
import signal
import socket
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phf import sandbox
from phf.errors import InputError
from phf.sandbox import Died, Sandbox, TimedOut, guest, isolation, wire_format
from phf.sandbox.wire_format import pack, unpack
from support.sandboxed import needs_sandbox

MEMORY = 1 << 28


@pytest.fixture(scope="module")
def within():
    with Sandbox(MEMORY) as made:
        yield made


def run(within, body, argument=None, seconds=10.0):
    """Run the lines of a function of `x` in the sandbox and return what it returns; what it raises is raised here as text."""
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    program = f"import ctypes, os, signal, socket, subprocess, sys, threading, time\ndef f(x):\n{lines}\n"
    with within.start("answer", seconds) as process:
        process.send(pack({"program": program, "entry": "f"}))
        assert process.receive() == guest.READY
        process.send(guest.CALL + pack([[argument], {}]))
        frame = process.receive()
    content = unpack(frame[1:])
    if frame[:1] == guest.RAISED:
        raise Raised(content[0])
    assert frame[:1] == guest.VALUE
    return content


class Raised(Exception):
    pass


@needs_sandbox
def test_honest_code_runs(within):
    body = "import math, re, json\nreturn [math.sqrt(x), re.sub('a', 'b', 'banana'), json.dumps({'a': (1,)})]"
    assert run(within, body, 4) == [2.0, "bbnbnb", '{"a": [1]}']


@needs_sandbox
def test_no_probe_gets_through():
    assert sandbox.broken_by() == []


@needs_sandbox
def test_seccomp_and_limits_are_enough():
    assert sandbox.broken_by(["limits", "seccomp"]) == []


def test_without_seccomp_what_is_left_is_refused_since_it_shares_memory_and_keys():
    if not _can_make_namespaces():
        pytest.skip("this system lets nobody make namespaces, or has no Landlock")
    escapes = sandbox.broken_by(["namespaces", "limits", "landlock"])
    assert "share System V memory" in escapes or "reach the caller's keyring" in escapes
    assert set(escapes) <= {"share System V memory", "reach the caller's keyring"}


def test_without_isolation_every_kind_of_attempt_is_noticed_and_refused(monkeypatch):
    """The probes can tell: without a sandbox around them, they get through."""
    if sys.platform != "linux":
        pytest.skip("there is no sandbox on this system at all")
    noticed = set(sandbox.broken_by([]))
    for what in ("read a file", "write outside its folder", "reach a port of this machine", "start a process",
                 "signal another process", "take more memory than its limit"):  # fmt: skip
        assert what in noticed
    monkeypatch.setattr(sandbox, "broken_by", lambda: ["read a file", "start a process"])
    with pytest.raises(InputError, match=r"it could read a file, start a process\. Allow seccomp"):
        sandbox.check.__wrapped__()


def test_another_system_is_refused_with_advice(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(InputError, match=r"this system \(darwin\) has none.*evaluate on Linux"):
        Sandbox()


def test_a_server_that_does_not_start_says_why():
    if sys.platform != "linux":
        pytest.skip("there is no sandbox on this system at all")
    with pytest.raises(InputError, match="cannot be started here: SyntaxError"):
        Sandbox(layers=[object()])  # nothing that the server could be started with


@needs_sandbox
def test_a_canary_is_not_read(within, tmp_path):
    canary = tmp_path / "canary"
    canary.write_text("canary")
    tmp_path.chmod(0o777)
    canary.chmod(0o666)
    for how in ("open(x).read()", "os.open(x, os.O_RDONLY)", "os.stat(x)", "os.listdir(os.path.dirname(x))", "os.readlink(x)",
                "ctypes.CDLL(x)"):  # fmt: skip
        with pytest.raises(Raised, match=r"PermissionError|OSError"):
            run(within, f"return str({how})", str(canary))
    assert run(within, "return os.path.exists(x)", str(canary)) is False
    opened = "return ctypes.CDLL(None).open(x.encode(), 0)"
    assert run(within, opened, str(canary)) == -1
    assert run(within, "return ctypes.CDLL(None).syscall(2, x.encode(), 0)", str(canary)) == -1


@needs_sandbox
def test_nothing_is_written_anywhere(within, tmp_path):
    tmp_path.chmod(0o777)
    (tmp_path / "there").write_text("there")
    (tmp_path / "there").chmod(0o666)
    for how in ("open(x + '/made', 'w')", "open(x + '/there', 'a')", "os.mkdir(x + '/made')", "os.remove(x + '/there')",
                "os.rename(x + '/there', x + '/made')", "os.chmod(x + '/there', 0)", "os.symlink('/', x + '/made')",
                "os.link(x + '/there', x + '/made')", "os.truncate(x + '/there', 0)", "os.utime(x + '/there')",
                "os.chdir(x)", "open('made', 'w')", "os.mkdir('made')"):  # fmt: skip
        with pytest.raises(Raised, match=r"PermissionError|OSError|FileNotFoundError"):
            run(within, f"return str({how})", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there").read_text() == "there"


@needs_sandbox
def test_there_is_no_network(within):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        for how in (f"socket.create_connection(('127.0.0.1', {port}))", "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
                    "socket.socket(socket.AF_UNIX)", "socket.create_server(('', 0))", "socket.socketpair()"):  # fmt: skip
            with pytest.raises(Raised, match="Error"):
                run(within, f"return str({how})")
        listening.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listening.accept()


@needs_sandbox
def test_there_are_no_children(within):
    for how in ("os.fork() or os._exit(0)", "os.forkpty()", "subprocess.run(['/bin/true'])", "os.execv('/bin/true', ['true'])",
                "os.posix_spawn('/bin/true', ['true'], {})", "1 / (os.system('true') == 0)",
                "threading.Thread(target=int).start()"):  # fmt: skip
        with pytest.raises(Raised, match="Error"):
            run(within, f"return str({how})")
    # A few past the limit, each gone at once should it be made.
    a_few = """
made = 0
for _ in range(4):
    try:
        made += os.fork() != 0 or os._exit(0)
    except OSError:
        pass
return made
"""
    assert run(within, a_few) == 0


@needs_sandbox
def test_memory_ends_where_the_limit_is(within):
    with pytest.raises(Raised, match="MemoryError"):
        run(within, f"return len(bytearray({MEMORY} + (1 << 31)))")
    with pytest.raises((Raised, Died)):
        run(within, "held = []\nwhile True: held.append(bytearray(1 << 24))")


@needs_sandbox
def test_no_process_is_signalled_or_traced(within):
    alarmed = []
    previous = signal.signal(signal.SIGUSR1, lambda *_: alarmed.append(1))
    try:
        for how in ("os.kill(x, signal.SIGUSR1)", "os.kill(os.getppid(), 0)", "os.kill(-1, 0)", "os.killpg(0, 0)",
                    "signal.pidfd_send_signal(os.pidfd_open(x), 0)", "os.setpriority(os.PRIO_PROCESS, x, 19)",
                    "open(f'/proc/{x}/mem', 'rb')", "open(f'/proc/{os.getppid()}/environ').read()"):  # fmt: skip
            with pytest.raises(Raised, match=r"PermissionError|OSError|ProcessLookupError|FileNotFoundError"):
                run(within, f"return str({how})", os.getpid())
        for call in (
            "ptrace(0x4206, x, 0, 0)",
            "process_vm_readv(x, None, 0, None, 0, 0)",
            "prlimit(x, 7, None, None)",
            "tgkill(x, x, 0)",
        ):
            assert run(within, f"return ctypes.CDLL(None).{call}", os.getpid()) == -1
        time.sleep(0.05)
        assert not alarmed
    finally:
        signal.signal(signal.SIGUSR1, previous)


@needs_sandbox
def test_rights_are_not_gained(within):
    calls = ("os.setuid(0)", "os.chroot('/')", "os.nice(-5)", "os.sethostname('x')", "os.mknod('x')")
    if hasattr(os, "unshare"):
        calls += ("os.unshare(os.CLONE_NEWUSER)",)
    for how in calls:
        with pytest.raises(Raised, match=r"PermissionError|OSError|AttributeError"):
            run(within, f"return str({how})")
    with pytest.raises(Raised, match=r"PermissionError|ValueError"):
        run(within, "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))")


@needs_sandbox
def test_nothing_is_inherited(within):
    assert run(within, "return os.environ.keys() - {'LC_CTYPE'}") == set()  # Python itself sets that one
    assert run(within, "return [fd for fd in range(4, 300) if ctypes.CDLL(None).lseek(fd, 0, 1) != -1]") == []
    assert run(within, "print('x' * 10**6)\nsys.stderr.write('y' * 10**6)\nreturn os.write(1, b'z')") == 1
    with pytest.raises(Raised, match="EOFError"):
        run(within, "return input()")


@needs_sandbox
def test_time_ends_whatever_it_does(within):
    for body in ("while True: pass", "time.sleep(100)", "signal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True: pass",
                 "while True:\n    try:\n        while True: pass\n    except BaseException: pass", "return 9 ** 9 ** 9",
                 "while True: print('x' * 10**6)", "os.read(3, 1)"):  # fmt: skip
        start = time.monotonic()
        with pytest.raises((TimedOut, Died)):
            run(within, body, seconds=0.4)
        assert time.monotonic() - start < 2
    assert run(within, "return x", 1) == 1  # and the sandbox goes on


@needs_sandbox
def test_a_process_that_goes_costs_only_itself(within):
    for body in ("os._exit(0)", "os.close(3)", "os.abort()", "ctypes.string_at(0)", "os.write(3, b'\\xff' * 100)\nos._exit(0)",
                 "sys.setrecursionlimit(10**9)\ndef g(): g()\ng()"):  # fmt: skip
        with pytest.raises((Died, Raised, TimedOut)):
            run(within, body, seconds=1)
    for body in ("raise SystemExit(0)", "raise KeyboardInterrupt", "sys.exit()", "class Odd(BaseException): pass\nraise Odd"):
        with pytest.raises(Raised):
            run(within, body)
    assert run(within, "return x", 1) == 1


@needs_sandbox
def test_the_server_dies_with_its_sandbox_and_all_processes_with_it():
    made = Sandbox(MEMORY)
    process = made.start("answer", 60.0)
    process.send(pack({"program": "while True: pass", "entry": "f"}))
    began = time.monotonic()
    made.close()
    assert time.monotonic() - began < 5
    with pytest.raises((Died, TimedOut)):
        process.receive()


@needs_sandbox
def test_sandboxes_serve_side_by_side():
    """Two sandboxes in two threads: a loop in one keeps nobody waiting in the other."""
    answers = []

    def hang():
        with Sandbox(MEMORY) as slow, pytest.raises((TimedOut, Died)):
            run(slow, "while True: pass", seconds=1.5)

    thread = threading.Thread(target=hang)
    thread.start()
    with Sandbox(MEMORY) as quick:
        answers += [run(quick, "return x * 2", number) for number in range(20)]
    thread.join()
    assert answers == [2 * number for number in range(20)]


def test_no_call_that_is_let_through_names_a_path_a_process_or_an_address():
    for _, calls in isolation.SYSTEM_CALLS.values():
        for forbidden in ("open", "openat", "socket", "connect", "clone", "fork", "execve", "kill", "ptrace", "prlimit64",
                          "fcntl", "ioctl", "sendmsg", "memfd_create", "shmget", "bpf", "io_uring_setup", "mount"):  # fmt: skip
            assert forbidden not in calls
    assert isolation.SYSTEM_CALLS["x86_64"][1].keys() >= isolation.SYSTEM_CALLS["aarch64"][1].keys()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_numbers_of_calls_are_those_of_the_kernel(machine):
    """Against the headers of this machine, where they are."""
    import re
    from pathlib import Path

    places = {"x86_64": ["/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"],
              "aarch64": ["/usr/include/asm-generic/unistd.h"]}[machine]  # fmt: skip
    header = next((Path(place) for place in places if Path(place).exists()), None)
    if header is None:
        pytest.skip("this machine has no headers of the kernel")
    numbers = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
    for name, number in isolation.SYSTEM_CALLS[machine][1].items():
        assert int(numbers[name]) == number, name


LEAVES = st.none() | st.booleans() | st.integers() | st.integers(-(10**400), 10**400) | st.floats() | st.text() | st.binary()
PLAIN = st.recursive(
    LEAVES | st.complex_numbers(allow_nan=False) | st.fractions() | st.decimals(allow_nan=False),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers()), inner)
        | st.frozensets(st.integers() | st.text())
        | st.sets(st.integers())
    ),
    max_leaves=12,
)
TAGS = st.sampled_from(["int", "tuple", "set", "dict", "range", "bytes", "fraction", "decimal", "complex", "unheard of"])
NONSENSE = st.recursive(st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(TAGS, inner))


@given(PLAIN)
@settings(max_examples=200, deadline=None)
def test_plain_values_cross_as_they_are(value):
    crossed = unpack(pack(value))
    assert repr(crossed) == repr(value) or crossed == value
    assert type(crossed) is type(value)


EXACT = [
    {"b": 1, "a": (2,)}.keys(), {"a": [1]}.items(), collections.Counter("aab"), collections.OrderedDict(b=1, a=2),
    collections.deque([1, 2], maxlen=3), collections.defaultdict(int, a=1),
]  # fmt: skip


@pytest.mark.parametrize("value", EXACT, ids=lambda value: type(value).__name__)
def test_a_value_crosses_with_its_type(value):
    crossed = unpack(pack(value))
    assert type(crossed) is type(value)
    assert (crossed, repr(crossed)) == (value, repr(value))


@pytest.mark.parametrize(
    "value",
    [
        (number for number in range(3)), map(abs, range(3)), filter(None, [1, 2]), zip([1, 2], [3, 4], strict=True), zip(),
        enumerate("ab", 4), enumerate(""), iter([1]), iter((1,)), reversed([1, 2]),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_an_iterator_crosses_with_its_type_and_items(value):
    kind, items = type(value), list(value)
    crossed = unpack(pack(_renewed(kind, items)))
    assert type(crossed) is kind
    assert list(crossed) == items


def _renewed(kind, items):
    """Return an iterator of a kind over items."""
    if kind is zip:
        return zip(*zip(*items, strict=True), strict=True)
    if kind is enumerate:
        return enumerate([item for _, item in items], items[0][0] if items else 0)
    if kind in (map, filter):
        return kind(lambda item: item, items) if kind is map else kind(lambda _: True, items)
    if kind is type(reversed([])):
        return reversed(items[::-1])  # noqa: C415
    return iter(tuple(items)) if kind is type(iter(())) else iter(items) if kind is type(iter([])) else (item for item in items)


def test_what_would_not_arrive_as_it_is_is_refused():
    class Sly(int):
        def __eq__(self, other):
            return True

    class Text(str):
        pass

    endless = itertools.count()
    mine = collections.defaultdict(lambda: 7)
    for odd in (Sly(3), [Text("a")], enum.IntEnum("Few", "one")["one"], object(), len, wire_format, {"a": object()}, mine,
                (number for number in endless), endless):  # fmt: skip
        with pytest.raises(TypeError, match="is not plain data"):
            pack(odd)
    assert not unpack(pack({"a": 1}.values())) == {"a": 1}.values(), "as in Python, which compares them by identity"  # noqa: SIM201


@given(st.binary() | st.text().map(str.encode) | NONSENSE.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=300, deadline=None)
def test_what_is_no_packed_value_is_refused_not_run(data):
    with contextlib.suppress(ValueError, RecursionError):
        pack(unpack(data))


def _can_make_namespaces() -> bool:
    pid = os.fork()
    if pid == 0:
        os._exit(0 if isolation.enter_namespaces() and isolation.landlock() else 1)
    return os.waitpid(pid, 0)[1] == 0
