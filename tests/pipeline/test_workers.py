"""Jobs in processes of their own: messages, failures, kills and signals."""

import functools
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from phf.errors import InputError, Stopped
from phf.pipeline import workers
from phf.pipeline.jobs import Job
from phf.pipeline.workers import run_jobs
from phf.progress import Progress, silent


def report_and_leave(folder, on_progress):
    on_progress(Progress("work", 1, 2, "steps"))
    logging.getLogger("phf").warning("from %s", folder.name)
    (folder / str(os.getpid())).touch()


def fail(error, on_progress):
    raise error


def die(number, on_progress):
    os.kill(os.getpid(), number)
    time.sleep(20)


def stop_parent(folder, on_progress):
    """Ask the parent to stop, as a terminal does, and wait until it has passed that on."""
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(20)


def hold(folder, on_progress):
    (folder / f"{os.getpid()}.pid").touch()
    time.sleep(60)


def note_gpu(folder, name, on_progress):
    """Note the GPU that this process sees while at least one other process runs, so that each has its own."""
    (folder / name).write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("gpus", "seen"),
    [
        (["4", "GPU-7"], {"a": "4", "b": "GPU-7"}),
        ([], {"a": "all", "b": "all"}),
    ],
)
def test_each_process_sees_a_gpu_of_its_own(tmp_path, monkeypatch, gpus, seen):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    run_jobs([Job(name, functools.partial(note_gpu, tmp_path, name)) for name in "ab"], 2, 1, silent, gpus)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == seen
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_a_process_more_than_gpus_shares_the_one_that_is_used_least(monkeypatch):
    monkeypatch.setattr(workers, "_Process", lambda job, threads, gpu: SimpleNamespace(gpu=gpu))
    workplace, running = workers.Processes(1, ["2", "3"]), []
    for _ in range(3):
        running.append(workplace.start(None, running))
    assert [worker.gpu for worker in running] == ["2", "3", "2"]
    del running[1]
    assert workplace.start(None, running).gpu == "3", "what is free again is given to the next"


def test_jobs_send_progress_and_logs_and_wait_for_what_they_build_on(tmp_path, caplog):
    progress = []
    jobs = [
        Job("b", functools.partial(report_and_leave, tmp_path), after="a"),
        Job("a", functools.partial(report_and_leave, tmp_path)),
    ]
    with caplog.at_level("INFO", "phf"):
        run_jobs(jobs, 2, 1, progress.append)
    assert progress == 2 * [Progress("work", 1, 2, "steps")]
    assert caplog.messages == 2 * [f"from {tmp_path.name}"]
    assert len(list(tmp_path.iterdir())) == 2, "two processes, none of them this one"
    assert not (tmp_path / str(os.getpid())).exists()


def test_a_failure_stops_only_what_builds_on_it(tmp_path):
    jobs = [
        Job("child", functools.partial(report_and_leave, tmp_path), after="bad"),
        Job("bad", functools.partial(fail, InputError("no data"))),
        Job("good", functools.partial(report_and_leave, tmp_path)),
    ]
    with pytest.raises(InputError, match="no data"):
        run_jobs(jobs, 1, 1, silent)
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(RuntimeError, match=r"(?s)a bug.*Traceback.*ZeroDivisionError: of ours"):
        run_jobs([Job("bug", functools.partial(fail, ZeroDivisionError("of ours")))], 1, 1, silent)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGKILL, r"runs\.big: its process was killed .*memory.*lower jobs"),
        (signal.SIGSEGV, "SIGSEGV"),
    ],
)
def test_a_killed_process_is_an_error_that_says_so(number, said):
    with pytest.raises(InputError, match=said):
        run_jobs([Job("big", functools.partial(die, number))], 1, 1, silent)


def test_a_signal_stops_every_job_and_starts_no_other(tmp_path):
    jobs = [Job("a", functools.partial(stop_parent, tmp_path)), Job("b", functools.partial(report_and_leave, tmp_path))]
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as stopped:
        run_jobs(jobs, 1, 1, silent)
    assert stopped.value.number == signal.SIGTERM
    assert "evaluations that were finished are kept" in str(stopped.value)
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before


PARENT = """
import functools, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from pipeline_jobs import hold
from phf.cli import options
from phf.errors import Stopped
from phf.pipeline.jobs import Job
from phf.pipeline.workers import run_jobs
if __name__ == "__main__":
    jobs = [Job(str(n), functools.partial(hold, Path("."))) for n in range(2)]
    try:
        run_jobs(jobs, 2, 1, lambda progress: None)
    except Stopped as stopped:
        options.fail(str(stopped), 128 + stopped.number)
"""


@pytest.fixture
def parent(tmp_path):
    """A process that runs two jobs which never end."""
    source = (
        "import os, time\n\ndef hold(folder, on_progress):\n    (folder / f'{os.getpid()}.pid').touch()\n    time.sleep(60)\n"
    )
    (tmp_path / "pipeline_jobs.py").write_text(source)
    (tmp_path / "parent.py").write_text(PARENT.format(tests=str(tmp_path)))
    process = subprocess.Popen([sys.executable, "parent.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds=40):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's signal is Linux's")
def test_no_process_outlives_a_killed_parent(parent, tmp_path):
    assert wait_until(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
    workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert all(map(is_alive, workers))
    parent.kill()
    parent.wait()
    assert wait_until(lambda: not any(map(is_alive, workers)), 5), "workers are still at work"


@pytest.mark.parametrize("delay", [0.3, 0.8, 1.5, 2.5])
def test_a_signal_while_workers_start_is_a_stop(parent, tmp_path, delay):
    assert wait_until(lambda: is_alive(parent.pid))
    time.sleep(delay)
    parent.send_signal(signal.SIGTERM)
    _, said = parent.communicate(timeout=60)
    if parent.returncode != -signal.SIGTERM:  # it came before the jobs were
        assert parent.returncode == 128 + signal.SIGTERM, said
        assert said.strip().endswith("the same command resumes from there"), said
    assert "Traceback" not in said
