"""Runs over a Ray cluster: how it is divided, and the records of runs one after the other."""

import dataclasses
import functools
import logging
import sys

import pytest
from safetensors.torch import load_file

from phf import pipeline
from phf.errors import InputError
from phf.layout import RunFolder
from phf.pipeline.jobs import Job, run_in
from phf.pipeline.ray_workers import RayCluster, shares
from phf.progress import Progress
from phf.records import read_records
from pipeline.test_pipeline import recipe
from support import clusters


@pytest.mark.parametrize(
    ("nodes", "jobs", "runs", "expected"),
    [
        ([(8, 0)], None, 3, (3, 2, 0.0)),
        ([(8, 0), (8, 0)], 2, 9, (2, 8, 0.0)),
        ([(8, 0), (8, 0)], 3, 9, (3, 4, 0.0)),
        ([(2, 0), (7, 0)], 2, 2, (2, 3, 0.0)),
        ([(0, 0), (1, 0), (1, 0)], None, 6, (2, 1, 0.0)),
        ([(16, 4), (16, 4)], None, 20, (8, 4, 1.0)),
        ([(16, 4)], None, 2, (2, 8, 1.0)),
        ([(16, 2)], 4, 20, (4, 4, 0.5)),
        ([(16, 2)], 3, 20, (3, 5, 0.5)),
        ([(0, 0)], None, 2, (1, 1, 0.0)),
    ],
)
def test_shares_fit_on_the_nodes(nodes, jobs, runs, expected):
    assert shares([{"CPU": float(cpu), "GPU": float(gpu)} for cpu, gpu in nodes], jobs, runs) == expected


def test_an_address_is_no_folder_that_nodes_share(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline.object_store, "address_of", lambda path: "s3://bucket/work")
    with pytest.raises(InputError, match=r"engine=ray: runs are written to a folder .* but --out is s3://bucket/work"):
        pipeline.run(recipe(tmp_path, engine="ray"), tmp_path / "out")


def say(on_progress):
    on_progress(Progress("work", 1, 2, "steps"))
    logging.getLogger("phf").warning("from a node")


def fail(error, on_progress):
    raise error


@pytest.fixture(scope="module")
def cluster():
    with clusters.cluster(nodes=2) as made:
        yield made


@pytest.mark.slow
def test_jobs_send_progress_logs_and_errors(cluster, caplog):
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # nodes do not have the tests
    progress = []
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        jobs = [Job("a", say), Job("bad", functools.partial(fail, InputError("no data"))), Job("child", say, after="bad")]
        with caplog.at_level("INFO", "phf"), pytest.raises(InputError, match="no data"):
            run_in(RayCluster(ray, 1, 0.0), jobs, 2, progress.append)
        with pytest.raises(RuntimeError, match=r"(?s)a bug, met in the process of this run.*ZeroDivisionError: of ours"):
            run_in(
                RayCluster(ray, 1, 0.0), [Job("bug", functools.partial(fail, ZeroDivisionError("of ours")))], 1, progress.append
            )
    finally:
        ray.shutdown()
    assert progress == [Progress("work", 1, 2, "steps")]
    assert [record.getMessage() for record in caplog.records if record.name == "phf"] == ["from a node"]


def records_of(folder):
    found = [dataclasses.asdict(record) for record in read_records(RunFolder(folder).records)]
    return sorted(({key: value for key, value in record.items() if key != "stamp"} for record in found), key=str)


@pytest.mark.slow
def test_a_matrix_over_ray_has_the_records_of_runs_one_after_the_other(tmp_path, cluster):
    runs = {"mle": "mle", "conditional": {"name": "conditional", "threshold": 0.0}}
    pipeline.run(recipe(tmp_path, runs=runs, jobs=1), tmp_path / "one")
    made = recipe(tmp_path, runs=runs, engine="ray")
    made = made.model_copy(update={"annotate": made.annotate.model_copy(update={"address": cluster.address})})
    stages = []
    page = pipeline.run(made, tmp_path / "two", on_progress=lambda progress: stages.append(progress.stage))
    assert page.exists()
    assert {"train mle", "train conditional"} <= set(stages)
    for name in runs:
        one, two = (load_file(tmp_path / way / "runs" / name / "checkpoints/step-8/model.safetensors") for way in ("one", "two"))
        assert all(tensor.equal(two[key]) for key, tensor in one.items()), name
        assert records_of(tmp_path / "one/runs" / name) == records_of(tmp_path / "two/runs" / name)
        assert records_of(tmp_path / "one/runs" / name)
