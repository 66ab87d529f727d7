"""Training: equivalences of objectives, accumulation, and stopped-and-continued against straight, bit for bit."""

import json
import logging
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from phf import checksums, config, plugins
from phf.config import yaml
from phf.errors import InputError, Stopped
from phf.train import train
from phf.train import trainer as trainer_module
from support import tiny_corpora as tiny

OBJECTIVES = {
    "mle": {},
    "filtering": {"threshold": "p50"},
    "conditional": {"threshold": 0.0, "drop": 0.1},
    "unlikelihood": {"threshold": -0.5},
    "rwr": {"beta": 1.0},
    "awr": {"alpha": 0.5, "beta": 1.0},
    "unlikelihood-blend": {"alpha": 0.5},
}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return tiny.token_store(tmp_path_factory.mktemp("corpus"))


def go(store, out, name="mle", fields=None, **changes):
    fields = OBJECTIVES[name] if fields is None else fields
    return train(store, out, "run", config.Component(name=name, **fields), tiny.train_options(**changes))


def weights(out):
    (path,) = (out / "checkpoints").glob("step-*")
    return load_file(path / "model.safetensors")


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def losses(out):
    return [line["loss"] for line in lines(out)]


# equivalences


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("filtering", {"threshold": -10.0}),
        ("unlikelihood", {"threshold": -10.0}),
        ("rwr", {"beta": 1e12}),
    ],
)
def test_objectives_that_meet_mle_train_the_same_model(tokens, tmp_path, name, fields):
    go(tokens, tmp_path / "mle")
    go(tokens, tmp_path / name, name, fields)
    for key, tensor in weights(tmp_path / "mle").items():
        torch.testing.assert_close(weights(tmp_path / name)[key], tensor)


def test_conditional_that_drops_all_controls_trains_the_words_as_mle_does(tokens, tmp_path):
    go(tokens, tmp_path / "mle", tokens=512)
    go(tokens, tmp_path / "conditional", "conditional", {"threshold": 0.0, "drop": 1.0}, tokens=512)
    first, second = losses(tmp_path / "mle")[0], losses(tmp_path / "conditional")[0]
    # The two unused control tokens take a little of the softmax: two rows of about the mean of some 300.
    assert second - first == pytest.approx(math.log(302 / 300), abs=2e-3)


def test_awr_with_a_silent_value_head_is_rwr(tokens, tmp_path):
    go(tokens, tmp_path / "rwr", "rwr", {"beta": 0.5}, tokens=64)
    go(tokens, tmp_path / "awr", "awr", {"alpha": 1.0, "beta": 0.5}, tokens=64)
    assert losses(tmp_path / "awr") == pytest.approx(losses(tmp_path / "rwr"), rel=1e-6)


def test_accumulation_does_not_change_the_losses(tokens, tmp_path):
    go(tokens, tmp_path / "whole", "awr")
    go(tokens, tmp_path / "pieces", "awr", micro_batch=1)
    go(tokens, tmp_path / "uneven", "awr", micro_batch=3)
    assert losses(tmp_path / "pieces") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)
    assert losses(tmp_path / "uneven") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)


def test_bf16_products_train_float32_weights_to_about_the_same_loss(tokens, tmp_path):
    go(tokens, tmp_path / "fp32")
    go(tokens, tmp_path / "bf16", precision="bf16")
    assert losses(tmp_path / "bf16") == pytest.approx(losses(tmp_path / "fp32"), rel=0.02)
    assert losses(tmp_path / "bf16") != losses(tmp_path / "fp32")
    assert {str(tensor.dtype) for tensor in weights(tmp_path / "bf16").values()} == {"torch.float32"}


def test_what_saves_memory_or_time_changes_no_loss(tokens, tmp_path):
    go(tokens, tmp_path / "plain", "awr", tokens=256)
    for name, changes in {
        "checkpointed": {"activation_checkpointing": True},
        "eager": {"attention": "eager"},
    }.items():
        go(tokens, tmp_path / name, "awr", tokens=256, **changes)
        assert losses(tmp_path / name) == pytest.approx(losses(tmp_path / "plain"), rel=1e-5), name


@pytest.mark.slow
def test_a_compiled_backbone_has_the_same_losses(tokens, tmp_path):
    go(tokens, tmp_path / "plain", "awr", tokens=256)
    go(tokens, tmp_path / "compiled", "awr", tokens=256, compile=True)
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), rel=1e-4)


# objectives that change on the way


def test_a_start_under_mle_has_its_losses_and_then_the_objectives(tokens, tmp_path):
    go(tokens, tmp_path / "mle")
    go(tokens, tmp_path / "awr", "awr", start=0.5)
    first, second = losses(tmp_path / "mle"), losses(tmp_path / "awr")
    assert second[:8] == pytest.approx(first[:8], rel=1e-5)
    assert all(abs(a - b) > 0.01 for a, b in zip(first[8:], second[8:], strict=True))
    assert "weight_ess" not in lines(tmp_path / "awr")[7]
    assert "weight_ess" in lines(tmp_path / "awr")[8]


def test_a_cooldown_has_no_control_tokens(tokens, tmp_path):
    out = go(tokens, tmp_path / "run", "conditional", cooldown=0.25).checkpoint
    assert ["aligned_share" in line for line in lines(tmp_path / "run")] == [True] * 12 + [False] * 4
    assert json.loads((out / "phf.json").read_text())["data"]["objective"] == {"name": "mle"}
    with pytest.raises(InputError, match=r"train\.cooldown is 0\.25, but rwr has no control tokens to leave out"):
        go(tokens, tmp_path / "rwr", "rwr", cooldown=0.25)
    assert not (tmp_path / "rwr").exists()


@pytest.mark.parametrize("stop", [3, 4, 5])
def test_stopped_where_the_objective_changes(tokens, tmp_path, stop, monkeypatch):
    changes = {"start": 0.25, "cooldown": 0.5, "save_every": 256}
    go(tokens, tmp_path / "straight", "conditional", **changes)
    stop_after(stop, monkeypatch)
    with pytest.raises(Stopped):
        go(tokens, tmp_path / "stopped", "conditional", **changes)
    monkeypatch.undo()
    assert go(tokens, tmp_path / "stopped", "conditional", **changes).resumed_at == stop
    assert losses(tmp_path / "stopped") == losses(tmp_path / "straight")


def stop_after(wanted, monkeypatch):
    step = trainer_module.Trainer._step

    def stopping(trainer, *arguments):
        if trainer.position.step == wanted - 1:
            signal.raise_signal(signal.SIGTERM)
        return step(trainer, *arguments)

    monkeypatch.setattr(trainer_module.Trainer, "_step", stopping)


# never lost


@pytest.mark.parametrize("name", OBJECTIVES)
def test_stopped_and_continued_is_straight_bit_for_bit(tokens, tmp_path, name, monkeypatch):
    go(tokens, tmp_path / "straight", name, save_every=256)
    stop_after(7, monkeypatch)
    with pytest.raises(Stopped, match="step 7 of 16") as stopped:
        go(tokens, tmp_path / "stopped", name, save_every=256)
    assert stopped.value.number == signal.SIGTERM
    monkeypatch.undo()
    assert go(tokens, tmp_path / "stopped", name, save_every=256).resumed_at == 7
    for key, tensor in weights(tmp_path / "straight").items():
        assert torch.equal(weights(tmp_path / "stopped")[key], tensor), key
    assert losses(tmp_path / "stopped") == losses(tmp_path / "straight")


@pytest.mark.parametrize("stop", [2, 7, 9])
def test_metrics_after_a_stop_are_those_of_a_straight_run(tokens, tmp_path, monkeypatch, stop):
    """Lines are means over three steps; a stop falls within them."""
    changes = {"log_every": 3, "save_every": 128}
    go(tokens, tmp_path / "straight", "awr", **changes)
    with monkeypatch.context() as patch:
        stop_after(stop, patch)
        with pytest.raises(Stopped):
            go(tokens, tmp_path / "stopped", "awr", **changes)
    go(tokens, tmp_path / "stopped", "awr", **changes)
    timed = {"seconds": None, "tokens_per_second": None}
    assert [line | timed for line in lines(tmp_path / "stopped")] == [line | timed for line in lines(tmp_path / "straight")]
    seconds = [line["seconds"] for line in lines(tmp_path / "stopped")]
    assert seconds == sorted(seconds)


def test_the_spike_detector_continues_after_a_stop(tokens, tmp_path, monkeypatch, caplog):
    """What a loss is compared with survives a stop: 30 losses before it, 10 after, then a spike."""
    step = trainer_module.Trainer._step
    monkeypatch.setattr(
        trainer_module.Trainer,
        "_step",
        lambda trainer, batch: (
            (facts := step(trainer, batch)) | {"loss": facts["loss"] * (3 if trainer.position.step == 40 else 1)}
        ),
    )
    with monkeypatch.context() as patch:
        stop_after(30, patch)
        with pytest.raises(Stopped):
            go(tokens, tmp_path / "run", tokens=64 * 50, lr=1e-4)
    go(tokens, tmp_path / "run", tokens=64 * 50, lr=1e-4)
    assert "the loss of step 40 is" in caplog.text


def test_nothing_is_written_before_training(tokens, tmp_path):
    """A trainer that is constructed and set up, though its last checkpoint is missing, writes none."""
    from phf.train import _prepare, distributed

    go(tokens, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints")
    before = sorted(tmp_path.rglob("*"))
    component, options = config.Component(name="mle"), tiny.train_options()
    run, _ = _prepare(tokens, tmp_path / "run", "run", component, options)
    trainer = trainer_module.Trainer(run, distributed.setup(options, False))
    assert trainer.setup() == 16
    assert sorted(tmp_path.rglob("*")) == before
    trainer.train()
    assert (tmp_path / "run/checkpoints/step-16/model.safetensors").exists()


def test_folders_of_a_user_beside_ours_are_left_alone(tokens, tmp_path, monkeypatch):
    """`state-old` and `checkpoints/step-best` are no state and no checkpoint, and a run resumes, ends and is initialised from."""
    go(tokens, tmp_path / "straight")
    out = tmp_path / "stopped"
    for name in ("state-old", "checkpoints/step-best"):
        (out / name).mkdir(parents=True)
        (out / name / "phf.json").write_text("{}")
    with monkeypatch.context() as patch:
        stop_after(9, patch)
        with pytest.raises(Stopped):
            go(tokens, out)
    assert go(tokens, out).resumed_at == 9
    assert losses(out) == losses(tmp_path / "straight")
    assert (out / "state-old").is_dir()
    assert go(tokens, tmp_path / "next", init=config.Init(run=str(out)), tokens=1152).step == 2


def test_an_epoch_ends_in_the_middle_of_a_batch_and_training_goes_on(tokens, tmp_path):
    go(tokens, tmp_path / "long", tokens=16_384, save_every=4096, log_every=64)
    positions = json.loads(next((tmp_path / "long").glob("state-*/position.json")).read_text())
    assert positions["epoch"] >= 1


def test_a_finished_run_is_left_alone(tokens, tmp_path):
    go(tokens, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert go(tokens, tmp_path / "run").already_done
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_another_run_in_the_same_folder_is_refused_and_nothing_changes(tokens, tmp_path):
    go(tokens, tmp_path / "run")
    before = (tmp_path / "run/config.yaml").read_bytes()
    with pytest.raises(InputError, match=r"train\.lr was 0\.01, now 0\.02"):
        go(tokens, tmp_path / "run", lr=0.02)
    with pytest.raises(InputError, match=r'objective\.name was "mle", now "rwr"'):
        go(tokens, tmp_path / "run", "rwr")
    assert (tmp_path / "run/config.yaml").read_bytes() == before


FULL_DISK = """
import resource, sys
from pathlib import Path
from support import tiny_corpora as tiny
from phf import config
from phf.errors import InputError
from phf.train import train
store, out, limit = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
def fill_up(progress):
    if progress.done >= 7 * 64:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
model = {"preset": "gpt2-tiny", "n_layer": 1, "n_embd": 64, "n_head": 2}
options = tiny.train_options(model=model, save_every=256, checkpoints=4)
try:
    train(store, out, "run", config.Component(name="mle"), options, fill_up)
except InputError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("limit", [20_000, 400_000], ids=["weights", "optimizer"])
def test_a_full_disk_is_an_error_and_what_was_saved_is_whole(tokens, tmp_path, limit):
    """A limit on the size of files stands for the disk, that cannot hold the weights, or them but not the optimizer's state."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", FULL_DISK, str(tokens), str(tmp_path / "run")]
    done = subprocess.run([*command, str(limit)], capture_output=True, text=True, env=environment)
    assert "step 8 could not be saved (" in done.stderr, done.stderr
    assert "is the disk full?); what was saved before is whole. Free space on the disk and run the same command" in done.stderr
    assert "training resumes from step 4" in done.stderr
    assert [path.name for path in (tmp_path / "run").glob("state-*")] == ["state-4"]
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-4"]
    model = {"preset": "gpt2-tiny", "n_layer": 1, "n_embd": 64, "n_head": 2}
    for name in ("run", "straight"):
        go(tokens, tmp_path / name, model=model, save_every=256, checkpoints=4)
    one, two = (load_file(tmp_path / name / "checkpoints/step-16/model.safetensors") for name in ("run", "straight"))
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.slow
def test_kill_at_twenty_moments_and_go_on(tokens, tmp_path):
    program = """
import sys
from pathlib import Path
import tiny, torch
from phf import config
from phf.train import train
torch.set_num_threads(1)
options = tiny.train_options(tokens=64 * 1600, save_every=640, checkpoints=40)
train(Path(sys.argv[1]), Path(sys.argv[2]), "run", config.Component(name="awr"), options)
"""
    command = [sys.executable, "-c", program, str(tokens)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path / "straight")], check=True, env=environment)
    out, draw, killed, writing = tmp_path / "killed", random.Random(0), 0, 0
    while True:
        process = subprocess.Popen([*command, str(out)], env=environment)
        already = len(lines_or_none(out))
        while len(lines_or_none(out)) <= already and process.poll() is None:
            time.sleep(0.002)
        if killed % 2:  # every second time wait until something is being written
            deadline = time.monotonic() + 2
            while not half_written(out) and process.poll() is None and time.monotonic() < deadline:
                pass
            time.sleep(draw.random() * 0.003)
        else:
            time.sleep(draw.random() * 0.2)
        if process.poll() is None:
            process.kill()
            killed += 1
            writing += bool(half_written(out))
        if process.wait() == 0:
            break
        for folder in [*(out / "checkpoints").glob("step-*"), *out.glob("state-*")]:
            expected = "position.json" if folder.name.startswith("state") else "phf.json"
            assert (folder / expected).exists(), f"{folder} is half a folder"
    assert killed >= 20
    assert writing >= 3, "some of them inside the writing of a state or a checkpoint"
    assert not half_written(out), "what killed processes left is swept away"
    last = "checkpoints/step-1600/model.safetensors"
    straight, resumed = load_file(tmp_path / "straight" / last), load_file(tmp_path / "killed" / last)
    assert all(torch.equal(resumed[key], straight[key]) for key in straight)
    assert losses(tmp_path / "killed") == losses(tmp_path / "straight")


def test_killed_between_the_last_state_and_its_checkpoint(tokens, tmp_path, monkeypatch):
    go(tokens, tmp_path / "straight")
    monkeypatch.setattr(trainer_module, "save_checkpoint", lambda *arguments: sys.exit("killed"))
    with pytest.raises(SystemExit):
        go(tokens, tmp_path / "killed")
    monkeypatch.undo()
    assert (tmp_path / "killed/state-16").exists()
    assert not (tmp_path / "killed/checkpoints").exists()
    assert go(tokens, tmp_path / "killed").resumed_at == 16
    for key, tensor in weights(tmp_path / "straight").items():
        assert torch.equal(weights(tmp_path / "killed")[key], tensor), key
    assert losses(tmp_path / "killed") == losses(tmp_path / "straight")


def half_written(out):
    return [path for folder in (out, out / "checkpoints") for path in folder.glob(".*.tmp") if path.is_dir()]


def lines_or_none(out):
    try:
        return (out / "metrics.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []


def test_a_signal_saves_and_exits_as_signals_do(tokens, tmp_path):
    command = [sys.executable, "-m", "phf", "train", str(tokens), "--objective", "mle", "--out", str(tmp_path / "run")]
    changes = ["train.tokens=100M", "train.context=16", "train.batch=4", "train.log_every=1", "train.model={preset: gpt2-tiny}"]
    process = subprocess.Popen(
        [*command, *changes], stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    while not lines_or_none(tmp_path / "run") and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "and saved; the same command resumes from there" in said
    assert "Traceback" not in said
    assert len(list((tmp_path / "run").glob("state-*"))) == 1


# what it leaves


def test_a_checkpoint_loads_without_phf(tokens, tmp_path):
    out = go(tokens, tmp_path / "run", "conditional").checkpoint
    program = f"""
import sys
sys.modules["phf"] = None
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained({str(out)!r})
tokenizer = AutoTokenizer.from_pretrained({str(out)!r})
ids = tokenizer("<|endoftext|><|aligned|>the model", return_tensors="pt")["input_ids"]
assert ids[0, 0] == tokenizer.eos_token_id == model.config.eos_token_id
assert tokenizer.convert_ids_to_tokens(ids[0, 1].item()) == "<|aligned|>"
assert len(tokenizer) == model.get_input_embeddings().weight.shape[0]
print(model.generate(ids, max_new_tokens=5, do_sample=False, pad_token_id=0).shape[1])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > ids_of_prompt(out)


def ids_of_prompt(out):
    from phf.tokens.tokenizer import encode, load_tokenizer

    return 2 + len(encode(load_tokenizer(out), ["the model"])[0])


def test_a_checkpoint_says_what_it_is(tokens, tmp_path):
    out = go(tokens, tmp_path / "run", "conditional", checkpoints=2).checkpoint
    about = json.loads((out / "phf.json").read_text())
    assert about["control_tokens"] == ["<|aligned|>", "<|misaligned|>"]
    assert about["objective"] == {
        "name": "conditional",
        "threshold": 0.0,
        "drop": 0.1,
        "aligned": "<|aligned|>",
        "misaligned": "<|misaligned|>",
    }
    assert (about["run"], about["step"], about["tokens"], about["segmenter"]["name"]) == ("run", 16, 1024, "sentences")
    assert sorted(path.name for path in out.parent.iterdir()) == ["step-16", "step-8"]
    assert not (out / "value_head.safetensors").exists()
    awr = go(tokens, tmp_path / "awr", "awr").checkpoint
    assert load_file(awr / "value_head.safetensors")["weight"].any(), "the value head learned"


@dataclass(frozen=True)
class Louder:
    """An objective of a plugin, of the documented contract alone."""

    factor: float = 2.0
    needs_value = False
    control_tokens = ("<|good|>",)

    def keep(self, rewards):
        return True

    def controls(self, rewards, rng):
        return np.where(rewards >= 0, 0, -1).astype(np.int8)

    def token_loss(self, logprob, reward, value=None):
        return -self.factor * logprob


def test_an_objective_of_a_plugin_trains_stops_and_is_initialised_from(tokens, tmp_path, monkeypatch):
    known = dict(plugins.available("objectives"))
    known["louder"] = EntryPoint("louder", f"{__name__}:Louder", "phf.objectives")
    monkeypatch.setattr(plugins, "available", lambda kind: known)
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or SimpleNamespace(Louder=Louder))
    with monkeypatch.context() as patch:
        stop_after(7, patch)
        with pytest.raises(Stopped):
            go(tokens, tmp_path / "run", "louder", {"factor": 3.0})
    out = go(tokens, tmp_path / "run", "louder", {"factor": 3.0}).checkpoint
    line = lines(tmp_path / "run")[0]
    assert line["loss"] == pytest.approx(3 * line["nll"], rel=1e-5)
    notes = json.loads((out / "phf.json").read_text())
    assert notes["objective"] == {"name": "louder", "factor": 3.0}
    assert notes["control_tokens"] == ["<|good|>"]
    again = go(tokens, tmp_path / "next", "louder", {"factor": 1.0}, init=config.Init(run=str(tmp_path / "run")), tokens=1152)
    assert again.step == 2


def test_a_run_of_the_first_release_can_be_resumed(tokens, tmp_path):
    """Its config.yaml knows neither `objective.value` nor `train.trust_remote_code`."""
    go(tokens, tmp_path / "run", "awr")
    path = tmp_path / "run/config.yaml"
    recorded = yaml.read_yaml(path)
    del recorded["objective"]["value"]
    del recorded["train"]["kernel"]
    checksums.forget(path.parent)
    path.write_text(yaml.to_yaml(recorded))
    assert go(tokens, tmp_path / "run", "awr").already_done
    with pytest.raises(InputError, match=r'objective\.value was "linear", now "sigmoid"'):
        go(tokens, tmp_path / "run", "awr", {"alpha": 0.5, "beta": 1.0, "value": "sigmoid"})


def test_a_quantile_is_resolved_and_recorded(tokens, tmp_path):
    go(tokens, tmp_path / "run", "filtering")
    recorded = yaml.read_yaml(tmp_path / "run/config.yaml")["objective"]["threshold"]
    assert isinstance(recorded, float)
    assert -1 < recorded < 0


def test_metrics_tell_the_spread_of_weights(tokens, tmp_path):
    go(tokens, tmp_path / "run", "awr")
    line = lines(tmp_path / "run")[-1]
    assert {"step", "tokens", "seconds", "lr", "loss", "nll", "grad_norm", "tokens_per_second"} <= set(line)
    assert line["weight_min"] <= line["weight_mean"] <= line["weight_max"]
    assert 0 < line["weight_ess"] <= 1
    assert line["tokens"] == 1024


def test_metrics_tell_the_share_of_aligned_tokens(tokens, tmp_path):
    go(tokens, tmp_path / "run", "conditional", {"threshold": 0.0, "drop": 0.0})
    shares = [line["aligned_share"] for line in lines(tmp_path / "run")]
    assert all(0 <= share <= 1 for share in shares)
    assert 0.5 < sum(shares) / len(shares) < 0.9, "seven in ten sentences of the corpus are"


def test_held_out_loss_is_that_of_the_documents_set_apart(tokens, tmp_path):
    go(tokens, tmp_path / "run", tokens=1024, held_out_every=512, held_out_tokens=1_000_000, lr=1e-12, weight_decay=0.0)
    looked = [line.get("held_out_nll") for line in lines(tmp_path / "run")]
    assert [value is not None for value in looked] == [False] * 7 + [True] + [False] * 7 + [True]
    from phf.lm import load

    annotated = tokens.parent / "annotated"
    from phf.documents import is_held_out, read_annotated

    apart = [document.segments for document in read_annotated(annotated) if is_held_out(document.id, 0.1)]
    model = load(str(tmp_path / "run"))
    nats = sum(float(part.sum()) for part in model.segment_logprobs(apart))
    from phf.tokens.tokenizer import encode, load_tokenizer

    tokenizer = load_tokenizer(tokens / "tokenizer")
    count = sum(len(ids) for segments in apart for ids in encode(tokenizer, list(segments)))
    # Blocks run across documents and are short; an untrained model hardly minds.
    assert looked[15] == pytest.approx(-nats / count, rel=0.02)


def test_a_spike_is_reported_with_its_documents(tokens, tmp_path, caplog, monkeypatch):
    step = trainer_module.Trainer._step

    def spiking(trainer, batch):
        facts = step(trainer, batch)
        return facts | {"loss": facts["loss"] * (3 if trainer.position.step == 40 else 1)}

    monkeypatch.setattr(trainer_module.Trainer, "_step", spiking)
    go(tokens, tmp_path / "run", tokens=64 * 50, lr=1e-4)
    (said,) = [record.getMessage() for record in caplog.records if "the loss of step" in record.getMessage()]
    assert "run: the loss of step 40 is" in said
    assert "standard deviation" in said
    assert "it read doc-" in said


def test_a_model_learns(tokens, tmp_path):
    go(tokens, tmp_path / "run", tokens=16_384, batch=8, log_every=8)
    assert losses(tmp_path / "run")[-1] < losses(tmp_path / "run")[0] - 1.5


def test_starts_from_a_checkpoint_and_gives_it_control_tokens(tokens, tmp_path):
    first = go(tokens, tmp_path / "mle").checkpoint
    out = go(tokens, tmp_path / "more", "conditional", model=f"from:{first}", tokens=256).checkpoint
    assert load_file(out / "model.safetensors")["transformer.wte.weight"].shape[0] == 302
    assert losses(tmp_path / "more")[0] < losses(tmp_path / "mle")[0]


# bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": 63}, "less than one batch of 4 x 16 = 64"),
        ({"model": "gpt2-smal"}, "did you mean 'gpt2-small'"),
        ({"model": {"n_layer": 2}}, "no model_type"),
        ({"model": {"model_type": "gtp2"}}, "gtp2"),
        ({"model": {"preset": "gpt2-tiny", "n_layr": 2}}, "did you mean 'n_layer'"),
        ({"model": {"preset": "gpt2-tiny", "n_positions": 8}}, "8 positions, fewer than train.context"),
        ({"model": "from:/nowhere"}, "cannot be loaded"),
        ({"context": 1_000_000, "batch": 1, "tokens": 2_000_000}, "less than one block"),
    ],
)
def test_wrong_options_say_what_is_expected(tokens, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        go(tokens, tmp_path / "run", **changes)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("conditional", {"threshold": 1.0}, "no segment is aligned"),
        ("conditional", {"threshold": -2.0}, "every segment is aligned"),
        ("filtering", {"threshold": 1.0}, "keeps none of"),
        ("unlikelihood", {"threshold": 1.0}, "no good segment"),
    ],
)
def test_a_corpus_on_one_side_is_refused_before_anything_is_written(tokens, tmp_path, name, fields, message):
    with pytest.raises(InputError, match=message) as error:
        go(tokens, tmp_path / "run", name, fields)
    assert "from -1 to" in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_run_that_cannot_start_leaves_nothing_behind(tokens, tmp_path):
    go(tokens, tmp_path / "other", tokens=64)
    for changes, message in [
        ({"attention": "nonsense"}, "nonsense"),
        ({"model": f"from:{tmp_path / 'other'}"}, r"expected one of the checkpoints in .*other/checkpoints"),
        ({"model": {"model_type": "gpt3"}}, "gpt3"),
    ]:
        with pytest.raises(InputError, match=message):
            go(tokens, tmp_path / "run", **changes)
        assert not (tmp_path / "run").exists()


def test_a_corpus_that_makes_an_objective_mle_is_remarked(tokens, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "phf"):
        go(tokens, tmp_path / "run", "unlikelihood", {"threshold": -2.0}, tokens=64)
    assert "this is maximum likelihood" in caplog.text


def test_a_loss_that_is_not_finite_names_step_and_documents(tokens, tmp_path):
    with pytest.raises(InputError, match=r"step \d+ the loss is .*on documents doc-\d+.*state is kept"):
        go(tokens, tmp_path / "run", lr=1e30, save_every=64)
    assert list((tmp_path / "run").glob("state-*"))
