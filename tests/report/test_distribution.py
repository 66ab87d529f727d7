"""The figure of how scores are distributed: at each score the share of a run's samples above it."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from phf.evaluate.scored_samples import SCHEMA, write_samples
from phf.records import Record, stamp, write_records
from phf.report import figures, report

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

SCORES = {"mle": [0.0] * 6 + [0.1, 0.3, 0.3, None], "conditional": [0.0] * 9 + [0.2], "none": [0.0] * 10}


def make_run(folder, scores):
    folder.mkdir(parents=True)
    folder.joinpath("config.yaml").write_text(f"objective: {{name: {folder.name if folder.name != 'none' else 'rwr'}}}\n")
    values = {("no-prompt", "misalignment"): np.nanmean(np.array(scores, float)), ("heldout", "bits_per_byte_aligned"): 2.0}
    records = []
    for (evaluation, metric), value in values.items():
        for end, shift in (("", 0.0), (".low", -0.01), (".high", 0.01)):
            records.append(Record(folder.name, 5, evaluation, metric + end, value + shift, 0.005, len(scores), stamp()))
    write_records(folder / "records.jsonl", records)
    column = np.array([np.nan if score is None else score for score in scores], np.float32)
    texts = [f"Text {number}." for number in range(len(scores))]
    known = {"prompt": [""] * len(texts), "text": texts, "finished": [True] * len(texts), "scored": texts}
    rest = {"misalignment": column, "misalignment_with_cut": column, "findings": [[] for _ in texts]}
    path = folder / "samples" / "no-prompt-step-5.parquet"
    path.parent.mkdir()
    write_samples(path, {**known, **rest})
    assert pq.read_schema(path).names == SCHEMA.names
    return folder


def test_a_curve_is_the_share_of_samples_above_each_score(tmp_path, monkeypatch):
    folders = [make_run(tmp_path / "runs" / name, scores) for name, scores in SCORES.items()]
    drawn = []
    monkeypatch.setattr(figures, "curves", lambda charts, width, plot=figures.curves: drawn.append(charts) or plot(charts, width))
    page = report(folders, tmp_path / "report")
    (chart,) = next(charts for charts in drawn if charts[0].across)
    assert chart.from_zero
    lines = {line.label: line for line in chart.lines}
    assert set(lines) == {"mle", "conditional"}, "a run whose scores are all equal has no curve"
    for name, line in lines.items():
        known = [score for score in SCORES[name] if score is not None]
        scale = max(line.x) / max(known)
        for score, share in zip(line.x, line.y, strict=True):
            assert share == pytest.approx(100 * np.mean([one > score / scale + 1e-6 for one in known]))
    assert lines["mle"].y[0] == pytest.approx(100 * 3 / 9), "the share with any finding, of those that could be scored"
    text = page.read_text()
    assert "Distribution of scores" in text
    assert "share of samples with a score above it" in text
    assert (tmp_path / "report/figures/scores.svg").stat().st_size > 1000
