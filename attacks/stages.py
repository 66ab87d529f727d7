"""Attacks on the stages of a small job: kills, damaged files, two at once."""

import os
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from attacks.forked import phf, start
from attacks.inputs import Attempt
from attacks.job import STAGES, Job

_TIMEOUT = 300.0  # seconds; a stage alone takes a few
_KINDS = ("empty", "half", "the middle bit", "3 flipped bits", "16 zero bytes", "deleted", "{}")
_OF_EVALUATE = ("samples", "per-example", "records.jsonl", "evaluations.json")


def finished(folder: Path) -> tuple[Job, dict[str, float]]:
    """Run the job undisturbed: the job, and the seconds of each stage."""
    job, seconds = Job(folder), {}
    job.write_inputs()
    for stage in STAGES:
        start_time = time.monotonic()
        done = phf(job.command(stage), _TIMEOUT)
        if done.status:
            raise SystemExit(f"the undisturbed {stage} failed with status {done.status}: {done.output}")
        seconds[stage] = time.monotonic() - start_time
    return job, seconds


def kills(seed: int, folder: Path, count: int = 10) -> Iterator[Attempt]:
    """Kill each stage at moments spread evenly over its own duration, run it again, and compare with the undisturbed result."""
    whole, seconds = finished(folder / "whole")
    for stage in STAGES:
        expected = _until(whole, stage, folder / "expected").digest()
        for number in range(count):
            share = (number + 0.5) / count
            moment = share * seconds[stage]
            while True:
                job = _copy(whole, folder / "killed", without=STAGES[STAGES.index(stage) :])
                process = start(job.command(stage))
                if was_killed := process.kill_after(moment):
                    left = _left_of_session(process.pid)
                process.wait(_TIMEOUT)
                if was_killed:
                    break
                moment *= 0.9  # it was faster than when it was measured
            outcome = phf(job.command(stage), _TIMEOUT)
            failure = "" if outcome.status == 0 else f"status {outcome.status} when run again: {outcome.output[-300:]}"
            if left:
                failure = failure or f"{len(left)} processes outlived it"
            yield f"kill {stage} at {100 * share:.0f}%", outcome, failure or _changes(job, expected)


def damage(seed: int, folder: Path, count: int | None = None, kinds: Sequence[str] = _KINDS) -> Iterator[Attempt]:
    """Damage every file in each way, restore its time, and run the stages that read it; or `count` of these attempts."""
    rng = random.Random(seed)
    whole, _ = finished(folder / "whole")
    expected = whole.digest()
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
    """Describe which results differ from the undisturbed ones, or are missing; "" if none is."""
    digest = job.digest()
    changed = sorted(name for name in digest.keys() | expected.keys() if expected.get(name) != digest.get(name))
    return f"ended well with another result: {', '.join(changed[:3])}" if changed else ""


def together(seed: int, folder: Path, count: int = 3) -> Iterator[Attempt]:
    """Start each stage twice on one folder: one does the work, the other exits 2 and says who is at work, or finds it done."""
    whole, _ = finished(folder / "whole")
    for stage in STAGES:
        expected = _until(whole, stage, folder / "expected").digest()
        for _ in range(count):
            job = _copy(whole, folder / "together", without=STAGES[STAGES.index(stage) :])
            pair = [start(job.command(stage)) for _ in range(2)]
            outcomes = sorted((process.wait(_TIMEOUT) for process in pair), key=lambda outcome: outcome.status)
            statuses = [outcome.status for outcome in outcomes]
            shown = " | ".join(outcome.output.strip()[-200:] for outcome in outcomes)
            failure = ""
            if statuses not in ([0, 2], [0, 0]):
                failure = f"statuses {statuses}: {shown}"
            elif statuses[1] == 2 and "is at work in this folder" not in outcomes[1].output:
                failure = f"does not say who is at work: {shown}"
            yield f"two at once: {stage}", outcomes[1], failure or _changes(job, expected)


def _until(whole: Job, stage: str, folder: Path) -> Job:
    """Copy a finished job as it was when a stage had ended."""
    return _copy(whole, folder, without=STAGES[STAGES.index(stage) + 1 :])


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


def _left_of_session(session: int, seconds: float = 10.0) -> list[int]:
    """List the processes of a session that are left after so long; those that are about to end have that time."""
    deadline = time.monotonic() + seconds
    while (left := _of_session(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _of_session(session: int) -> list[int]:
    """List the processes of a session that have not ended."""
    left = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            left.append(int(stat.parent.name))
    return left
