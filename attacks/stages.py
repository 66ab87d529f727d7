"""Attacks on the stages of a small job: kills, damaged files, two at once."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from attacks.forked import Outcome, phf
from attacks.inputs import Attempt
from attacks.job import STAGES, Job

_TIMEOUT = 120.0
_KINDS = ("empty", "half", "the middle bit", "3 flipped bits", "16 zero bytes", "deleted", "{}")
_OF_EVALUATE = ("samples", "per-example", "records.jsonl", "evaluations.json")


def finished(folder: Path) -> tuple[Job, dict[str, str], dict[str, float]]:
    """Run the job undisturbed: the job, its digest, and the seconds of each stage."""
    job, seconds = Job(folder), {}
    job.write_inputs()
    for stage in STAGES:
        start = time.monotonic()
        done = subprocess.run(_command(job, stage), capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"the undisturbed {stage} failed: {done.stderr}")
        seconds[stage] = time.monotonic() - start
    return job, job.digest(), seconds


def kills(seed: int, folder: Path, count: int = 10) -> Iterator[Attempt]:
    """Kill each stage at moments spread evenly over its own duration, run it again, and compare with the undisturbed result."""
    whole, expected, seconds = finished(folder / "whole")
    for stage in STAGES:
        for number in range(count):
            job = _copy(whole, folder / "killed", without=STAGES[STAGES.index(stage) :])
            process = subprocess.Popen(
                _command(job, stage), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
            time.sleep(seconds[stage] * (number + 0.5) / count)
            process.send_signal(signal.SIGKILL)
            process.wait()
            time.sleep(0.3)
            left = _children_of_session(process.pid)
            outcome = phf(job.command(stage), _TIMEOUT)
            failure = "" if outcome.status == 0 else f"status {outcome.status} when run again: {outcome.output[-300:]}"
            if left:
                failure = failure or f"{len(left)} processes outlived it"
            if not failure and stage != "report":
                failure = _changes(job, expected)
            yield f"kill {stage} at {100 * (number + 0.5) / count:.0f}%", outcome, failure


def damage(seed: int, folder: Path, count: int | None = None, kinds: Sequence[str] = _KINDS) -> Iterator[Attempt]:
    """Damage every file in each way, restore its time, and run the stages that read it; or `count` of these attempts."""
    rng = random.Random(seed)
    whole, expected, _ = finished(folder / "whole")
    attempts = [(path.relative_to(whole.folder), kind) for path in whole.outputs() for kind in kinds]
    for name, kind in attempts if count is None else rng.sample(attempts, min(count, len(attempts))):
        job = _copy(whole, folder / "damaged")
        before = (job.folder / name).stat()
        if not _damage(job.folder / name, kind, rng):
            continue
        if (job.folder / name).exists():
            os.utime(job.folder / name, ns=(before.st_atime_ns, before.st_mtime_ns))
        yield _read_damaged(job, name, kind, expected)


def _read_damaged(job: Job, name: Path, kind: str, expected: dict[str, str]) -> Attempt:
    """Delete what is made from the damaged file, make it again, and compare."""
    producer = {"annotated": "annotate", "tokens": "tokenize", "runs": "train", "report": "report"}[name.parts[0]]
    if set(name.parts) & set(_OF_EVALUATE):
        producer = "evaluate"
    if any(part.startswith("state-") for part in name.parts):  # as a process that was killed before the last checkpoint leaves it
        shutil.rmtree(max(job.run.checkpoints().items())[1])
    what = f"{kind}: {name}"
    made_later = STAGES[STAGES.index(producer) + 1 :]
    job.remove(made_later)
    outcome = phf(job.command(producer), _TIMEOUT)
    for stage in made_later:
        if outcome.status:
            break
        outcome = phf(job.command(stage), _TIMEOUT)
    if not outcome.is_clean:
        return what, outcome, f"status {outcome.status}: {outcome.output.strip()[-300:]}"
    if outcome.status == 2:
        shown = outcome.output.replace("\n", " ")
        return what, outcome, "" if name.name in shown or str(name.parent.name) in shown else f"names no file: {shown[-300:]}"
    return what, outcome, _changes(job, expected)


def _changes(job: Job, expected: dict[str, str]) -> str:
    """Describe which results differ from the undisturbed ones; "" if none does."""
    digest = job.digest()
    changed = [name for name in digest if expected.get(name) != digest[name]]
    return f"ended well with another result: {', '.join(changed[:3])}" if changed else ""


def together(seed: int, folder: Path, count: int = 3) -> Iterator[Attempt]:
    """Start each stage twice on one folder: one does the work, the other exits 2 and says who is at work."""
    whole, expected, _ = finished(folder / "whole")
    for stage in STAGES:
        for _ in range(count):
            job = _copy(whole, folder / "together", without=STAGES[STAGES.index(stage) :])
            pair = [
                subprocess.Popen(_command(job, stage), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                for _ in range(2)
            ]
            outputs = [process.communicate(timeout=_TIMEOUT)[0] for process in pair]
            outcome = Outcome(max(process.returncode for process in pair), "\n".join(outputs))
            statuses = sorted(process.returncode for process in pair)
            failure = "" if statuses in ([0, 2], [0, 0]) else f"statuses {statuses}: {outcome.output[-300:]}"
            if not failure and stage != "report":
                failure = _changes(job, expected)
            yield f"two at once: {stage}", outcome, failure


def _command(job: Job, stage: str) -> list[str]:
    return [sys.executable, "-m", "phf", *map(str, job.command(stage))]


def _copy(whole: Job, folder: Path, without: Sequence[str] = ()) -> Job:
    """Copy a finished job to a folder, without what some stages wrote."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole.folder, folder)
    job = Job(folder)
    job.remove(without)
    return job


def _damage(path: Path, kind: str, rng: random.Random) -> bool:
    """Damage a file; False if this kind leaves it as it was."""
    content = bytearray(path.read_bytes())
    original = bytes(content)
    match kind:
        case "empty":
            content = bytearray()
        case "half":
            content = content[: len(content) // 2]
        case "the middle bit" if content:
            content[len(content) // 2] ^= 1 << 4
        case "3 flipped bits" if content:
            for _ in range(3):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        case "16 zero bytes" if len(content) > 16:
            place = rng.randrange(len(content) - 16)
            content[place : place + 16] = bytes(16)
        case "deleted":
            path.unlink()
            return True
        case "{}":
            content = bytearray(b"{}")
    path.write_bytes(content)
    return bytes(content) != original


def _children_of_session(session: int) -> list[int]:
    """List the processes of a session that are left."""
    left = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            left.append(int(stat.parent.name))
    return left
