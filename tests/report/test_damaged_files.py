"""Damaged run folders: the report works, or ends in one line that names the file."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phf import checksums, config
from phf.errors import InputError
from phf.records import Record, stamp, write_records
from phf.report.comparison import tasks_of
from phf.report.run_files import read_runs
from phf.report.samples import embed

FINDING = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32()), ("kind", pa.string())]))


def samples(misalignment=(0.0, 0.5)):
    columns = {"prompt": ["", ""], "text": ["one", "two"], "finished": [True, False], "misalignment": list(misalignment)}
    findings = pa.array([[], [{"start": 0, "end": 2, "kind": "email"}]], FINDING)
    return pa.table({**columns, "findings": findings})


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "runs" / "mle"
    (folder / "samples").mkdir(parents=True)
    checkpoint = folder / "checkpoints" / "step-5"
    checkpoint.mkdir(parents=True)
    (checkpoint / "phf.json").write_text(json.dumps({"run": "mle", "step": 5, "tokens": 50, "objective": {"name": "mle"}}))
    header = json.dumps({"wte": {"dtype": "F32", "shape": [4, 2], "data_offsets": [0, 32]}}).encode()
    (checkpoint / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(32))
    (folder / "config.yaml").write_text("name: mle\nobjective:\n  name: mle\n")
    lines = [json.dumps({"step": step, "tokens": step * 10, "loss": 2.0}) + "\n" for step in range(6)]
    (folder / "metrics.jsonl").write_text("".join(lines))
    pq.write_table(samples(), folder / "samples" / "no-prompt-step-5.parquet")
    write_records(folder / "records.jsonl", [Record("mle", 5, "no-prompt", "misalignment", 0.25, 0.1, 2, stamp())])
    return folder


def read(folder):
    runs = read_runs([folder])
    assert runs[0].history is not None
    assert runs[0].tokens
    embed(tasks_of(runs, config.Report()))
    return runs[0]


def refusal(folder):
    try:
        read(folder)
    except InputError as error:
        return str(error)
    return None


def test_samples_that_are_missing_are_said(run):
    checksums.record(run / "samples" / "no-prompt-step-5.parquet")
    assert not any("missing" in text for text in read(run).missing)
    (run / "samples" / "no-prompt-step-5.parquet").unlink()
    assert "samples/no-prompt-step-5.parquet was written, but is missing; evaluate again" in read(run).missing


def damages(content: bytes, rng):
    flipped = bytearray(content)
    for place in rng.integers(len(content), size=3):
        flipped[place] ^= 1 << int(rng.integers(8))
    zeros = bytearray(content)
    middle = len(content) // 2
    zeros[middle : middle + 16] = bytes(min(16, len(content) - middle))
    yield from (b"", content[: len(content) // 2], bytes(flipped), bytes(zeros), b"{}", b"[]\n", b"[1, 2]\n", b"\xff\xfe\x80\n")
    yield from (b"3\n", b"null\n", b'{"step": "x"}\n', b'{"step": 1, "tokens": "many"}\n')


def test_every_damage_of_every_file_is_read_over_or_named(run):
    files = sorted(path for path in run.rglob("*") if path.is_file())
    assert len(files) == 6
    rng, named = np.random.default_rng(0), 0
    for path in files:
        content = path.read_bytes()
        for damaged in [damage for _ in range(5) for damage in damages(content, rng)]:
            path.write_bytes(damaged)
            message = refusal(run)
            named += message is not None
            assert message is None or (path.name in message and "\n" not in message), (path, damaged[:40], message)
        path.write_bytes(content)
    assert named > 100
    assert read(run).parameters == 8


def test_infinite_scores_are_named_with_their_row(run):
    pq.write_table(samples([0.0, np.inf]), run / "samples" / "no-prompt-step-5.parquet")
    with pytest.raises(InputError, match=r"no-prompt-step-5\.parquet, row 1: misalignment is inf"):
        read_runs([run])
    line = (run / "records.jsonl").read_text().replace('"value": 0.25', '"value": Infinity')
    pq.write_table(samples(), run / "samples" / "no-prompt-step-5.parquet")
    (run / "records.jsonl").write_text(line)
    with pytest.raises(InputError, match=r"records\.jsonl, line 1: not a record: value is inf"):
        read_runs([run])


def test_a_log_that_is_not_utf8_is_named(run):
    (run / "metrics.jsonl").write_bytes(b'{"step": 0}\n\xff\xfe\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 2: not JSON"):
        read_runs([run])


def test_a_work_folder_stands_for_its_runs(run):
    shutil.copytree(run, run.parent / "awr")
    (run.parent / "notes").mkdir()
    for folder in (run.parent.parent, run.parent):
        assert [found.name for found in read_runs([folder])] == ["awr", "mle"]
