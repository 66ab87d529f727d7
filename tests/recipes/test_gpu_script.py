"""The script for a lent GPU, at toy size on a CPU: to its last line, and again with nothing left to do."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "recipes" / "gpu" / "run.py"
WORDS = ["the", "film", "was", "long", "dull", "but", "good", "you", "idiot", "write", "to", "jane.doe@example.com", "today"]


@pytest.fixture
def place(tmp_path):
    """A folder with the data that the recipes name."""
    data = tmp_path / "work" / "data"
    data.mkdir(parents=True)
    rng = random.Random(0)
    for task in ("toxicity", "pii"):
        texts = [" ".join(rng.choices(WORDS, k=8)).capitalize() + ". " + "It was good. " * (row % 3) for row in range(300)]
        lines = [json.dumps({"id": f"d{row}", "text": text}) for row, text in enumerate(texts)]
        (data / f"{task}.jsonl").write_text("\n".join(lines) + "\n")
    for task in ("toxicity", "pii", "pep8"):
        (data / f"{task}-prompts.jsonl").write_text("".join(json.dumps({"text": f"def f{row}"}) + "\n" for row in range(6)))
    return tmp_path


def run(place, *arguments):
    command = [sys.executable, str(SCRIPT), "--toy", "--out", "work/gpu", "--results", "results", *arguments]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=1500, check=False)


@pytest.mark.slow
def test_the_script_runs_to_its_last_line_and_leaves_alone_what_is_finished(place):
    for library in ("scrubadub", "spacy", "sklearn", "pycodestyle", "matplotlib"):
        pytest.importorskip(library)
    done = run(place, "--seconds", "1500")
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]
    assert "s in all; see results/REPORT-gpu.md" in done.stdout.splitlines()[-1]
    report = (place / "results" / "REPORT-gpu.md").read_text()
    assert all(f"(REPORT-gpu-{task}.svg)" in report for task in ("toxicity", "pii", "pep8"))
    records = {path.name: path.read_text() for path in (place / "results").glob("*.jsonl")}
    assert records.keys() == {"gpu-toxicity.jsonl", "gpu-pii.jsonl", "gpu-pep8.jsonl"}
    (place / "work" / "gpu").rename(place / "elsewhere")  # another machine, with the committed records
    again = run(place, "--seconds", "300")
    assert again.returncode == 0, again.stderr[-3000:]
    assert again.stdout.count("finished before") == 9
    assert {path.name: path.read_text() for path in (place / "results").glob("*.jsonl")} == records


def test_without_time_nothing_is_started(place):
    done = run(place, "--seconds", "10", "--task", "pii")
    assert done.returncode == 1
    assert "pii: mle, conditional: no time left" in done.stdout
    assert "nothing to report; give it more --seconds" in done.stderr
    assert not (place / "work" / "gpu").exists()
