"""Terminals that are odd: without UTF-8, or without a width; and processes that lack memory."""

import os
import subprocess
import sys

import pytest

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
