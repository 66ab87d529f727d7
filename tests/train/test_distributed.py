"""Several processes train one model: replicated (DDP) or sharded (FSDP) they have the losses of one process."""

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from phf import config
from phf.config import yaml
from phf.errors import InputError
from phf.train import distributed, train
from support import tiny_corpora as tiny

AWR = {"name": "awr", "alpha": 0.5, "beta": 1.0}
COMMON = {"tokens": 512, "context": 16, "batch": 4, "held_out_every": 256, "held_out_tokens": 128}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return tiny.token_store(tmp_path_factory.mktemp("corpus"))


def launch(store, out, objective, **changes):
    """Start two processes of `phf train`."""
    options = config.plain(tiny.train_options(**(COMMON | changes)))
    recipe = out.parent / f"{out.name}.yaml"
    recipe.write_text(yaml.to_yaml({"runs": {"run": objective}, "train": options}))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "phf", "train"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, str(store), "--only", "run", "--recipe", str(recipe), "--out", str(out)],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def two(store, out, objective, **changes):
    process = launch(store, out, objective, **changes)
    said, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return said + errors


def one(store, out, objective, **changes):
    return train(store, out, "run", config.Component(**objective), tiny.train_options(**(COMMON | changes)))


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("shard", [False, True], ids=["replicated", "sharded"])
def test_two_processes_have_the_losses_of_one(tokens, tmp_path, shard):
    said = two(tokens, tmp_path / "two", AWR, shard=shard, micro_batch=1, start=0.25)
    assert said.count("tokens in 8 steps") == 1, "one process speaks"
    one(tokens, tmp_path / "started", AWR, start=0.25)
    for line, again in zip(lines(tmp_path / "started"), lines(tmp_path / "two"), strict=True):
        for key in {"loss", "nll", "grad_norm", "held_out_nll"} & set(line):
            assert again[key] == pytest.approx(line[key], abs=1e-5, rel=1e-5), (line["step"], key)
    both = [load_file(tmp_path / name / "checkpoints/step-8/model.safetensors") for name in ("started", "two")]
    assert both[0].keys() == both[1].keys()
    for key, tensor in both[0].items():
        assert (both[1][key] - tensor).abs().max() < 1e-4, key


def test_stopped_as_two_and_gone_on_as_one(tokens, tmp_path):
    conditional = {"name": "conditional", "threshold": 0.0}
    options = {"tokens": 64 * 320, "save_every": 64 * 100, "held_out_every": None, "lr": 1e-4, "log_every": 20}
    process = launch(tokens, tmp_path / "run", conditional, shard=True, **options)
    metrics = tmp_path / "run/metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") >= 2):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=600)
    assert "and saved; the same command resumes from there" in errors, errors
    assert one(tokens, tmp_path / "run", conditional, **options).resumed_at >= 20
    one(tokens, tmp_path / "straight", conditional, **options)
    losses = [[line["loss"] for line in lines(tmp_path / name)] for name in ("straight", "run")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)  # one line is of fewer steps: those after the stop


def test_a_signal_asks_once_however_often_it_comes_until_it_comes_much_later(monkeypatch):
    usual, raised = [], []
    monkeypatch.setattr(signal, "signal", lambda number, handler: usual.append(number) or signal.SIG_DFL)
    monkeypatch.setattr(signal, "raise_signal", raised.append)
    with distributed.Signals(SimpleNamespace(num_processes=1)) as signals:
        assert not signals.received()
        monkeypatch.setattr(time, "monotonic", lambda: 100.0)
        signals._receive(signal.SIGTERM, None)
        monkeypatch.setattr(time, "monotonic", lambda: 104.0)
        signals._receive(signal.SIGTERM, None)
        assert signals.received() == signal.SIGTERM
        assert not raised
        monkeypatch.setattr(time, "monotonic", lambda: 106.0)
        signals._receive(signal.SIGTERM, None)
        assert raised == [signal.SIGTERM]


def test_sharding_wants_several_processes(tokens, tmp_path):
    with pytest.raises(InputError, match=r"train\.shard: there is one process; start several: torchrun"):
        one(tokens, tmp_path / "run", AWR, shard=True)


def test_a_batch_that_cannot_be_shared_out(tokens, tmp_path):
    process = launch(tokens, tmp_path / "run", AWR, batch=3)
    _, errors = process.communicate(timeout=600)
    assert process.returncode != 0
    assert "train.batch is 3; expected a multiple of 2 processes" in errors
    assert not (tmp_path / "run").exists()
