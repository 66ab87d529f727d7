"""The report from committed records: three tasks, each from one file, with every answer; nothing else is needed."""

import json
import shutil

import numpy as np
import pytest

from phf import config, per_example
from phf.cli import main
from phf.errors import InputError
from phf.layout import RunFolder
from phf.records import Record, stamp, write_records
from phf.report import ratios, verdicts
from phf.report.comparison import tasks_of
from phf.report.record_files import read_record_file
from phf.report.run_files import read_runs
from phf.report.seeds import pool_seeds
from report.test_claims import make_run, make_task, task_of


def phf(*arguments):
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, arguments), "--quiet"])
    assert not stopped.value.code


def add(folder, evaluation, **values):
    """Add records to a run, each with an interval."""
    records = [
        Record(folder.name, 5, evaluation, metric + end, value * factor, value * 0.01, 200, stamp())
        for metric, value in values.items()
        for end, factor in (("", 1.0), (".low", 0.98), (".high", 1.02))
    ]
    write_records(folder / "records.jsonl", records)


def tasks(*files):
    return tasks_of(pool_seeds(read_runs(files)), config.Report())


def test_three_tasks_from_their_records_alone(tmp_path):
    made = {
        "toxicity": make_task(tmp_path / "a", "toxicity"),
        "pii": make_task(tmp_path / "b", "pii", conditional=0.01),
        "pep8": make_task(tmp_path / "c", "pep8", repeats=True),
    }
    for scorer, folders in made.items():
        for folder in folders:
            score = {"mle": 0.4, "conditional": 0.02}.get(folder.name.partition(".")[0], 0.2)
            wobble = 1 + 0.01 * (int(folder.name[-1]) - 1)
            add(folder, "second", hit_share_by_profanity=score * wobble, misalignment_by_profanity=score)
            add(folder, "no-prompt", hit_share=score * wobble)
            if folder.name.startswith("conditional"):
                guided = {"hit_share": score / 4 * wobble, "unscored_share": 0.01, "bits_per_byte_aligned": 2.03}
                add(folder, "steer@gamma=1.5", misalignment=0.0005 * wobble, **guided)
        phf("report", *folders, "--out", tmp_path / "page", "--records", tmp_path / "results" / f"{scorer}-mini.jsonl")
    for folder in ("a", "b", "c"):
        shutil.rmtree(tmp_path / folder)
    files = sorted((tmp_path / "results").glob("*.jsonl"))
    assert "/somewhere" not in "".join(file.read_text() for file in files)  # nothing of this machine
    phf("report", *files, "--out", tmp_path / "page", "--markdown", tmp_path / "results" / "REPORT.md")
    text = (tmp_path / "results" / "REPORT.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("| 2. ")]
    assert "| cannot be told | does not hold | holds |" in table[0]  # pep8, pii, toxicity
    assert "distinct-2 at equal length is 0.10 against 0.90" in text
    for scorer in made:
        assert f"(REPORT-{scorer}.svg)" in text
        svg = (tmp_path / "results" / f"REPORT-{scorer}.svg").read_text()
        assert svg.count("<svg") == 1
    assert "| claim | PEP8 | PII | toxicity |" in text
    assert "| samples past the threshold, by profanity | 40.0" in text
    assert "+0.5% [+0.5%, +0.5%] | 2% or less" in text
    assert "+1.4% [+1.3%, +1.6%] | 3% or less" in text  # the cost of guidance
    assert "-mini/" not in text.replace("-mini.jsonl", "")


def test_ratios_are_taken_over_pairs_of_seeds(tmp_path):
    folders = make_task(tmp_path, "pii")
    for seed, (mle, own) in enumerate([(0.4, 0.04), (0.6, 0.03), (0.5, 0.1)]):
        add(tmp_path / f"mle.seed-{seed}", "second", hit_share_by_presidio=mle, misalignment_by_presidio=mle / 100)
        add(tmp_path / f"conditional.seed-{seed}", "second", hit_share_by_presidio=own, misalignment_by_presidio=own / 100)
    task = task_of(folders)
    found = {ratio.metric: ratio for ratio in ratios.ratios(task, verdicts.conditional_run(task))}
    logs = np.log([10, 20, 5])
    half = 4.302653 * logs.std(ddof=1) / np.sqrt(3)
    for metric in ("misalignment_by_presidio", "hit_share_by_presidio"):
        ratio = found[metric]
        assert (ratio.value, ratio.low, ratio.high) == pytest.approx(
            tuple(np.exp([logs.mean(), logs.mean() - half, logs.mean() + half]))
        )
    assert found["misalignment_by_presidio"].expected == 5  # what is counted; the share of hits has no target of its own
    assert np.isnan(found["hit_share_by_presidio"].expected)
    (cost,) = ratios.costs(task, verdicts.conditional_run(task))
    assert cost.value == pytest.approx(np.mean([(2.01 + 0.001 * seed) / (2 + 0.001 * seed) - 1 for seed in range(3)]))


def test_pairs_of_documents_survive_without_the_documents(tmp_path):
    """Runs of one seed: what differs on the same documents is told apart, before and after."""
    rng = np.random.default_rng(0)
    hard = rng.uniform(1, 3, 300)
    folders = [
        *make_run(tmp_path / "mle", "mle", 0.02, 2.0),
        *make_run(tmp_path / "filtering", "filtering", 0.01, 2.0, seeds=1),
    ]
    folders[3] = folders[3].rename(tmp_path / "filtering")  # a run of one seed has no seed in its name
    for folder, extra in zip(folders, (0, 0.001, 0.002, 0.02), strict=True):
        bits = hard + extra + rng.normal(0, 0.001, 300)
        path = RunFolder(folder).per_example_of("heldout", 5)
        per_example.write(path, [f"d{number}" for number in range(300)], {"bits_per_byte_aligned": (bits, np.ones(300))})
        lines = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
        for line in lines:
            line["run"] = folder.name
            if line["evaluation"] == "heldout":
                line["value"] = float(bits.mean()) * {"low": 0.9, "high": 1.1}.get(line["metric"].rpartition(".")[2], 1)
        (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    before = task_of(folders).difference(task_of(folders).runs[1], "heldout", "bits_per_byte_aligned")
    phf("report", *folders, "--out", tmp_path / "page", "--records", tmp_path / "r.jsonl")
    (task,) = tasks(tmp_path / "r.jsonl")
    after = task.difference(task.runs[1], "heldout", "bits_per_byte_aligned")
    assert after == before
    assert after.how == "paired by document, of seed 0 alone"
    assert after.low > 0.015
    assert after.high < 0.025


def test_differences_are_written_that_are_read_and_no_others(tmp_path):
    """Runs of one seed, measured on the same documents: to MLE, and those between which a verdict decides."""
    rng = np.random.default_rng(0)
    names = ("mle", "conditional", "filtering", "unlikelihood", "rwr", "awr")
    hard, folders = rng.uniform(1, 3, 40), []
    for number, name in enumerate(names):
        bits = hard + 0.01 * number + rng.normal(0, 0.01, 40)
        folders += make_run(tmp_path / name, name, 0.02, float(bits.mean()), seeds=1)
        path = RunFolder(folders[-1]).per_example_of("heldout", 5)
        per_example.write(path, [f"d{row}" for row in range(40)], {"bits_per_byte_aligned": (bits, np.ones(40))})
    phf("report", *folders, "--out", tmp_path / "page", "--records", tmp_path / "r.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    pairs = {(line["run"].partition(".")[0], line["against"].partition(".")[0]) for line in lines if "against" in line}
    to_baseline = {(name, "mle") for name in names[1:]}
    of_conditional = {("conditional", name) for name in names[2:]}
    assert pairs == {*to_baseline, *of_conditional, ("filtering", "conditional")}
    (after,) = tasks(tmp_path / "r.jsonl")
    for judge in (verdicts.frontier, verdicts.capability):
        verdict = judge(after)
        assert verdict == judge(task_of(folders))
        assert "paired by document" in "".join(verdict.measured)


def test_a_folder_is_newer_than_the_file_and_both_make_one_task(tmp_path):
    folders = make_task(tmp_path / "runs", "pii")
    phf("report", *folders, "--out", tmp_path / "page", "--records", tmp_path / "r.jsonl")
    add(folders[0], "no-prompt", misalignment=0.5)
    (task,) = tasks(tmp_path / "r.jsonl", *folders[:2])
    assert len(task.runs) == 7
    assert task.baseline.seeds[0].get("no-prompt", "misalignment").value == 0.5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; `phf report FOLDERS --records"),
        ("", "no run in it"),
        ('{"run": "mle"}\n', "line 1: not a record"),
        ("[1]\n", "line 1:"),
        ('{"run": "a", "about": {}}\nnonsense\n', "line 2:"),
    ],
)
def test_files_that_hold_no_records(tmp_path, content, message):
    path = tmp_path / "r.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_record_file(path)
