"""Terminals that are odd: without UTF-8, or without a width; and processes that lack memory."""

import os
import signal
import subprocess
import sys
import time

import pytest

from phf.cli import options
from phf.errors import InputError, out_of_memory


def run(*arguments, limit="", **environment):
    program = f"import resource, sys; {limit}\nfrom phf.cli import main; main(sys.argv[1:])"
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([sys.executable, "-c", program, *map(str, arguments)], env=variables, capture_output=True, text=True)


ODD = [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"COLUMNS": "0"}]


@pytest.mark.parametrize("environment", ODD)
def test_tables_help_and_errors_come_out(tmp_path, environment):
    listed = run("list", "objectives", **environment)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "conditional" in listed.stdout
    helped = run("annotate", "--help", **environment)
    assert helped.returncode == 0
    assert "--scorer" in helped.stdout
    failed = run("check", tmp_path / "né", **environment)
    assert failed.returncode == 2
    assert "no such folder" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.slow
def test_too_little_memory_is_said_in_one_line(tmp_path):
    (tmp_path / "meta.json").write_text("{}")
    for gigabytes in (1, 2, 3):
        limit = f"resource.setrlimit(resource.RLIMIT_AS, ({gigabytes} * 2**30,) * 2)"
        done = run("train", tmp_path, "--objective", "mle", limit=limit)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert "out of memory" in done.stderr or "meta.json" in done.stderr


def test_what_says_that_memory_ran_out_is_known_behind_other_errors():
    behind = ModuleNotFoundError("Could not import module 'GPT2LMHeadModel'")
    behind.__cause__ = ImportError("libx.so: failed to map segment from shared object")
    assert out_of_memory(behind) == "libx.so: failed to map segment from shared object"
    assert out_of_memory(MemoryError()) == "MemoryError"
    assert out_of_memory(RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"))
    assert out_of_memory(InputError("a file")) is None
    damaged = InputError("a.parquet: not a Parquet file that can be read (Failed to launch worker thread); delete it")
    damaged.__context__ = OSError("Failed to launch worker thread: Resource temporarily unavailable")
    assert out_of_memory(damaged) == str(damaged.__context__), "the file is whole"


@pytest.mark.parametrize("missing", [MemoryError(), ImportError("libx.so: failed to map segment from shared object")])
def test_an_error_comes_out_where_there_is_no_memory_to_print_it_well(missing, monkeypatch, capfd):
    def no_memory(_):
        raise missing

    monkeypatch.setattr("phf.cli.terminal.fail", no_memory)
    with pytest.raises(SystemExit) as ended:
        options.fail("error: out of memory, of https://me:secret@host/é", 2)
    assert ended.value.code == 2
    said = capfd.readouterr().err
    assert said.startswith("phf: error: out of memory")
    assert "secret" not in said


LIMITED = """
import ctypes, os, resource, signal, sys, time
resource.setrlimit(resource.RLIMIT_AS, (2**33, -1))
from phf.cli import limited_memory

def stop(number, _):
    print("heard", number, flush=True)
    sys.exit(128 + number)

def wait():
    signal.signal(signal.SIGTERM, stop)
    print(os.getpid(), flush=True)
    time.sleep(60)

limited_memory.supervised({"abort": os.abort, "exit": lambda: sys.exit(3), "wait": wait, "return": lambda: print("done"),
                           "kill": lambda: os.kill(os.getpid(), 9)}[sys.argv[1]])
"""
needs_limits = pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="the system has no limit on address space")


@needs_limits
@pytest.mark.parametrize(("what", "status", "said"), [("exit", 3, ""), ("return", 0, "done\n"), ("kill", -signal.SIGKILL, "")])
def test_under_a_limit_on_memory_a_command_ends_as_ever(what, status, said):
    done = subprocess.run([sys.executable, "-c", LIMITED, what], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (status, said, "")


@needs_limits
def test_a_library_that_aborts_under_a_limit_on_memory_is_put_into_words():
    done = subprocess.run([sys.executable, "-c", LIMITED, "abort"], capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "out of memory: a library ended the process (SIGABRT) where `ulimit` allows it 8 GiB. Raise `ulimit -v`" in line


@needs_limits
def test_a_signal_reaches_the_command_under_a_limit_on_memory_and_the_end_of_one_is_that_of_both():
    process = subprocess.Popen([sys.executable, "-c", LIMITED, "wait"], stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    assert child != process.pid
    process.terminate()
    assert (process.communicate()[0], process.returncode) == (f"heard {int(signal.SIGTERM)}\n", 143)
    process = subprocess.Popen([sys.executable, "-c", LIMITED, "wait"], stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    process.kill()
    process.communicate()  # until the child has closed its output
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("it is still at work")
