"""The verdict on each of the paper's claims, on made-up records: one case for each answer."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from phf import config
from phf.cli import main
from phf.records import Record, stamp, write_records
from phf.report import verdicts
from phf.report.claims import to_markdown
from phf.report.comparability import distinct_2
from phf.report.comparison import tasks_of
from phf.report.run_files import read_runs
from phf.report.seeds import pool_seeds

CORPUS = {"corpus": {"source": {"name": "made-up"}}, "annotate": {"segmenter": {"name": "lines"}, "scorer": {"name": "pii"}}}
WORDS = np.array([f"word{number}" for number in range(500)])


def make_run(folder, objective, score, bits, seeds=3, repeats=False, unscored=0, **train):
    """Make one run folder a seed: misalignment and bits per byte differ a little between seeds."""
    rng = np.random.default_rng(len(folder.name))
    made = []
    for seed in range(seeds):
        path = folder.with_name(f"{folder.name}.seed-{seed}")
        (path / "samples").mkdir(parents=True)
        settings = {"objective": {"name": objective}, "train": train, "tokens": {"corpus": CORPUS}}
        (path / "config.yaml").write_text(yaml.safe_dump(settings))
        wobble = 1 + 0.01 * (seed - 1)
        values = {("heldout", "bits_per_byte_aligned"): bits + 0.001 * seed}
        values |= {(name, "misalignment"): score * wobble for name in ("no-prompt", "adversarial")}
        records = [
            Record(path.name, 5, evaluation, metric + end, value * factor, value * 0.005, 200, stamp())
            for (evaluation, metric), value in values.items()
            for end, factor in (("", 1.0), (".low", 0.99), (".high", 1.01))
        ]
        write_records(path / "records.jsonl", records)
        texts = ["same words again " * 8 if repeats else " ".join(rng.choice(WORDS, 30)) for _ in range(200)]
        columns = {"text": texts, "misalignment": [None] * unscored + [score] * (200 - unscored), "finished": [True] * 200}
        pq.write_table(pa.table(columns), path / "samples" / "no-prompt-step-5.parquet")
        made.append(path)
    return made


def task_of(folders):
    (task,) = tasks_of(pool_seeds(read_runs(folders)), config.Report())
    return task


@pytest.fixture
def good(tmp_path):
    """The paper's outcome: every claim holds."""
    return [
        *make_run(tmp_path / "mle", "mle", 0.02, 2.0),
        *make_run(tmp_path / "conditional", "conditional", 0.001, 2.01),
        *make_run(tmp_path / "filtering", "filtering", 0.01, 2.1),
        *make_run(tmp_path / "unlikelihood", "unlikelihood", 0.008, 2.05),
        *make_run(tmp_path / "rwr", "rwr", 0.019, 2.02),
        *make_run(tmp_path / "awr", "awr", 0.018, 2.02),
        *make_run(tmp_path / "late", "conditional", 0.004, 2.01, init={"run": "mle", "at": "50%"}),
    ]


def test_every_claim_can_hold(good):
    task = task_of(good)
    for judge in (verdicts.frontier, verdicts.lowers, verdicts.scenarios, verdicts.capability, verdicts.from_the_start):
        verdict = judge(task)
        assert verdict.verdict == "holds", (judge.__name__, verdict)
        assert verdict.measured


@pytest.mark.parametrize(
    ("judge", "name", "objective", "score", "bits", "reason"),
    [
        (verdicts.frontier, "rwr", "rwr", 0.0005, 2.0, "rwr is better"),
        (verdicts.lowers, "conditional", "conditional", 0.01, 2.01, "less than ten times"),
        (verdicts.lowers, "conditional", "conditional", 0.03, 2.01, "higher"),
        (verdicts.scenarios, "conditional", "conditional", 0.03, 2.01, "higher: no prompt, adversarial"),
        (verdicts.capability, "conditional", "conditional", 0.001, 2.2, "larger"),
        (verdicts.capability, "filtering", "filtering", 0.01, 1.9, "filtering costs less"),
        (verdicts.from_the_start, "late", "conditional", 0.0005, 2.01, "late is lower"),
    ],
)
def test_every_claim_can_fail(good, tmp_path, judge, name, objective, score, bits, reason):
    others = [folder for folder in good if not folder.name.startswith(name)]
    train = {"init": {"run": "mle", "at": "50%"}} if name == "late" else {}
    verdict = judge(task_of([*others, *make_run(tmp_path / "new" / name, objective, score, bits, **train)]))
    assert verdict.verdict == "does not hold", verdict
    assert reason in "; ".join(verdict.why)


@pytest.mark.parametrize(
    ("judge", "without", "reason"),
    [
        (verdicts.frontier, "awr", "not measured: awr"),
        (verdicts.frontier, "conditional", "no run of conditional training"),
        (verdicts.lowers, "mle", "no run of MLE"),
        (verdicts.scenarios, "conditional", "no run of conditional training"),
        (verdicts.capability, "filtering", "filtering was not measured"),
        (verdicts.from_the_start, "late", "no run finetuned with feedback"),
    ],
)
def test_missing_runs_leave_a_claim_open(good, judge, without, reason):
    verdict = judge(task_of([folder for folder in good if not folder.name.startswith(without)]))
    assert verdict.verdict == "cannot be told"
    assert reason in "; ".join(verdict.why)


def test_one_seed_is_too_few(good):
    task = task_of([folder for folder in good if folder.name.endswith("seed-0")])
    for judge in (verdicts.lowers, verdicts.scenarios, verdicts.capability, verdicts.from_the_start):
        verdict = judge(task)
        assert verdict.verdict == "cannot be told"
        assert "seeds" in "; ".join(verdict.why)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"repeats": True}, "distinct-2 at equal length"), ({"unscored": 30}, "only 85% of the samples are scored")],
)
def test_a_ratio_of_other_texts_does_not_count(good, tmp_path, change, reason):
    others = [folder for folder in good if not folder.name.startswith("conditional")]
    verdict = verdicts.lowers(
        task_of([*others, *make_run(tmp_path / "new" / "conditional", "conditional", 0.001, 2.01, **change)])
    )
    assert verdict.verdict == "cannot be told"
    assert reason in "; ".join(verdict.why)


def test_distinct_2_is_taken_at_equal_length():
    texts = [["a", "b", "a", "b"], ["c", "d"]]
    assert distinct_2(texts, 6) == 3 / 4  # ab ba (ab) | cd
    assert distinct_2(texts, 3) == 1
    assert np.isnan(distinct_2(texts, 1))


def test_the_report_is_written_claim_by_claim(good, tmp_path):
    text = to_markdown([task_of(good)])
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert sum("| holds |" in line for line in table) == 5
    for words in ("## 1. Conditional training is on the frontier", "Expected:", "Why:", "MLE's is 20 [", "| words |"):
        assert words in text, words
    with pytest.raises(SystemExit) as stopped:
        main(["report", *map(str, good), "--out", str(tmp_path / "out"), "--markdown", str(tmp_path / "REPORT.md"), "--quiet"])
    assert not stopped.value.code
    assert (tmp_path / "REPORT.md").read_text() == text
    assert json.loads((tmp_path / "out" / "report.json").read_text())["numbers"]
