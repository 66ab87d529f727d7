import os
import subprocess
import sys
from pathlib import Path

import phf
from phf import machine


def test_cores_and_memory_are_those_of_this_process():
    assert 1 <= machine.usable_cores() <= (os.cpu_count() or 1)
    if hasattr(os, "sched_setaffinity"):
        code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        code += "from phf.machine import usable_cores; print(usable_cores())"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"
    assert 0 < machine.resident_memory(os.getpid()) < machine.total_memory()
    assert machine.resident_memory(2**30) == 0


def test_cores_are_counted_in_one_place():
    counting = ("sched_getaffinity", "cpu_count")
    files = Path(phf.__file__).parent.rglob("*.py")
    assert [path.name for path in files if any(word in path.read_text() for word in counting)] == ["machine.py"]


def test_more_files_may_be_opened_than_the_limit_says_at_first():
    code = """
import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 900))
from phf.machine import allow_open_files
assert allow_open_files(10) >= 10
assert allow_open_files(300) >= 300
files = [open(os.devnull) for _ in range(300)]
assert allow_open_files(2000) < 600, "the hard limit stays"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
