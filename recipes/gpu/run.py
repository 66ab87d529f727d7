"""The three tasks at ten times the mini recipes' budget, on a machine that is lent for half an hour: most important runs first.

    python recipes/mini_data.py FOLDER           # once: the corpora, in work/data
    phf reward train work/data/toxicity-labels.jsonl --out work/data/toxicity-scorer    # and a second scorer
    python recipes/gpu/run.py --seconds 1700     # again to go on: what is finished is left alone

Installs phf if it is not there (from --wheels FOLDER without a network), trains and evaluates as much as fits into --seconds, and
writes into --results, after every step, gpu-TASK.jsonl with the records and, at the end, REPORT-gpu.md with its figures. A run
whose records stand there already is not made again, even on another machine; a run that is stopped resumes from its last state
in --out. --toy does all of it at a size for tests.
"""

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TASKS = ("toxicity", "pii", "pep8")
STEPS = (
    ("mle", "conditional"),
    ("filtering", "unlikelihood", "conditional-from-50"),
    ("mle-from-50", "rwr", "awr", "rwr-spread", "awr-spread", "conditional-from-90", "mle-from-90"),
)
"""Runs in order of priority; each step is made of all three tasks before the next one begins."""
REPORT_SECONDS, STOP_SECONDS = 90, 45
"""Kept for the report, and for a run to save its state once it is stopped."""
EVALUATIONS = {"no-prompt", "heldout"}
"""A run without records of these is not finished."""
TOY = (
    *("train.model=llama-1m", "train.tokens=6k", "train.context=32", "train.batch=4", "train.save_every=3k"),
    *("tokenize.vocab_size=300", "runs.mle.seeds=2", "runs.conditional.seeds=2", "jobs=2"),
)
TOY_SCORER = "{name: regex, patterns: [the]}"
"""In place of second scorers, which need libraries and a model of their own."""
TOY_SOURCE = ("corpus.source.packages=[json, email]", "corpus.source.limit_characters=60000")


def main() -> None:
    """Install, run, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1700, help="for everything, installation and report included")
    parser.add_argument("--out", type=Path, default=Path("work/gpu"), help="work folders")
    parser.add_argument("--results", type=Path, default=Path("results"), help="records and report")
    parser.add_argument("--wheels", type=Path, help="folder to install from; the package registry by default")
    parser.add_argument("--task", action="append", choices=TASKS, help="only this task; repeatable")
    parser.add_argument("--toy", action="store_true", help="at a size for tests")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="changes of the recipes")
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    _install(options.wheels)
    tasks = options.task or TASKS
    failed = []
    for step in STEPS:
        for task in tasks:
            changes = [*(_toy(task) if options.toy else ()), *options.changes]
            failed += _make(task, step, options, changes, deadline)
    files = [file for task in tasks if (file := _records(options.results, task)).exists()]
    if not files:
        sys.exit("no run was finished, so there is nothing to report; give it more --seconds")
    report = options.results / "REPORT-gpu.md"
    failed += [] if _phf("report", *files, "--out", options.out / "report", "--markdown", report) == 0 else ["the report"]
    print(f"{time.monotonic() - deadline + options.seconds:.0f} s in all; see {report}", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _toy(task: str) -> list[str]:
    """Return the changes that make a task small enough for a test."""
    from phf.config import read_recipe

    evaluations = read_recipe(HERE / f"{task}.yaml").evaluate.evaluations
    sampled = [name for name, component in evaluations.items() if component.name in ("samples", "steer")]
    sizes = [f"evaluate.evaluations.{name}.{size}" for name in sampled for size in ("n=12", "max_tokens=12")]
    gammas = ["evaluate.evaluations.steer.gammas=[1.5]"] if "steer" in sampled else []
    rescored = [name for name, component in evaluations.items() if component.name == "rescore"]
    scorers = [f"evaluate.evaluations.{name}.scorer={TOY_SCORER}" for name in rescored]
    return [*TOY, *sizes, *gammas, *scorers, *(TOY_SOURCE if task == "pep8" else ())]


def _install(wheels: Path | None) -> None:
    """Install phf from this checkout, unless this Python has it."""
    if subprocess.run([sys.executable, "-c", "import phf.cli"], capture_output=True, check=False).returncode == 0:
        return
    extras = ".[sentences,pep8,pii,toxicity,eval,report,second]"
    source = ["--no-index", "--find-links", str(wheels)] if wheels else []
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--constraint",
        "constraints.txt",
        *source,
        "--editable",
        extras,
    ]
    subprocess.run(command, cwd=ROOT, check=True)


def _make(task: str, names: tuple[str, ...], options: argparse.Namespace, changes: list[str], deadline: float) -> list[str]:
    """Make the runs of a step that have no records yet, as far as the time goes, and write down what is finished.

    Returns:
        What failed, in words: one task's fault does not cost the others.
    """
    missing = _missing(task, names, options.results, changes)
    left = deadline - time.monotonic() - REPORT_SECONDS - STOP_SECONDS
    if not missing or left <= 0:
        print(f"{task}: {', '.join(names)}: {'finished before' if not missing else 'no time left'}", flush=True)
        return []
    work = options.out / task
    only = [argument for name in missing for argument in ("--only", name)]
    began = time.monotonic()
    code = _phf("run", HERE / f"{task}.yaml", "--out", work, "--quiet", *only, *changes, seconds=left)
    how = "stopped" if code is None else "failed" if code else "finished"
    print(f"{task}: {', '.join(missing)}: {how}, {time.monotonic() - began:.0f} s", flush=True)
    whole = [run for run in sorted((work / "runs").glob("*")) if _evaluated(run / "records.jsonl") >= EVALUATIONS]
    if whole:
        kept = _records(options.results, task)
        before = [kept] if kept.exists() else []
        code = _phf("report", *whole, *before, "--out", work / "report", "--records", kept, "--quiet") or code
    return [f"{task} ({', '.join(missing)})"] if code else []


def _missing(task: str, names: tuple[str, ...], results: Path, changes: list[str]) -> list[str]:
    """Return the runs of which a seed has no records yet."""
    from phf.config import read_recipe
    from phf.report import read_runs

    recipe = read_recipe(HERE / f"{task}.yaml", changes)
    kept = _records(results, task)
    done = {run.recorded_name for run in read_runs([kept])} if kept.exists() else set()
    expanded = recipe.expanded().runs
    seeds = {name: [one for one in expanded if one == name or one.startswith(f"{name}.seed-")] for name in names}
    return [name for name, ones in seeds.items() if ones and not done.issuperset(ones)]


def _evaluated(path: Path) -> set[str]:
    """Return the evaluations that a run has records of."""
    from phf.records import read_records

    return {record.evaluation for record in read_records(path)} if path.exists() else set()


def _records(results: Path, task: str) -> Path:
    return results / f"gpu-{task}.jsonl"


def _phf(*arguments: object, seconds: float | None = None) -> int | None:
    """Run a command of phf and return its exit status; None if it was stopped after `seconds`, its state saved."""
    process = subprocess.Popen([sys.executable, "-m", "phf", *map(str, arguments)])
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return None


if __name__ == "__main__":
    main()
