"""The names inside an output folder: what is ours is found by its step, and what a user put beside it is left alone."""

import json

import pytest

from phf.layout import RunFolder, WorkFolder

NOT_OURS = ["best", "", "-1", "007", "1.5", "10-old", "²", "1e3", "10.tmp"]


@pytest.fixture
def run(tmp_path):
    """A run's folder with checkpoints and states, and folders of a user's own beside them."""
    folder = RunFolder(tmp_path / "runs" / "mle")
    for step in (9, 100, 20):
        folder.checkpoint(step).mkdir(parents=True)
        folder.state(step).mkdir()
    for name in NOT_OURS:
        (folder.checkpoint_folder / f"step-{name}").mkdir()
        (folder.path / f"state-{name}").mkdir()
    (folder.checkpoint_folder / "step-300").write_text("a file, no checkpoint")
    (folder.path / "state-300").write_text("a file, no state")
    return folder


def test_checkpoints_and_states_are_found_by_step_in_order(run):
    assert list(run.checkpoints()) == [9, 20, 100]
    assert list(run.states()) == [9, 20, 100]
    assert run.latest_checkpoint() == run.checkpoint(100) == run.path / "checkpoints" / "step-100"
    assert run.latest_state() == run.state(100) == run.path / "state-100"


def test_a_folder_without_any_has_none(tmp_path):
    run = RunFolder(tmp_path / "missing")
    assert run.checkpoints() == run.states() == {}
    assert run.latest_checkpoint() is None
    assert run.latest_state() is None
    assert list(run.all_samples()) == []
    assert run.find_evaluations() is None


def test_files_of_an_evaluation_are_found_again(run):
    run.samples.mkdir()
    for evaluation, step in (("no-prompt", 20), ("steer@gamma=1.5", 9), ("odd-step-3", 100)):
        run.samples_of(evaluation, step).touch()
    (run.samples / "notes-step-last.parquet").touch()
    assert list(run.all_samples()) == [
        (evaluation, step, run.samples_of(evaluation, step))
        for evaluation, step in (("no-prompt", 20), ("odd-step-3", 100), ("steer@gamma=1.5", 9))
    ]


def test_names_of_the_first_release_are_still_read(run):
    (run.path / "measures.json").write_text("{}")
    assert run.find_evaluations() == run.path / "measures.json"
    run.evaluations.write_text("{}")
    assert run.find_evaluations() == run.evaluations
    former = run.path / "units" / "kl-step-9.parquet"
    former.parent.mkdir()
    assert run.find_per_example("kl", 9) == run.per_example_of("kl", 9)
    former.touch()
    assert run.find_per_example("kl", 9) == former


def test_a_checkpoint_and_a_run_know_what_they_lie_in(run, tmp_path):
    assert RunFolder.of_checkpoint(run.checkpoint(9)) == run
    assert RunFolder.of_checkpoint(tmp_path / "gpt2").path == tmp_path / "gpt2"
    work = WorkFolder.of_run(run.path)
    assert work == WorkFolder(tmp_path) == WorkFolder.of_annotated(work.annotated)
    assert work.run("mle") == run.path


def test_whoever_looks_for_checkpoints_passes_over_a_users_own(run):
    from phf import lm
    from phf.report.run_files import read_runs

    for step, path in run.checkpoints().items():
        (path / "config.json").write_text("{}")
        (path / "phf.json").write_text(
            json.dumps({"step": step, "tokens": step * 10, "run": "mle", "control_tokens": [], "segmenter": "lines"})
        )
    (run.checkpoint_folder / "step-best" / "phf.json").write_text(json.dumps({"step": 500, "tokens": 5000}))
    assert lm.find_checkpoint(str(run.path)).step == 100
    assert lm.checkpoints_of(str(run.path)) == [str(run.checkpoint(step)) for step in (9, 20, 100)]
    assert read_runs([run.path])[0].checkpoints == {9: 90, 20: 200, 100: 1000}
