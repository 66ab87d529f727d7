"""The stages on a real S3-compatible server (moto's), which a test starts: what is there afterwards, and what is asked of it."""

import dataclasses
import json
import logging
import re

import pytest

from phf import config
from phf.cli import main
from phf.documents import read_annotated
from phf.records import read_records
from phf.tokens import TokenStore
from support import clusters, s3_server
from support import tiny_corpora as tiny
from support.s3_server import SECRET


@pytest.fixture(scope="module")
def server():
    with s3_server.running_server() as address:
        yield address


@pytest.fixture
def s3(server, tmp_path, monkeypatch):
    """A bucket, and its file system."""
    monkeypatch.chdir(tmp_path)
    return s3_server.make_bucket(server, f"bucket-{tmp_path.name.replace('_', '-')[:40]}", tmp_path / "cache", monkeypatch)


def phf(*arguments):
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code
    return 0


def asked(caplog, method):
    """What the server was asked to do, key by key."""
    return re.findall(rf'"{method} /([^ ?]+)', "\n".join(record.getMessage() for record in caplog.records))


@pytest.mark.slow
def test_stages_from_store_to_store(s3, tmp_path, caplog, monkeypatch, capsys):
    rows = [{"id": document.id, "text": document.text} for document in tiny.documents(60)]
    s3.pipe(f"{s3.bucket}/c.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    at = f"s3://{s3.bucket}"
    scoring = [
        "--workers",
        1,
        "--segmenter",
        "sentences",
        "annotate.part=25",
        "--quiet",
        "--scorer=regex",
        "annotate.scorer.patterns=['[A-Z]{3,}']",
    ]
    with caplog.at_level(logging.INFO, "werkzeug"):
        assert not phf("annotate", f"{at}/c.jsonl", "--out", f"{at}/w/annotated", *scoring)
    put = [key.removeprefix(f"{s3.bucket}/w/annotated/") for key in asked(caplog, "PUT")]
    parts = [f"part-{part:05d}.parquet" for part in range(3)]
    last = ["manifest.json", "checksums.json", ".phf-files.json"]
    assert put[-3:] == last, "the manifest after all that it describes, then checksums and the list of what is whole"
    assert [name for name in put if name.endswith(".parquet")] == parts
    assert phf("annotate", "c.jsonl", "--out", "local/annotated", *scoring) == 0
    for name in parts:
        assert s3.cat(f"{s3.bucket}/w/annotated/{name}") == (tmp_path / "local/annotated" / name).read_bytes()

    # Another machine: nothing is done again, and no part travels.
    monkeypatch.setenv("PHF_CACHE", str(tmp_path / "other"))
    caplog.clear()
    capsys.readouterr()
    with caplog.at_level(logging.INFO, "werkzeug"):
        assert phf("annotate", f"{at}/c.jsonl", "--out", f"{at}/w/annotated", *scoring) == 0
    assert "Already there, left alone" in capsys.readouterr().out
    assert not [key for key in asked(caplog, "GET") if key.endswith(".parquet")]
    # A part that is lost there is made again, and it alone.
    s3.rm(f"{s3.bucket}/w/annotated/{parts[1]}")
    caplog.clear()
    with caplog.at_level(logging.INFO, "werkzeug"):
        assert phf("annotate", f"{at}/c.jsonl", "--out", f"{at}/w/annotated", *scoring) == 0
    assert [key.rpartition("/")[2] for key in asked(caplog, "PUT") if key.endswith(".parquet")] == [parts[1]]

    tokenizing = ["tokenize.vocab_size=300", "tokenize.held_out=0.1", "--quiet"]
    assert phf("tokenize", f"{at}/w/annotated", "--out", f"{at}/w/tokens", *tokenizing) == 0
    assert phf("tokenize", "local/annotated", "--out", "local/tokens", *tokenizing) == 0
    for path in (tmp_path / "local/tokens").glob("*.*"):
        if path.suffix in (".bin", ".npy"):
            assert s3.cat(f"{s3.bucket}/w/tokens/{path.name}") == path.read_bytes()

    # A token store is copied to the cache before training, once.
    monkeypatch.setenv("PHF_CACHE", str(tmp_path / "third"))
    options = tiny.train_options(tokens=128)
    changes = [f"train.{key}={json.dumps(value)}" for key, value in options.model_dump(mode="json", exclude_unset=True).items()]
    for already in (False, True):
        caplog.clear()
        with caplog.at_level(logging.INFO, "werkzeug"):
            assert phf("train", f"{at}/w/tokens", "--objective", "mle", "--out", f"{at}/w/runs/mle", *changes, "--quiet") == 0
        assert bool([key for key in asked(caplog, "GET") if key.endswith(".bin")]) is not already
    assert s3.exists(f"{s3.bucket}/w/runs/mle/checkpoints/step-2/model.safetensors")
    assert phf("train", "local/tokens", "--objective", "mle", "--out", "local/mle", *changes, "--quiet") == 0
    weights = "checkpoints/step-2/model.safetensors"
    assert s3.cat(f"{s3.bucket}/w/runs/mle/{weights}") == (tmp_path / "local/mle" / weights).read_bytes()
    assert phf("evaluate", f"{at}/w/runs/mle", "--evaluation", "heldout", "--quiet") == 0
    assert phf("report", f"{at}/w/runs/mle", "--out", f"{at}/w/report", "--quiet") == 0
    assert b"bits" in s3.cat(f"{s3.bucket}/w/report/index.html")
    assert b"heldout" in s3.cat(f"{s3.bucket}/w/runs/mle/records.jsonl")

    # Keys are nowhere: not there, not in the caches.
    for key in s3.find(s3.bucket):
        assert SECRET.encode() not in s3.cat(key), key
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


@pytest.mark.slow
def test_ray_workers_write_to_the_store(s3, tmp_path, caplog):
    tiny.write_corpus(tmp_path / "c.jsonl", 60)
    scoring = ["c.jsonl", "--segmenter", "sentences", "--scorer=regex", "annotate.scorer.patterns=['[A-Z]{3,}']", "--quiet"]
    scoring += ["annotate.part=25"]
    address = f"s3://{s3.bucket}/annotated"
    assert phf("annotate", *scoring, "--workers", 1, "--out", "local") == 0
    with clusters.cluster(nodes=2) as cluster, caplog.at_level(logging.INFO, "werkzeug"):
        assert phf("annotate", *scoring, "--engine", "ray", f"annotate.address={cluster.address}", "--out", address) == 0
    parts = [f"part-{part:05d}.parquet" for part in range(3)]
    put = [key.removeprefix(f"{s3.bucket}/annotated/") for key in asked(caplog, "PUT")]
    assert sorted(name for name in put if name.endswith(".parquet")) == parts, "each once, by the node that scored it"
    assert put[-3:] == ["manifest.json", "checksums.json", ".phf-files.json"]
    for name in parts:
        assert s3.cat(f"{s3.bucket}/annotated/{name}") == (tmp_path / "local" / name).read_bytes()
    assert not list((tmp_path / "cache").rglob("*.parquet"))
    assert phf("annotate", *scoring, "--workers", 1, "--out", address) == 0, "the local engine finds it finished"


@pytest.mark.slow
def test_a_recipe_runs_into_the_store(s3, tmp_path, caplog, monkeypatch):
    train = config.plain(tiny.train_options(tokens=256))
    fields = tiny.recipe(tmp_path, corpus={"inputs": ["corpus.jsonl"]}, train=train, jobs=1)
    (tmp_path / "recipe.yaml").write_text(config.to_yaml(fields))
    work = f"s3://{s3.bucket}/work"
    assert phf("run", "recipe.yaml", "--out", work, "--quiet") == 0
    assert phf("run", "recipe.yaml", "--out", "local", "--quiet") == 0
    stored = {path.removeprefix(f"{s3.bucket}/work/") for path in s3.find(f"{s3.bucket}/work")}
    weights = [f"runs/{run}/checkpoints/step-4/model.safetensors" for run in fields["runs"]]
    for name in ["annotated/part-00000.parquet", "tokens/tokens-00000.bin", *weights]:
        assert s3.cat(f"{s3.bucket}/work/{name}") == (tmp_path / "local" / name).read_bytes(), name
    assert {"recipe.yaml", "report/index.html", "report/report.json", "annotated/manifest.json"} <= stored
    for run in fields["runs"]:
        s3.get(f"{s3.bucket}/work/runs/{run}/records.jsonl", str(tmp_path / f"{run}.jsonl"))
        records = [
            [{**dataclasses.asdict(record), "stamp": None} for record in read_records(path)]
            for path in (tmp_path / f"{run}.jsonl", tmp_path / "local/runs" / run / "records.jsonl")
        ]
        assert str(records[0]) == str(records[1])
        assert records[0]

    # Another machine: nothing is trained or measured again, and a run that is added finds the tokens there.
    monkeypatch.setenv("PHF_CACHE", str(tmp_path / "other"))
    (tmp_path / "recipe.yaml").write_text(config.to_yaml(fields | {"runs": fields["runs"] | {"rwr": {"name": "rwr", "beta": 1}}}))
    caplog.clear()
    with caplog.at_level(logging.INFO, "werkzeug"):
        assert phf("run", "recipe.yaml", "--out", work, "--quiet") == 0
    put = [key.removeprefix(f"{s3.bucket}/work/") for key in asked(caplog, "PUT")]
    assert [name for name in put if name.endswith("model.safetensors")] == [weights[0].replace("mle", "rwr")]
    assert not [name for name in put if name.startswith(("annotated/part", "tokens/tokens", "runs/mle/", "runs/conditional/"))]


def test_a_store_that_refuses_is_one_line(s3, tmp_path, capsys):
    tiny.annotated(tmp_path / "annotated")
    for arguments in (["s3://no-such-bucket/tokens", "--out", "x"], ["annotated", "--out", "s3://no-such-bucket/tokens"]):
        assert phf("tokenize", *arguments, "tokenize.vocab_size=300", "--quiet") == 2
        said = capsys.readouterr().err
        assert said.startswith("phf: error: s3://no-such-bucket/tokens: "), said
        assert SECRET not in said
        assert len(said.strip().splitlines()) == 1


def test_stores_can_be_read_through_their_copies(s3, tmp_path):
    from phf import object_store

    store = tiny.token_store(tmp_path / "made")
    with object_store.output(f"s3://{s3.bucket}/made") as folder:
        (folder / "tokens").mkdir()
        for path in store.rglob("*"):
            if path.is_file():
                target = folder / "tokens" / path.relative_to(store)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    copy = object_store.local_copy(f"s3://{s3.bucket}/made/tokens")
    assert TokenStore.open(copy).documents == TokenStore.open(store).documents
    s3.put(str(tmp_path / "made/annotated"), f"{s3.bucket}/annotated", recursive=True)
    assert len(list(read_annotated(object_store.local_copy(f"s3://{s3.bucket}/annotated")))) == 120
