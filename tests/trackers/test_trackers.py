"""Trackers get runs of one project, with configuration, metrics, records and samples; each library reads them back."""

import json
import struct
import sys

import pytest

from phf import checksums, config
from phf.artifacts import read_json
from phf.errors import InputError, MissingExtra
from phf.evaluate import evaluate
from phf.layout import RunFolder
from phf.records import read_records
from phf.trackers import open_trackers, track_evaluations
from phf.train import train
from support import tiny_corpora as tiny

EVALUATE = config.Evaluate(
    evaluations={
        "no-prompt": config.Component(name="samples", n=8, max_tokens=12, expected_max=2),
        "heldout": config.Component(name="heldout", threshold=0.0),
    },
    checkpoints="all",
)


def recipe_of_two_runs(folder, trackers):
    """Train and evaluate two runs of one recipe, as the pipeline does."""
    store = tiny.token_store(folder)
    (folder / "recipe.yaml").write_text("name: my/recipe\n")
    for name in ("mle", "conditional.seed-1"):
        component = config.Component(name="mle") if name == "mle" else config.Component(name="conditional", threshold=0.0)
        options = tiny.train_options(tokens=256, checkpoints=2, trackers=trackers)
        run = folder / "runs" / name
        train(store, run, name, component, options)
        evaluate(str(run), folder / "annotated", EVALUATE, run, 0.1)
    return [RunFolder(folder / "runs" / name) for name in ("mle", "conditional.seed-1")]


def lines(run):
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def measured(run):
    """Every number of records.jsonl, by name and step."""
    return {
        (f"{record.evaluation}/{record.metric}", record.step): record.value
        for record in read_records(run.records)
        if record.value == record.value
    }


def scalars(run):
    """Read TensorBoard's event files: every number, by name and step, and the rest of the accumulator."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(run.tensorboard), size_guidance={accumulator.SCALARS: 0, accumulator.TENSORS: 0})
    read.Reload()
    found = [(tag, event.step, event.value) for tag in read.Tags()["scalars"] for event in read.Scalars(tag)]
    assert len({(tag, step) for tag, step, _ in found}) == len(found), "a step was logged twice"
    return {(tag, step): value for tag, step, value in found}, read


def text(read, tag):
    return [(event.step, event.tensor_proto.string_val[0].decode()) for event in read.Tensors(tag)]


def test_tensorboard_reads_back_metrics_configuration_records_and_samples(tmp_path):
    pytest.importorskip("tensorboard")
    for run in recipe_of_two_runs(tmp_path, ["tensorboard"]):
        found, read = scalars(run)
        logged = {
            (f"train/{key}", line["step"]): line[key] for line in lines(run) for key in ("loss", "lr", "tokens", "grad_norm")
        }
        expected = logged | measured(run)
        assert len(measured(run)) > 20
        for key, value in expected.items():
            assert found[key] == pytest.approx(value, rel=1e-6), key
        ((_, yaml),) = text(read, "config/text_summary")
        assert f"name: {run.path.name}" in yaml
        assert read.summary_metadata["_hparams_/session_start_info"].plugin_data.plugin_name == "hparams"
        tables = text(read, "samples/no-prompt/text_summary")
        assert [step for step, _ in tables] == [2, 4]
        assert all(
            table.startswith("| prompt | text | misalignment | finished |") and table.count("\n") == 9 for _, table in tables
        )
        assert read_json(run.trackers)["project"] == "my/recipe"


def test_a_run_that_resumes_logs_no_step_twice(tmp_path):
    pytest.importorskip("tensorboard")
    run = RunFolder(tmp_path / "run")
    for resumed, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        trackers = open_trackers(run, "run", ["tensorboard"], step=resumed)
        for step in steps:
            trackers.log({"train/loss": 10.0 * resumed + step}, step)
        trackers.close()
    assert scalars(run)[0] == {("train/loss", 1): 1.0, ("train/loss", 2): 2.0, ("train/loss", 3): 23.0, ("train/loss", 4): 24.0}


def test_records_are_sent_once_and_again_when_they_change(tmp_path):
    pytest.importorskip("tensorboard")
    store, run = tiny.token_store(tmp_path), RunFolder(tmp_path / "runs/mle")
    train(store, run.path, "mle", config.Component(name="mle"), tiny.train_options(tokens=128))
    heldout = config.Evaluate(evaluations={"heldout": config.Component(name="heldout", threshold=0.0)})
    evaluate(str(run.path), tmp_path / "annotated", heldout, run.path, 0.1)
    assert not run.trackers.exists()
    evaluate(str(run.path), tmp_path / "annotated", heldout, run.path, 0.1, trackers=["tensorboard"])
    assert scalars(run)[0] == pytest.approx(measured(run), rel=1e-6), "records that were there already are sent"
    files = sorted(run.tensorboard.iterdir())
    evaluate(str(run.path), tmp_path / "annotated", heldout, run.path, 0.1)
    assert sorted(run.tensorboard.iterdir()) == files, "nothing new, so the tracker is not opened"
    run.records.write_text(run.records.read_text().replace('"n": ', '"n": 1'))
    checksums.forget(run.path)
    track_evaluations(run, "mle")
    assert len(list(run.tensorboard.iterdir())) == len(files) + 1


def wandb_records(folder):
    """Read the records of W&B's offline files: LevelDB's log format, blocks of 32 KiB, behind a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        content, place, record = path.read_bytes(), 7, b""
        while place + 7 <= len(content):
            if 32768 - place % 32768 < 7:
                place += 32768 - place % 32768
                continue
            _, size, kind = struct.unpack("<IHB", content[place : place + 7])
            record += content[place + 7 : place + 7 + size]
            place += 7 + size
            if kind in (1, 4):  # whole, or the last piece
                yield wandb_internal_pb2.Record.FromString(record)
                record = b""


def test_wandb_offline_files_hold_metrics_configuration_records_and_samples(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for run in recipe_of_two_runs(tmp_path, ["wandb"]):
        records = list(wandb_records(run.path))
        runs = [record.run for record in records if record.HasField("run")]
        assert {(one.project, one.display_name, one.run_group) for one in runs} == {
            ("my-recipe", run.path.name, run.path.name.removesuffix(".seed-1"))
        }
        assert {one.run_id for one in runs} == {read_json(run.trackers)["ids"]["wandb"]}, "training and evaluation are one run"
        configuration = {item.key: json.loads(item.value_json) for one in runs for item in one.config.update}
        assert configuration["train"]["lr"] == 0.01
        history: dict = {}
        for record in records:
            items = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            for key, value in items.items():
                history[key, items.get("step")] = value
        logged = {(f"train/{key}", line["step"]): line[key] for line in lines(run) for key in ("loss", "lr")}
        for key, value in (logged | measured(run)).items():
            assert history[key] == pytest.approx(value), key
        for step in (2, 4):
            (media,) = run.path.glob(f"wandb/offline-run-*/files/{history['samples/no-prompt/path', step]}")
            content = json.loads(media.read_text())
            assert content["columns"] == ["prompt", "text", "misalignment", "finished"]
            assert len(content["data"]) == 8


def test_mlflow_reads_back_metrics_configuration_records_and_samples(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="not in CI's environment; run `make test-integrations`")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    runs = recipe_of_two_runs(tmp_path, ["mlflow"])
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("my/recipe")
    found = {one.info.run_name: one for one in client.search_runs([experiment.experiment_id])}
    assert set(found) == {run.path.name for run in runs}
    for run in runs:
        one = found[run.path.name]
        assert one.info.status == "FINISHED"
        assert one.data.params["train.lr"] == "0.01"
        assert [point.value for point in client.get_metric_history(one.info.run_id, "train/loss")] == pytest.approx(
            [line["loss"] for line in lines(run)]
        )
        for (name, step), value in measured(run).items():
            points = {point.step: point.value for point in client.get_metric_history(one.info.run_id, name.replace("@", "_"))}
            assert points[step] == pytest.approx(value), name
        table = client.load_table(experiment.experiment_id, "samples/no-prompt-step-4.json", [one.info.run_id])
        assert list(table.columns) == ["prompt", "text", "misalignment", "finished"]
        assert len(table) == 8


def test_without_the_library_nothing_starts(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    store = tiny.token_store(tmp_path)
    with pytest.raises(MissingExtra, match=r"train\.trackers: wandb needs wandb.*pip install 'phf\[trackers\]'"):
        train(store, tmp_path / "runs/mle", "mle", config.Component(name="mle"), tiny.train_options(trackers=["wandb"]))
    assert not (tmp_path / "runs/mle/config.yaml").exists()


class Failing:
    """A tracker whose server is away."""

    id = "1"

    def log(self, values, step):
        raise ConnectionError("the server is away\nfor long")

    def table(self, name, columns, step):
        raise AssertionError("never reached")

    def close(self):
        pass


@pytest.fixture
def failing(monkeypatch):
    """Have `tensorboard` be a tracker that cannot be opened, or cannot log."""
    from phf.trackers import tensorboard

    monkeypatch.setattr("phf.trackers.check", lambda names: None)

    def set_up(opens):
        def open_run(session):
            if not opens:
                raise ConnectionError("no server\nat all")
            return Failing()

        monkeypatch.setattr(tensorboard, "open_run", open_run)

    return set_up


def test_a_tracker_that_cannot_be_opened_stops_training_before_it_begins(failing, tmp_path):
    failing(opens=False)
    options = tiny.train_options(trackers=["tensorboard"])
    with pytest.raises(InputError, match=r"train\.trackers: tensorboard could not be opened: no server; is the run's folder"):
        train(tiny.token_store(tmp_path), tmp_path / "runs/mle", "mle", config.Component(name="mle"), options)


def test_a_tracker_that_fails_costs_a_warning_and_nothing_else(failing, tmp_path, caplog):
    failing(opens=True)
    store, run = tiny.token_store(tmp_path), tmp_path / "runs/mle"
    train(store, run, "mle", config.Component(name="mle"), tiny.train_options(tokens=256, trackers=["tensorboard"]))
    assert [record.message for record in caplog.records if "the server is away" in record.message] == [
        "mle: tensorboard failed (the server is away); the run goes on without it"
    ]
    assert len(lines(RunFolder(run))) == 4
    heldout = config.Evaluate(evaluations={"heldout": config.Component(name="heldout", threshold=0.0)})
    assert evaluate(str(run), tmp_path / "annotated", heldout, run, 0.1)
    assert "tensorboard did not get the records (the server is away)" in caplog.text
    assert "heldout" not in str(read_json(run / "trackers.json")["sent"])
