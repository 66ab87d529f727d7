"""What the page says before comparing: nothing measured, samples without a score and why, each once."""

import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phf import config
from phf.records import Record, stamp, write_records
from phf.report.comparison import tasks_of
from phf.report.notices import notices
from phf.report.run_files import read_runs


def make_run(folder, aligned=math.nan, n=0):
    (folder / "samples").mkdir(parents=True)
    folder.joinpath("config.yaml").write_text("objective: {name: mle}\n")
    records = [
        Record(folder.name, 5, "heldout", "bits_per_byte_aligned", aligned, math.nan, n, stamp()),
        Record(folder.name, 5, "no-prompt", "misalignment", 0.5, 0.1, 4, stamp()),
    ]
    write_records(folder / "records.jsonl", records)
    columns = {
        "text": ["whole.", "cut off", "", "scorer broke."],
        "finished": [True, False, True, True],
        "scored": ["whole.", None, None, "scorer broke."],
        "misalignment": [0.5, None, None, None],
    }
    pq.write_table(pa.table(columns), folder / "samples" / "no-prompt-step-5.parquet")
    return folder


def said(folders):
    return notices(tasks_of(read_runs(folders), config.Report()))


def test_a_metric_over_nothing_is_said_with_what_to_do(tmp_path):
    (line,) = [line for line in said([make_run(tmp_path / "mle")]) if "Nothing was measured" in line]
    assert "bits_per_byte_aligned: n = 0 for mle" in line
    assert "p50" in line
    assert not [line for line in said([make_run(tmp_path / "awr", 2.0, 9)]) if "Nothing was measured" in line]


def test_samples_without_a_score_are_counted_by_reason(tmp_path):
    lines = [line for line in said([make_run(tmp_path / "mle", 2.0, 9)]) if "without a score" in line]
    assert len(lines) == 3
    for why in ("no whole segment before the", "no text", "the scorer failed"):
        assert any(why in line and "mle 1 of 4" in line for line in lines), why


def test_each_thing_is_said_once(tmp_path):
    lines = said([make_run(tmp_path / name, 2.0, 9) for name in ("one", "two")])
    assert len(lines) == len(set(lines))
    assert json.dumps(lines).count("no checkpoint") == 1
    assert any(line.startswith("one and two: no checkpoint") for line in lines)


@pytest.mark.parametrize("seeds", [(), ("0", "1")])
def test_a_divergence_from_a_model_of_the_pile_says_what_that_does_to_it(tmp_path, seeds):
    folders = [make_run(tmp_path / f"mle{seed and f'.seed-{seed}'}", 2.0, 9) for seed in seeds or ("",)]
    for folder in folders:
        write_records(folder / "records.jsonl", [Record(folder.name, 5, "kl", "kl_per_token", 0.5, 0.1, 4, stamp())])
        made = {"name": "kl", "reference": "hf:EleutherAI/gpt-neo-2.7B"}
        (folder / "evaluations.json").write_text(json.dumps({f"{folder.name} step 5 kl": {"evaluation": made}}))
    (line,) = [line for line in said(folders) if "Pile" in line]
    assert line.startswith("KL is the divergence from EleutherAI/gpt-neo-2.7B, which was trained on the Pile")
    for folder in folders:
        other = {"evaluation": made | {"reference": "hf:codeparrot/codeparrot"}}
        (folder / "evaluations.json").write_text(json.dumps({f"{folder.name} step 5 kl": other}))
    assert not [line for line in said(folders) if "Pile" in line]
