"""Runs that go on from another: the same data order, another objective, and what is refused."""

import json
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file

from phf import checksums, config
from phf.config import yaml
from phf.errors import InputError
from phf.layout import RunFolder
from phf.objectives import MLE, Conditional, Filtering
from phf.tokens.store import TokenStore
from phf.train import read_schedule, train
from phf.train.data_loader import WindowShuffle
from support import tiny_corpora as tiny


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return tiny.token_store(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def mle(tokens, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "mle"
    train(tokens, out, "mle", config.Component(name="mle"), tiny.train_options(checkpoints=2))
    return out


def go_on(store, mle, out, objective="conditional", fields=None, at="50%", rate="restart", **changes):
    fields = {"threshold": 0.0} if fields is None else fields
    component = config.Component(name=objective, **fields)
    options = tiny.train_options(init=config.Init(run=str(mle), at=at, rate=rate), **changes)
    return train(store, out, out.name, component, options)


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_the_same_objective_gone_on_reads_the_same_batches(tokens, mle, tmp_path):
    """With a learning rate of nearly 0 a batch's loss depends on its tokens and the checkpoint alone."""
    still = {"lr": 1e-12, "weight_decay": 0.0, "warmup": 0.0}
    straight = tmp_path / "straight"
    train(tokens, straight, "straight", config.Component(name="mle"), tiny.train_options(checkpoints=2, **still))
    summary = go_on(tokens, straight, tmp_path / "gone-on", "mle", {}, **still)
    assert (summary.step, summary.tokens) == (8, 1024)
    assert [line["loss"] for line in lines(tmp_path / "gone-on")] == pytest.approx(
        [line["loss"] for line in lines(straight)][8:], rel=1e-6
    )
    assert [line["tokens"] for line in lines(tmp_path / "gone-on")] == list(range(576, 1025, 64))


def test_the_learning_rate_continues_or_restarts(tokens, mle, tmp_path):
    rates = [line["lr"] for line in lines(mle)]
    go_on(tokens, mle, tmp_path / "continued", "mle", {}, rate="continue", checkpoints=2)
    assert [line["lr"] for line in lines(tmp_path / "continued")] == rates[8:]
    go_on(tokens, mle, tmp_path / "restarted", "mle", {}, lr=0.02)
    assert lines(tmp_path / "restarted")[0]["lr"] == 0.02
    go_on(tokens, tmp_path / "continued", tmp_path / "twice", at="75%", rate="continue")
    assert [line["lr"] for line in lines(tmp_path / "twice")] == rates[12:]
    with pytest.raises(InputError, match=r"rate is continue, but the schedule .* differs: train\.lr was 0\.01, now 0\.02"):
        go_on(tokens, mle, tmp_path / "other", rate="continue", lr=0.02)
    assert not (tmp_path / "other").exists()


def test_feedback_from_half_way(tokens, mle, tmp_path):
    out = tmp_path / "conditional"
    checkpoint = go_on(tokens, mle, out).checkpoint
    half = load_file(mle / "checkpoints/step-8/model.safetensors")["transformer.wte.weight"]
    whole = load_file(checkpoint / "model.safetensors")["transformer.wte.weight"]
    assert whole.shape[0] == half.shape[0] + 2, "it has got control tokens"
    assert lines(out)[0]["nll"] < lines(mle)[0]["nll"] - 0.05, "it did not begin anew"
    about = json.loads((checkpoint / "phf.json").read_text())
    assert (about["tokens"], about["step"], about["control_tokens"][0]) == (1024, 8, "<|aligned|>")
    recorded = yaml.read_yaml(out / "config.yaml")["train"]["init"]
    assert recorded["at"] == "50%"
    assert (out / recorded["run"]).resolve() == mle.resolve(), "named from the run's folder, so that both may move"
    assert go_on(tokens, mle, out).already_done
    schedule = read_schedule(RunFolder(out))
    assert (schedule.before, schedule.steps, schedule.tokens(schedule.steps)) == (512, 8, 1024)


@pytest.mark.parametrize("objective", [Filtering(-0.9), Conditional(0.0, drop=0.0)])
def test_it_goes_on_with_documents_not_begun(tokens, mle, tmp_path, objective):
    name = type(objective).__name__.lower()
    checkpoint = go_on(tokens, mle, tmp_path / name, name, {"threshold": objective.threshold}, tokens=832).checkpoint
    read = json.loads((mle / "checkpoints/step-8/phf.json").read_text())["data"]
    after = json.loads((checkpoint / "phf.json").read_text())["data"]
    store = TokenStore.open(tokens)
    ids = range(len(objective.control_tokens))
    mle_view, view = store.view(MLE(), 16, 0), store.view(objective, 16, 0, control_ids=ids)
    before = mle_view.documents(WindowShuffle(len(mle_view), 0, 0).numbers(0, read["block"]))
    resumed = WindowShuffle(len(view), 0, 0, after["origin"])
    assert after["origin"] == after["block"] - 5 * 4
    later = view.documents(resumed.numbers(after["origin"], after["block"]))
    assert not np.isin(later, before).any()
    assert len(later) > 1


def test_a_checkpoint_of_documents_in_the_order_of_old_is_refused(tokens, mle, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(mle, old)
    for notes in old.glob("checkpoints/*/phf.json"):
        fields = json.loads(notes.read_text())
        del fields["data"]["origin"]
        checksums.forget(notes.parent)
        notes.write_text(json.dumps(fields))
    with pytest.raises(InputError, match=r"phf.json: written by a phf that read its documents in another order"):
        go_on(tokens, old, tmp_path / "run")


def test_a_run_that_went_on_can_be_gone_on_from(tokens, mle, tmp_path):
    first = tmp_path / "first"
    go_on(tokens, mle, first, checkpoints=2)
    summary = go_on(tokens, first, tmp_path / "second", "awr", {"alpha": 0.5, "beta": 1.0}, at="75%")
    assert (summary.step, summary.tokens) == (4, 1024)
    with pytest.raises(InputError, match=r"no checkpoint at 50% of its 1,024 tokens; it has 768 tokens \(75%\), 1,024 tokens"):
        go_on(tokens, first, tmp_path / "third")


def test_a_conditional_checkpoint_keeps_its_control_tokens(tokens, mle, tmp_path):
    first = tmp_path / "first"
    trained = load_file(go_on(tokens, mle, first).checkpoint / "model.safetensors")["transformer.wte.weight"]
    still = {"lr": 1e-12, "weight_decay": 0.0}
    after = go_on(tokens, first, tmp_path / "second", at="100%", tokens=1280, **still).checkpoint
    again = load_file(after / "model.safetensors")["transformer.wte.weight"]
    assert again.shape == trained.shape
    np.testing.assert_allclose(again[-2:], trained[-2:], atol=1e-6)


def test_what_is_refused(tokens, mle, tmp_path):
    with pytest.raises(InputError, match=r"train\.init\.run: .*nowhere is no run's folder"):
        go_on(tokens, tmp_path / "nowhere", tmp_path / "run")
    with pytest.raises(InputError, match=r"has train\.seed 0, and this run 7; the same data order needs the same seed"):
        go_on(tokens, mle, tmp_path / "run", seed=7)
    other = tiny.token_store(tmp_path / "other", tiny.documents(60))
    with pytest.raises(InputError, match=r"was trained on another token store: .*documents was .* set train\.model to from:"):
        go_on(other, mle, tmp_path / "run")
    assert not (tmp_path / "run").exists()
