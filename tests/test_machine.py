import os
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "_OWN_CGROUPS", tmp_path / "own")
    return tmp_path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("own", "root", "limit", "events"),
    [
        ("0::/jobs/mine\n", "", "memory.max", "memory.events"),
        ("9:cpu:/\n4:memory:/jobs/mine\n0::/\n", "memory", "memory.limit_in_bytes", "memory.oom_control"),
    ],
)
def test_the_memory_of_control_groups_is_that_of_the_smallest_around_this_process(cgroups, own, root, limit, events):
    write(cgroups / "own", own)
    assert machine.total_memory() > 2**25
    write(cgroups / root / "jobs/mine" / limit, "max\n")
    write(cgroups / root / "jobs" / limit, f"{2**25}\n")
    write(cgroups / root / "other" / limit, f"{2**20}\n")
    assert machine.total_memory() == 2**25
    write(cgroups / root / events, "oom_kill 1\n")  # a container that knows only the host's path
    assert machine.out_of_memory_kills() == 1
    write(cgroups / root / "jobs/mine" / events, "under_oom 0\noom_kill 7\n")
    assert machine.out_of_memory_kills() == 7


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
@pytest.mark.parametrize("own", [None, "0::/\n"])
def test_without_counts_of_control_groups_those_of_the_system_are_taken(cgroups, own):
    if own is not None:
        write(cgroups / "own", own)
    kills = machine.out_of_memory_kills()
    lines = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    assert kills == (int(lines["oom_kill"]) if "oom_kill" in lines else None)


def test_limits_on_memory_are_those_of_ulimit():
    code = "import resource; from phf.machine import memory_limit; print(memory_limit())\n"
    code += "for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA): resource.setrlimit(kind, (2**32, -1))\nprint(memory_limit())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == str(2**32)
