"""How far a work folder has come: half-finished, damaged and empty ones."""

import json
import shutil

import pytest

from phf import checksums, config, pipeline
from phf.errors import InputError
from support import tiny_corpora as tiny
from support.command_line import phf


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A recipe of two runs, of which one is trained and evaluated."""
    folder = tmp_path_factory.mktemp("status")
    fields = tiny.recipe(
        folder,
        train=config.plain(tiny.train_options(tokens=512)),
        runs={"mle": "mle", "conditional": {"name": "conditional", "threshold": "p50"}},
        evaluate={"evaluations": {"heldout": "heldout", "steer": {"name": "steer", "n": 4, "max_tokens": 12}}},
        jobs=1,
    )
    pipeline.run(config.check(config.Recipe, fields, ""), folder / "work", only=["mle"])
    return folder / "work"


@pytest.fixture
def work(half, tmp_path):
    """A copy without checksums, so that a test can change its files to those of another moment."""
    copy = shutil.copytree(half, tmp_path / "work")
    for folder in {path.parent for path in copy.rglob(checksums.CHECKSUMS)}:
        checksums.forget(folder)
    return copy


def test_a_file_that_is_not_what_was_written_is_damage(half, tmp_path):
    copy = shutil.copytree(half, tmp_path / "work")
    (copy / "tokens/meta.json").write_text("{}")
    assert [stage.state for stage in pipeline.find_status(copy).stages] == ["done", "damaged", "done"]
    assert "tokens/meta.json: damaged: it has 2 bytes" in pipeline.find_status(copy).stages[1].facts


def test_a_half_finished_folder(work):
    found = pipeline.find_status(work)
    assert [(stage.stage, stage.state) for stage in found.stages] == [
        ("annotate", "done"),
        ("tokenize", "done"),
        ("report", "done"),
    ]
    mle, conditional = found.runs
    assert (mle.state, mle.tokens, mle.total, mle.evaluated, mle.missing) == ("done", 512, 512, ["heldout"], [])
    assert mle.speed > 0
    assert (conditional.state, conditional.tokens, conditional.missing) == ("not begun", 0, ["heldout", "steer"])
    assert found.training_left() == pytest.approx(512 / mle.speed), "a run that has not begun is as fast as the others"
    assert found.at_work is None


def test_a_run_that_is_being_trained(work):
    metrics = work / "runs/mle/metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(lines[: len(lines) // 2]) + lines[-1][:20])  # a line half written is no fault
    shutil.rmtree(work / "report")
    found = pipeline.find_status(work)
    assert found.runs[0].state == "begun"
    assert found.runs[0].tokens == json.loads(lines[len(lines) // 2 - 1])["tokens"]
    assert found.training_left() > 0
    assert found.stages[-1].state == "not begun"


def test_an_annotation_half_way(work):
    manifest = json.loads((work / "annotated/manifest.json").read_text())
    (work / "annotated/manifest.json").write_text(json.dumps({"made_from": manifest["made_from"], "finished": False}))
    assert pipeline.find_status(work).stages[0].facts == "80 documents in 1 parts so far"


@pytest.mark.parametrize(
    ("path", "content", "where"),
    [
        ("runs/mle/metrics.jsonl", b'{"step": 1}\n', "metrics.jsonl, line 1: damaged"),
        ("runs/mle/records.jsonl", b"[]\n", "records.jsonl"),
        ("annotated/manifest.json", b"{", "manifest.json: not valid JSON"),
        ("annotated/manifest.json", b"[]", "not the manifest"),
        ("tokens/meta.json", b'{"finished": true}', "meta.json: not what `phf tokenize"),
        ("tokens/tokens-00000.bin", b"", "tokens-00000.bin"),
    ],
)
def test_damage_is_named_and_all_else_is_still_told_apart(work, path, content, where):
    (work / path).write_bytes(content)
    found = pipeline.find_status(work)
    damaged = [each for each in (*found.stages, *found.runs) if each.state == "damaged"]
    assert len(damaged) == 1
    assert where in (getattr(damaged[0], "fault", None) or damaged[0].facts)
    assert "Damaged" in phf("status", work, cwd=work)[0] or where in phf("status", work, cwd=work, columns=400)[0]


def test_what_is_no_work_folder_is_refused(tmp_path, work):
    with pytest.raises(InputError, match="nothing of phf in it yet; `phf run RECIPE --out"):
        pipeline.find_status(tmp_path / "work/..")
    with pytest.raises(InputError, match="no such folder; give the work folder of a recipe"):
        pipeline.find_status(tmp_path / "nowhere")
    (work / "recipe.yaml").write_text("runs: [")
    with pytest.raises(InputError, match=r"recipe\.yaml"):
        pipeline.find_status(work)


def test_runs_without_a_recipe_are_found(work):
    (work / "recipe.yaml").unlink()
    (found,) = pipeline.find_status(work).runs
    assert (found.run, found.state, found.total) == ("mle", "done", 512)
    for notes in work.glob("runs/mle/checkpoints/*/phf.json"):  # as of a run that began with the checkpoint of another
        fields = json.loads(notes.read_text())
        notes.write_text(json.dumps(fields | {"tokens": fields["tokens"] + 40}))
    (found,) = pipeline.find_status(work).runs
    assert found.total == 40 + (512 - 40) // 64 * 64, "whole steps behind what it began with"
    (work / "runs/mle/config.yaml").write_text("train: 5\n")
    (found,) = pipeline.find_status(work).runs
    assert (found.state, "not what `phf train` wrote" in found.fault) == ("damaged", True)


def test_the_command_shows_all_of_it_and_json_is_json(work):
    said, _ = phf("status", work, cwd=work)
    assert "80 documents" in said
    assert "Training left: about 0:0" in said
    assert f"Next: phf run {work}/recipe.yaml --out {work}" in said
    told = json.loads(phf("status", work, "--json", cwd=work)[0])
    assert [run["state"] for run in told["runs"]] == ["done", "not begun"]
    assert told["training_left_seconds"] > 0
