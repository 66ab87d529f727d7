"""Children end with their parent, and the end of one is described."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from phf import machine, processes

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", '''
import os, re, sys
from phf.processes import die_with_parent
die_with_parent(int(sys.argv[1]))
print(os.getpid(), flush=True)
re.match("(a+)+$", 40 * "a" + "b")  # holds the interpreter for years
''', str(__import__("os").getpid())])
time.sleep(60)
"""


def is_alive(pid):
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's signal is Linux's")
def test_a_child_in_a_call_that_never_returns_dies_with_its_parent():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert is_alive(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert wait_until(lambda: not is_alive(child)), "it is still at work"


def test_a_child_whose_parent_is_gone_already_ends_at_once():
    program = "from phf.processes import die_with_parent; die_with_parent(1234567); print('alive')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == ""
    assert done.returncode == 128 + signal.SIGKILL


def test_elsewhere_a_thread_looks_for_the_parent(monkeypatch):
    program = (
        "import sys, time; sys.platform = 'darwin'\nfrom phf import processes; processes._LOOK_EVERY = 0.05\n"
        "import os; processes.die_with_parent(os.getppid()); os.getppid = lambda: 1; time.sleep(20); print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 128 + signal.SIGKILL)


@pytest.mark.parametrize(
    ("code", "kills", "limit", "said"),
    [
        (-signal.SIGKILL, (3, 4), None, r"was killed by the kernel, which ran out of memory \(SIGKILL\)"),
        (-signal.SIGKILL, (3, 3), None, r"was killed \(SIGKILL\), most likely .* because memory ran out"),
        (-signal.SIGKILL, (None, None), 2**31, r"was killed \(SIGKILL\), most likely"),
        (-signal.SIGSEGV, (3, 3), None, "was ended by SIGSEGV$"),
        (-signal.SIGABRT, (3, 3), 2**31, "was ended by SIGABRT, most likely because memory ran out: `ulimit` allows it 2 GiB$"),
        (-signal.SIGTERM, (3, 3), 2**31, "was ended by SIGTERM$"),
        (3, (3, 3), 2**31, "ended with status 3$"),
    ],
)
def test_an_end_is_described(monkeypatch, code, kills, limit, said):
    monkeypatch.setattr(machine, "out_of_memory_kills", lambda: kills[1])
    monkeypatch.setattr(machine, "memory_limit", lambda: limit)
    assert re.match(said, processes.describe_exit(code, kills[0]))
