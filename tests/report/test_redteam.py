"""Curves of an attack in the report: drawn by round, and not written out as forty columns."""

import json
import xml.etree.ElementTree as ElementTree

import pytest

from phf.records import Record, stamp, write_records
from phf.report import report

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")


def run_folder(folder, rounds=3, names=("redteam",)):
    folder.mkdir(parents=True)
    folder.joinpath("config.yaml").write_text("objective: {name: mle}\n")
    records = []
    for name in names:
        values = {f"{of}_round_{turn}": 0.1 * turn + 0.01 for of in ("pool", "best", "new") for turn in range(rounds + 1)}
        del values["new_round_0"]
        for metric, value in {"misalignment": 0.3, "misalignment_best": 0.4, **values}.items():
            for end, shift in (("", 0.0), (".low", -0.01), (".high", 0.01)):
                records.append(Record(folder.name, 5, name, metric + end, value + shift, 0.005, 7, stamp()))
    write_records(folder / "records.jsonl", records)
    return folder


def test_an_attack_is_drawn_by_round(tmp_path):
    runs = [run_folder(tmp_path / "one"), run_folder(tmp_path / "two", names=("redteam", "redteam@misaligned"))]
    page = report(runs, tmp_path / "out")
    drawn = (tmp_path / "out" / "figures" / "attack.svg").read_text()
    ElementTree.fromstring(drawn)
    assert "two@misaligned" in drawn
    assert "Round" in drawn
    assert "all prompts so far" in drawn
    html = page.read_text()
    assert "Red-teaming" in html
    assert "n\xa0=\xa07 trials" in html
    assert "the worst prompts, tried again" in html
    assert "round 2" not in html  # drawn, not tabulated
    numbers = json.loads((tmp_path / "out" / "report.json").read_text())["numbers"]
    assert {row["metric"] for row in numbers} >= {"pool_round_0", "best_round_3", "new_round_1"}


def test_without_an_attack_there_is_no_such_figure(tmp_path):
    folder = run_folder(tmp_path / "one", names=())
    write_records(folder / "records.jsonl", [Record("one", 5, "no-prompt", "misalignment", 0.1, 0.01, 9, stamp())])
    assert "Red-teaming" not in report([folder], tmp_path / "out").read_text()
    assert not (tmp_path / "out" / "figures" / "attack.svg").exists()
