"""Isolation of a process, by what Linux offers: layer by layer, each without help from a library or root rights.

    namespaces   no network device, no process outside to see or signal, no shared memory of others
    limits       memory, processor time, file size, open files and processes; no rights of root
    landlock     no file can be opened, made, renamed or removed; no port bound or reached; no signal sent out (newer kernels)
    seccomp      a short list of system calls is let through, the kernel refuses all others: files, sockets, processes, signals

Any of them may be missing on a kernel or forbidden in a container. So none is trusted to be there: `phf.sandbox.check` tries what
must not be possible. Imports nothing but the standard library, and is read by processes that hold nothing of phf's.
"""

import contextlib
import ctypes
import os
import platform
import resource
import struct
from collections.abc import Callable, Collection

LAYERS = ("namespaces", "limits", "landlock", "seccomp")

_NOBODY = 65534
_CLONE = {"NEWNS": 0x20000, "NEWUTS": 0x4000000, "NEWIPC": 0x8000000, "NEWUSER": 0x10000000, "NEWPID": 0x20000000,
          "NEWNET": 0x40000000}  # fmt: skip
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP = 1, 4, 22, 38, 24
_SIGKILL = 9

# Numbers of the system calls that are let through. What Python needs to compute: memory, clocks, its own open descriptors,
# waiting, its own identity. None names a path, another process or a socket's address, and none makes a process or thread.
_X86_64 = {
    "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12,
    "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "readv": 19, "writev": 20, "select": 23, "sched_yield": 24,
    "mremap": 25, "madvise": 28, "nanosleep": 35, "alarm": 37, "setitimer": 38, "getpid": 39, "exit": 60, "uname": 63,
    "getcwd": 79, "gettimeofday": 96, "getrusage": 98, "sysinfo": 99, "times": 100, "getuid": 102, "getgid": 104, "geteuid": 107,
    "getegid": 108, "getppid": 110, "sigaltstack": 131, "gettid": 186, "time": 201, "futex": 202, "restart_syscall": 219,
    "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "pselect6": 270, "ppoll": 271,
    "set_robust_list": 273, "getrandom": 318, "rseq": 334,
}  # fmt: skip
_AARCH64 = {
    "getcwd": 17, "close": 57, "lseek": 62, "read": 63, "write": 64, "readv": 65, "writev": 66, "pselect6": 72, "ppoll": 73,
    "fstat": 80, "exit": 93, "exit_group": 94, "futex": 98, "set_robust_list": 99, "nanosleep": 101, "setitimer": 103,
    "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115, "sched_yield": 124, "restart_syscall": 128,
    "sigaltstack": 132, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "times": 153, "uname": 160,
    "getrusage": 165, "gettimeofday": 169, "getpid": 172, "getppid": 173, "getuid": 174, "geteuid": 175, "getgid": 176,
    "getegid": 177, "gettid": 178, "sysinfo": 179, "brk": 214, "munmap": 215, "mremap": 216, "mmap": 222, "mprotect": 226,
    "madvise": 233, "getrandom": 278, "rseq": 293,
}  # fmt: skip
SYSTEM_CALLS = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _AARCH64)}
"""By machine: its mark in a filter (AUDIT_ARCH), and the calls let through."""

_X32 = 0x40000000  # from here on x86_64 counts calls of another convention
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | 1, 0x80000000  # the second: with EPERM

_libc = ctypes.CDLL(None, use_errno=True)


def enter_namespaces() -> bool:
    """Leave the machine's network, processes and shared memory, for the processes that this one forks from now on.

    Tried as root would, then as a user of a namespace of its own. Returns whether it could; the other layers work without it.
    """
    plain = _CLONE["NEWNS"] | _CLONE["NEWUTS"] | _CLONE["NEWIPC"] | _CLONE["NEWPID"] | _CLONE["NEWNET"]
    user, group = os.getuid(), os.getgid()
    if _libc.unshare(plain) == 0:
        return True
    if _libc.unshare(plain | _CLONE["NEWUSER"]) != 0:
        return False
    with contextlib.suppress(OSError):
        _write("/proc/self/setgroups", "deny")
    with contextlib.suppress(OSError):
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
    return True


def limit(memory: int, seconds: float) -> None:
    """Set the limits that no process may raise again, and give up every right that root has.

    Args:
        memory: bytes of address space.
        seconds: of processor time; the fork server measures wall-clock time.
    """
    if os.getuid() == 0:  # limits on processes do not hold for root
        with contextlib.suppress(OSError):
            os.setgroups([])
        with contextlib.suppress(OSError):
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        with contextlib.suppress(OSError):
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    whole = int(seconds) + 1
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, whole),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 16),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (getattr(resource, "RLIMIT_MSGQUEUE", None), 0),
    ):
        if what is not None:
            resource.setrlimit(what, (most, most))
    for capability in range(64):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    version_3, nothing = struct.pack("Ii", 0x20080522, 0), bytes(24)
    _libc.capset(version_3, nothing)


def bind_to_parent() -> None:
    """Die when the parent does, never gain rights, let nobody read or trace it."""
    _libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def landlock() -> bool:
    """Drop access to all files, and with newer kernels all ports and signals to other processes. True if the kernel knows how."""
    version = _libc.syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return False
    files = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    ports, outside = (3 if version >= 4 else 0), (3 if version >= 6 else 0)
    rules = struct.pack("QQQ", files, ports, outside)  # all of them handled, none of them granted
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = _libc.syscall(444, rules, ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    entered = bool(_libc.syscall(446, ctypes.c_int(ruleset), ctypes.c_uint32(0)) == 0)
    os.close(ruleset)
    return entered


def seccomp() -> bool:
    """Let through the few system calls that computing needs. True if the kernel filters them on this machine."""
    if platform.machine() not in SYSTEM_CALLS:
        return False
    mark, calls = SYSTEM_CALLS[platform.machine()]
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06  # operations of the classic packet filter
    program = [(load, 0, 0, 4), (equal, 1, 0, mark), (give, 0, 0, _KILL), (load, 0, 0, 0)]
    if platform.machine() == "x86_64":
        program += [(at_least, 0, 1, _X32), (give, 0, 0, _KILL)]
    for number in sorted(calls.values()):
        program += [(equal, 0, 1, number), (give, 0, 0, _ALLOW)]
    program.append((give, 0, 0, _REFUSE))
    text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *operation) for operation in program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    whole = Program(len(program), ctypes.addressof(text))
    return bool(_libc.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(whole), 0, 0) == 0)


def lock(layers: Collection[str], memory: int, seconds: float) -> None:
    """Isolate this process, for good, by each of the layers; those that this kernel lacks are passed over."""
    if "limits" in layers:
        limit(memory, seconds)
    bind_to_parent()
    steps: dict[str, Callable[[], bool]] = {"landlock": landlock, "seccomp": seccomp}
    for name, step in steps.items():
        if name in layers:
            step()


def _write(path: str, text: str) -> None:
    handle = os.open(path, os.O_WRONLY)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)
