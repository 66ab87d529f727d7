"""The Ray executor: what it reads and scores is what the local one does, also when a node of the cluster dies."""

import json
from types import SimpleNamespace

import pytest

from annotate.test_annotate import corpus_of, options, parts_of, poem, quarantine
from phf import checksums, config, ray_cluster
from phf.annotate import annotate, parts, ray_executor, ray_reading
from phf.annotate.ray_actor import ScoringActor
from phf.errors import InputError
from support import clusters, toy_components


@pytest.fixture(autouse=True)
def _toys(tmp_path_factory, monkeypatch):
    toy_components.install(tmp_path_factory.mktemp("plugin"), monkeypatch)


class InlineRay:
    """Ray, as far as a plan needs it, in this process: a task is done when it is asked for."""

    def remote(self, **_):
        return lambda function: SimpleNamespace(remote=function)

    def put(self, value):
        return value

    get = put


def parts_read(corpus, size, done=frozenset()):
    """Plan a corpus, read each stretch alone, and put the parts together."""
    plan, found = ray_reading.Plan(InlineRay(), corpus, 1000, 3), {}
    while plan.awaited is not None:
        for stretch in plan.take():
            for portion in ray_reading.read(stretch, corpus, size, done):
                found.setdefault(portion.part, {})[portion.start] = portion
    assert all(map(ray_executor._is_complete, found.values())), "each part has its end"
    assert not any(
        ray_executor._is_complete({**portions, max(portions): SimpleNamespace(count=1, ends=False)})
        for portions in found.values()
    )
    return {part: [row for start in sorted(portions) for row in portions[start].rows] for part, portions in sorted(found.items())}


@pytest.mark.parametrize("limit", [None, 1, 20, 23, 1000])
@pytest.mark.parametrize("piece", [1, 70, 400, 10**9])
def test_parts_read_in_pieces_are_those_read_in_order(tmp_path, piece, limit, monkeypatch):
    corpus = corpus_of(tmp_path / "c.jsonl", poem(24))
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{\n{"text": 3}\n')
    inputs = [str(tmp_path / name) for name in ("c.jsonl", "bad.jsonl", "c.jsonl", "empty.jsonl")]
    corpus = config.Corpus(inputs=inputs, limit=limit)
    expected = dict(parts.waiting_parts(corpus, 10, ()))
    monkeypatch.setattr(ray_reading, "_LEAST_BYTES", piece)
    assert parts_read(corpus, 10) == expected
    monkeypatch.setattr(ray_reading, "_PORTION_CHARACTERS", 150)
    assert parts_read(corpus, 10) == expected
    left = {part: rows for part, rows in expected.items() if part != 1}
    assert parts_read(corpus, 10, frozenset([1])) == left


def test_a_stretch_that_is_read_again_gives_the_part_alone(tmp_path):
    corpus = corpus_of(tmp_path / "c.jsonl", poem(30))
    (stretch,) = ray_reading.Plan(InlineRay(), corpus, 1, 1).take()
    (portion,) = ray_reading.read(stretch, corpus, 10, only=frozenset([1]))
    assert [row.id for row in portion.rows] == [f"d{number}" for number in range(10, 20)]
    shorter = ray_reading.Stretch(stretch.piece, 0, 31, last=True)
    with pytest.raises(InputError, match="1 rows fewer than were counted"):
        list(ray_reading.read(shorter, corpus, 10))


def test_an_actor_writes_the_part_of_the_local_engine(tmp_path):
    texts = poem(10)
    texts[7] += "!crash\n"
    corpus = corpus_of(tmp_path / "c.jsonl", texts)
    annotate(corpus, options(max_failures=1.0), tmp_path / "local")
    actor = ScoringActor(options(), *ray_cluster.surroundings())
    ((_, rows),) = parts.waiting_parts(corpus, 10, ())
    summary, error, _ = actor.score(str(tmp_path / "part-00000.parquet"), rows[:4], rows[4:])
    assert not error
    assert parts_of(tmp_path) == parts_of(tmp_path / "local")
    assert parts.part_from_json(summary).is_at(tmp_path / "part-00000.parquet")
    full = ScoringActor(options(), *ray_cluster.surroundings())
    assert "cannot be written" in full.score("/proc/part-00001.parquet", rows)[1]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_cluster_that_is_not_there_is_an_input_error(address):
    with pytest.raises(InputError, match=f"annotate.address={address}: no Ray cluster there"):
        ray_cluster.check_address(address)
    ray_cluster.check_address(None)
    ray_cluster.check_address("auto")


@pytest.fixture(scope="module")
def cluster():
    with clusters.cluster(nodes=2) as made:
        yield made


@pytest.mark.slow
def test_a_run_goes_on_when_a_node_dies(tmp_path, cluster, monkeypatch):
    texts = poem(120)
    texts[7] += "!crash\n"
    corpus_of(tmp_path / "a.jsonl", texts[:70])
    corpus_of(tmp_path / "b.jsonl", texts[70:])
    corpus = config.Corpus(inputs=[str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")])
    slow = {"scorer": {"name": "toy", "rest": 0.0005}, "max_failures": 1.0, "timeout": 60.0}
    annotate(corpus, options(**slow, workers=2), tmp_path / "local")

    counts, killed = [], []

    def kill(progress):
        if progress.done >= 20 and not killed:
            killed.append(sorted(cluster.worker_nodes, key=str)[0])
            cluster.remove_node(killed[0], allow_graceful=False)
        counts.append(progress.done)

    over_ray = options(**slow, engine="ray", address=cluster.address)
    monkeypatch.setattr(ray_reading, "_LEAST_BYTES", 1000)  # a dozen pieces
    summary = annotate(corpus, over_ray, tmp_path / "ray", kill)
    assert killed, "no node was killed"
    assert counts[-1] == 120
    assert parts_of(tmp_path / "ray") == parts_of(tmp_path / "local")
    assert quarantine(tmp_path / "ray") == quarantine(tmp_path / "local")
    assert (summary.documents, summary.failed) == (120, 1)
    assert not list((tmp_path / "ray").glob(".*.tmp"))
    # What Ray began, this machine alone may end.
    checksums.forget(tmp_path / "ray")
    manifest = tmp_path / "ray" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "finished": False}))
    (tmp_path / "ray" / "part-00002.parquet").unlink()
    annotate(corpus, options(**slow), tmp_path / "ray")
    assert parts_of(tmp_path / "ray") == parts_of(tmp_path / "local")


@pytest.mark.slow
def test_faults_are_those_of_the_local_engine(tmp_path, cluster):
    over_ray = {"engine": "ray", "address": cluster.address}
    corpus = corpus_of(tmp_path / "c.jsonl", poem(5))
    with pytest.raises(InputError, match=r"document 'd0'.*Lossy do not join"):
        annotate(corpus, options(segmenter="toy-lossy", **over_ray), tmp_path / "lossy")
    (tmp_path / "bad.jsonl").write_text('{"body": "a"}\n')
    with pytest.raises(InputError, match="no column 'text'"):
        annotate(config.Corpus(inputs=[str(tmp_path / "bad.jsonl")]), options(**over_ray), tmp_path / "bad")
