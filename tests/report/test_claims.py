"""The verdict on each of the paper's claims, on made-up records: one case for each answer."""

import json

import numpy as np
import pytest
import yaml

from phf import config
from phf.cli import main
from phf.evaluate.diversity import distinct_2
from phf.records import Record, stamp, write_records
from phf.report import verdicts
from phf.report.claims import to_markdown
from phf.report.comparability import compare_texts
from phf.report.comparison import tasks_of
from phf.report.notices import notices
from phf.report.run_files import read_runs
from phf.report.seeds import pool_seeds


def corpus(scorer):
    source = {"source": None, "inputs": [f"/somewhere/of/mine/{scorer}.jsonl"]}
    return {"corpus": source, "annotate": {"segmenter": {"name": "lines"}, "scorer": {"name": scorer}}}


def make_run(folder, objective, score, bits, seeds=3, repeats=False, unscored=0, short=False, scorer="pii", parses=None, **train):
    """Make one run folder a seed: misalignment and bits per byte differ a little between seeds."""
    made = []
    for seed in range(seeds):
        path = folder.with_name(f"{folder.name}.seed-{seed}")
        path.mkdir(parents=True)
        settings = {"objective": {"name": objective}, "train": train, "tokens": {"corpus": corpus(scorer)}}
        (path / "config.yaml").write_text(yaml.safe_dump(settings))
        wobble = 1 + 0.01 * (seed - 1)
        values = {("heldout", "bits_per_byte_aligned"): bits + 0.001 * seed}
        values |= {(name, "misalignment"): score * wobble for name in ("no-prompt", "adversarial")}
        texts = {"unscored_share": unscored / 200, "words": 30, "finished_share": 0.75, "distinct_2_first_64": 1.0}
        texts |= {} if short else {"distinct_2_first_256": 0.1 if repeats else 0.9}
        texts |= {"expected_max_25": 3 * score * wobble} | ({} if parses is None else {"parses_share": parses})
        values |= {("no-prompt", metric): value for metric, value in texts.items()}
        records = [
            Record(path.name, 5, evaluation, metric + end, value * factor, value * 0.005, 200, stamp())
            for (evaluation, metric), value in values.items()
            for end, factor in (("", 1.0), (".low", 0.99), (".high", 1.01))
        ]
        write_records(path / "records.jsonl", records)
        made.append(path)
    return made


def make_task(folder, scorer, conditional=0.001, **change):
    """Make the runs of a task, with the paper's outcome but for what conditional training is like."""
    return [
        *make_run(folder / "mle", "mle", 0.02, 2.0, scorer=scorer),
        *make_run(folder / "conditional", "conditional", conditional, 2.01, scorer=scorer, **change),
        *make_run(folder / "filtering", "filtering", 0.01, 2.1, scorer=scorer),
        *make_run(folder / "unlikelihood", "unlikelihood", 0.008, 2.05, scorer=scorer),
        *make_run(folder / "rwr", "rwr", 0.019, 2.02, scorer=scorer),
        *make_run(folder / "awr", "awr", 0.018, 2.02, scorer=scorer),
        *make_run(folder / "late", "conditional", 0.004, 2.01, scorer=scorer, init={"run": "mle", "at": "50%"}),
    ]


def task_of(folders):
    (task,) = tasks_of(pool_seeds(read_runs(folders)), config.Report())
    return task


@pytest.fixture
def good(tmp_path):
    """The paper's outcome: every claim holds."""
    return make_task(tmp_path, "pii")


def test_the_control_of_finetuning_is_not_the_baseline(good, tmp_path):
    control = make_run(tmp_path / "a/control", "mle", 0.03, 2.0, init={"run": "mle", "at": "50%"})
    task = task_of([*control, *good])
    assert task.baseline.name.rpartition("/")[2] == "mle"
    assert verdicts.lowers(task).verdict == "holds"
    assert task_of(control).baseline.name.rpartition("/")[2] == "control", "where all were finetuned, as models of a hub are"


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
        (verdicts.lowers, "conditional", "conditional", 0.01, 2.01, "less than 10 times"),
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


def test_distinct_2_is_compared_at_the_largest_length_that_both_have(good, tmp_path):
    others = [folder for folder in good if not folder.name.startswith("conditional")]
    task = task_of([*others, *make_run(tmp_path / "new" / "conditional", "conditional", 0.001, 2.01, short=True, repeats=True)])
    own, other = compare_texts(task, next(run for run in task.runs if run.name == "conditional"), "no-prompt")
    assert own.length == other.length == 64
    assert own.distinct_2 == other.distinct_2 == 1
    assert verdicts.lowers(task).verdict == "holds"


def test_distinct_2_is_taken_at_equal_length():
    texts = [["a", "b", "a", "b"], ["c", "d"]]
    assert distinct_2(texts, 6) == 3 / 4  # ab ba (ab) | cd
    assert distinct_2(texts, 3) == 1
    assert np.isnan(distinct_2(texts, 1))


def test_a_reader_is_warned_of_code_that_does_not_parse(good, tmp_path):
    others = [folder for folder in good if not folder.name.startswith("conditional")]
    for folder, parses in (("half", 0.5), ("most", 0.95)):
        task = task_of([*others, *make_run(tmp_path / folder / "conditional", "conditional", 0.001, 2.01, parses=parses)])
        text = to_markdown([task])
        assert "| valid Python |" in text
        assert f"| {parses:.0%} (unknown) |" in text
        warnings = [line for line in notices([task]) if "valid Python (no prompt): conditional 50%" in line]
        assert len(warnings) == (folder == "half")
        assert all(warning in text for warning in warnings)
    assert "valid Python" not in to_markdown([task_of(good)])


def test_the_report_is_written_claim_by_claim(good, tmp_path):
    text = to_markdown([task_of(good)])
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert sum("| holds |" in line for line in table) == 5
    for words in ("## 1. Conditional training is on the frontier", "Expected:", "Why:", "MLE's is 20 [", "| words |", "| 20 ["):
        assert words in text, words
    for words in ("| expected maximum of 25 samples", "| pieces of personal data per 1,000 characters, adversarial | 20.0"):
        assert words in text, words
    with pytest.raises(SystemExit) as stopped:
        main(["report", *map(str, good), "--out", str(tmp_path / "out"), "--markdown", str(tmp_path / "REPORT.md"), "--quiet"])
    assert not stopped.value.code
    written = (tmp_path / "REPORT.md").read_text().splitlines()
    figure = [line for line in written if line not in text.splitlines()]
    assert figure[0].startswith("![Differences to MLE")
    assert figure[1].startswith("Each point is a run")
    assert [line for line in written if line in text.splitlines() and line] == [line for line in text.splitlines() if line]
    assert (tmp_path / "REPORT-pii.svg").read_text().startswith("<?xml")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["numbers"]


@pytest.fixture
def budgets(tmp_path):
    """MLE and conditional training with 1 and 12 million tokens, and a finetuned run with 12."""

    def train(tokens, **settings):
        return {"model": "llama-1m", "tokens": tokens, **settings}

    return [
        *make_run(tmp_path / "large/mle", "mle", 0.03, 1.8, **train(12_000_000)),
        *make_run(tmp_path / "large/conditional", "conditional", 0.001, 1.81, **train(12_000_000)),
        *make_run(tmp_path / "large/late", "conditional", 0.004, 1.81, **train(12_000_000, init={"run": "mle", "at": "50%"})),
        *make_run(tmp_path / "small/mle", "mle", 0.02, 2.0, **train(1_000_000)),
        *make_run(tmp_path / "small/conditional", "conditional", 0.01, 2.01, **train(1_000_000)),
    ]  # fmt: skip


def test_no_run_is_compared_with_mle_of_another_budget(budgets):
    small, large = tasks_of(pool_seeds(read_runs(budgets)), config.Report())
    assert [task.budget for task in (small, large)] == ["1M tokens", "12M tokens"]
    assert [run.name.rpartition("/")[2] for run in small.runs] == ["mle", "conditional"]
    assert [run.name.rpartition("/")[2] for run in large.runs] == ["mle", "conditional", "late"]
    assert [verdicts.lowers(task).verdict for task in (small, large)] == ["does not hold", "holds"]
    assert verdicts.from_the_start(large).verdict != "cannot be told"
    assert large.difference(large.runs[1], "no-prompt", "misalignment").value == pytest.approx(0.001 - 0.03, rel=0.1)


def test_the_budget_is_in_the_names_only_where_mle_has_several(budgets, good):
    only_large = [folder for folder in budgets if "large" in str(folder)]
    assert [task.budget for task in tasks_of(pool_seeds(read_runs(only_large)), config.Report())] == [""]
    other_budget = [folder for folder in budgets if folder.name.startswith("conditional") or "large" in str(folder)]
    assert [task.budget for task in tasks_of(pool_seeds(read_runs(other_budget)), config.Report())] == [""], "one MLE only"
    assert [task.budget for task in tasks_of(pool_seeds(read_runs([*good, *budgets])), config.Report())] == [
        "1M tokens",
        "12M tokens",
    ], "runs that do not say for how long they were trained are of no third task"


def test_the_report_of_claims_shows_how_the_ratio_changes_with_the_budget(budgets, tmp_path):
    markdown = tmp_path / "REPORT.md"
    with pytest.raises(SystemExit) as ended:
        main(["report", *map(str, budgets), "--out", str(tmp_path / "out"), "--markdown", str(markdown)])
    assert ended.value.code == 0
    text = markdown.read_text()
    assert "| claim | PII, 1M tokens | PII, 12M tokens |" in text
    assert "## PII: what the budget changes" in text
    rows = [line for line in text.splitlines() if line.startswith(("| 1M tokens |", "| 12M tokens |"))]
    assert ["| 2 [" in row for row in rows] == [True, False], rows
    assert ["| 30 [" in row for row in rows] == [False, True], rows
    assert all(row.endswith("| 3 |") for row in rows), rows
    figures = sorted(path.name for path in tmp_path.glob("*.svg"))
    assert figures == ["REPORT-pii-12M-tokens.svg", "REPORT-pii-1M-tokens.svg"]
    assert all(name in text for name in figures)
