"""Forward KL: exact for models that one can write down, nothing for a model and itself, made once however many ask for it."""

import math
import shutil
import threading

import numpy as np
import pytest
import torch

from phf import checksums, config, evaluate, lm, per_example
from phf.documents import Document
from phf.errors import InputError
from phf.evaluate.kl import ForwardKL
from phf.evaluate.protocol import EvalContext, placements_of, with_control_placement
from phf.layout import RunFolder
from phf.lm.protocol import Completion, Likelihood
from phf.records import read_records
from phf.segmenters import Sentences
from phf.tokens.tokenizer import train_tokenizer
from support.checkpoints import CONTROLS, checkpoint, legible
from support.openai_server import served
from support.tiny_corpora import annotated

torch.set_num_threads(1)


class Coin:
    """Writes heads and tails, and ends after each with a chance of its own: all of it known by heart."""

    def __init__(self, heads: float, end: float) -> None:
        self.heads, self.end = heads, end

    def generate(self, prompts, sampling, on_progress=None):
        assert (sampling.temperature, sampling.top_p, sampling.min_tokens) == (1, 1, 0)
        draw, made = np.random.default_rng(sampling.seed), []
        for _ in prompts:
            text, ended = "", False
            while len(text) < sampling.max_tokens and not (ended := draw.random() < self.end):
                text += "h" if draw.random() < self.heads else "t"
            made.append(Completion(text, ended))
        return made

    def likelihoods(self, texts, contexts=None, ended=None, on_progress=None):
        found = []
        for text, whole in zip(texts, ended, strict=True):
            nats = text.count("h") * math.log(self.heads) + text.count("t") * math.log(1 - self.heads)
            nats += len(text) * math.log(1 - self.end) + whole * math.log(self.end)
            found.append(Likelihood(nats, len(text) + whole, None))
        return found

    def kl(self, other, most: int) -> tuple[float, float]:
        """Give the divergence and the expected number of tokens, ends counted."""

        def toward(p, q):
            return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))

        alive = [(1 - self.end) ** place for place in range(most + 1)]
        # A place is reached if nothing ended before it; there the end is drawn, and if it is not, a letter.
        nats = sum(alive[:most]) * toward(self.end, other.end) + sum(alive[1:]) * toward(self.heads, other.heads)
        return nats, sum(alive[1:]) + sum(alive[:most]) * self.end


def settings(tmp_path, run="run") -> EvalContext:
    return EvalContext(run, 7, "kl", tmp_path / run, None, Sentences(), 0, lambda: [], shared=tmp_path / "shared")


def take(measure, model, setting):
    return {record.metric: record for record in measure.measure(model, setting)}


@pytest.fixture
def coins(monkeypatch):
    made = {"reference": Coin(0.7, 0.1)}
    monkeypatch.setattr(lm, "load", lambda spec, control=None: made[spec])
    monkeypatch.setattr(lm, "fingerprint", lambda spec: f"{spec} as it is")
    return made


def test_it_is_the_divergence_ends_of_documents_counted(tmp_path, coins):
    other = Coin(0.5, 0.2)
    found = take(ForwardKL("reference", n=16000, max_tokens=8), other, settings(tmp_path))
    nats, tokens = coins["reference"].kl(other, 8)
    assert found["kl"].value == pytest.approx(nats, abs=4 * found["kl"].stderr)
    assert found["kl"].stderr < 0.03 * nats
    assert found["kl_per_token"].value == pytest.approx(nats / tokens, abs=4 * found["kl_per_token"].stderr)
    assert found["kl.low"].value < found["kl"].value < found["kl.high"].value
    assert {record.n for record in found.values()} == {16000}


def test_a_model_has_no_divergence_from_itself(tmp_path, coins):
    found = take(ForwardKL("reference", n=50), coins["reference"], settings(tmp_path))
    assert {record.value for record in found.values()} == {0}


@pytest.mark.parametrize("controls", [(), CONTROLS])
@pytest.mark.parametrize("segmenter", ["sentences", "lines", None])
def test_a_checkpoint_has_no_divergence_from_itself(tmp_path, controls, segmenter):
    folder = checkpoint(tmp_path / "run", controls=controls, segmenter=segmenter, change=legible)
    setting = settings(tmp_path)
    found = take(ForwardKL(str(folder), n=20, max_tokens=20), lm.load(str(folder)), setting)
    # The reference reads its token once, at the start, unless it was trained on lines.
    own = [name for name in found if name.endswith("_start") == bool(controls and segmenter != "lines") and "." not in name]
    assert len(own) == 3
    assert max(abs(found[name].value) for name in own) == 0


def test_the_prefix_is_free_however_much_a_control_token_surprises(tmp_path):
    reference = checkpoint(tmp_path / "plain")
    loaded = lm.load(str(checkpoint(tmp_path / "conditional", controls=CONTROLS)))
    plain = lm.load(str(reference))
    # The same weights but for the control tokens, which get next to no probability, and change nothing where they stand.
    with torch.no_grad():
        for name, parameter in plain.model.named_parameters():
            mine = dict(loaded.model.named_parameters())[name]
            mine[: len(parameter)].copy_(parameter) if "wte" in name else mine.copy_(parameter)
    texts, ended = ["The reader opens", "", "Call"], [True, True, False]
    mine, theirs = (model.likelihoods(texts, ended=ended) for model in (loaded, plain))
    assert all(one.tokens == other.tokens for one, other in zip(mine, theirs, strict=True))
    own = [loaded.start, loaded.control_id]
    with torch.inference_mode():
        logits = loaded.model(input_ids=torch.tensor([own])).logits[0, -1].double()
        logits[loaded.controls] = -torch.inf
    assert mine[1].nats == pytest.approx(float(logits.log_softmax(-1)[loaded.start]), rel=1e-5)


def test_a_reference_with_another_tokenizer_is_compared_text_by_text(tmp_path):
    folder = checkpoint(tmp_path / "run", change=legible)
    loaded = lm.load(str(folder))
    other = tmp_path / "other"
    shutil.copytree(folder / "checkpoints" / "step-3", other)
    train_tokenizer(["another text altogether, cut another way"] * 9, 300).save_pretrained(other)
    setting = settings(tmp_path)
    found = take(ForwardKL(f"hf:{other}", n=20, max_tokens=10), loaded, setting)
    assert found["kl"].value > 0
    ids, (nats, weights) = per_example.read(RunFolder(setting.out).per_example_of("kl", 7), "kl_per_byte")
    assert len(set(ids)) == 20
    assert nats.sum() / weights.sum() == pytest.approx(found["kl_per_byte"].value)


def test_runs_share_the_references_texts_even_side_by_side(tmp_path, coins):
    asked = []
    generate = coins["reference"].generate
    coins["reference"].generate = lambda *arguments: asked.append(1) or generate(*arguments)
    measure, results = ForwardKL("reference", n=300, max_tokens=8), {}

    def run(name):
        results[name] = take(measure, Coin(0.5, 0.2), settings(tmp_path, name))["kl"].value

    threads = [threading.Thread(target=run, args=(f"run-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1
    assert len(results) == 4
    assert len(set(results.values())) == 1
    take(ForwardKL("reference", n=300, max_tokens=9), Coin(0.5, 0.2), settings(tmp_path))
    assert len(asked) == 2, "other texts are other files"


def test_a_reference_that_changed_is_sampled_anew(tmp_path, coins, monkeypatch):
    measure = ForwardKL("reference", n=300, max_tokens=8)
    before = take(measure, Coin(0.5, 0.2), settings(tmp_path))["kl"].value
    coins["reference"] = Coin(0.9, 0.1)
    monkeypatch.setattr(lm, "fingerprint", lambda spec: "trained further")
    after = take(measure, Coin(0.5, 0.2), settings(tmp_path))["kl"].value
    assert after > before + 0.5


def test_a_character_that_the_limit_cut_is_left_out_and_other_broken_ones_are_counted(tmp_path, coins, caplog):
    coins["reference"].generate = lambda prompts, *_: [Completion("hh\ufffd", False), Completion("h\ufffdt", True)]
    with caplog.at_level("WARNING", logger="phf"):
        found = take(ForwardKL("reference", n=2), Coin(0.5, 0.2), settings(tmp_path))
    assert found["kl"].n == 1
    assert found["kl"].value == pytest.approx(2 * math.log(0.7 * 0.9 / 0.5 / 0.8))
    assert "1 of 2 texts hold bytes that are not characters, and are left out" in caplog.text


def test_a_reference_that_does_not_say_whether_a_text_ended_is_an_error(tmp_path, coins):
    coins["reference"].generate = lambda prompts, *_: [Completion("ht", None)] * len(prompts)
    with pytest.raises(InputError, match="does not report whether a text ended"):
        take(ForwardKL("reference", n=5), Coin(0.5, 0.2), settings(tmp_path))


def test_a_reference_that_writes_nothing_is_an_error(tmp_path, coins):
    coins["reference"].generate = lambda prompts, *_: [Completion("", True)] * len(prompts)
    with pytest.raises(InputError, match="5 samples of it hold no text"):
        take(ForwardKL("reference", n=5), Coin(0.5, 0.2), settings(tmp_path))


def test_a_broken_file_of_the_reference_is_named(tmp_path, coins):
    measure, setting = ForwardKL("reference", n=5), settings(tmp_path)
    take(measure, Coin(0.5, 0.2), setting)
    (file,) = (tmp_path / "shared").glob("references/*/texts.parquet")
    checksums.forget(file.parent)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"texts\.parquet: not what `phf evaluate` keeps"):
        take(measure, Coin(0.5, 0.2), setting)


def test_a_reference_behind_a_server_is_the_one_on_this_machine(tmp_path):
    pytest.importorskip("openai")
    loaded = lm.load(str(checkpoint(tmp_path / "run", segmenter=None, change=legible)))
    texts, ended = ["The reader opens the file.", "", "Call close", "naïve"], [True, True, False, True]
    with served(loaded) as address:
        remote = lm.load(address)
        for here, there in zip(loaded.likelihoods(texts, ended=ended), remote.likelihoods(texts, ended=ended), strict=True):
            assert here.nats == pytest.approx(there.nats, rel=1e-5)
            assert here.tokens == there.tokens
        found = take(ForwardKL(address, n=12, max_tokens=12), loaded, settings(tmp_path))
        assert abs(found["kl"].value) < 1e-4
    with pytest.raises(InputError, match="no server answers there"):
        take(ForwardKL(address, n=13, max_tokens=12), loaded, settings(tmp_path))


def test_a_server_that_dies_leaves_no_half_reference(tmp_path, monkeypatch):
    pytest.importorskip("openai")
    monkeypatch.setattr("phf.openai_client.WAITS", (0.01, 0.01))
    loaded = lm.load(str(checkpoint(tmp_path / "run", segmenter=None, change=legible)))
    with served(loaded, dies_after=15) as address, pytest.raises(InputError, match="no server answers there"):
        take(ForwardKL(address, n=12, max_tokens=12), loaded, settings(tmp_path))
    assert not list((tmp_path / "shared").glob("references/*/"))


def test_a_server_that_dies_mid_run_keeps_the_measures_before_it(tmp_path, monkeypatch):
    pytest.importorskip("openai")
    monkeypatch.setattr("phf.openai_client.WAITS", (0.01, 0.01))
    loaded = lm.load(str(checkpoint(tmp_path / "run", segmenter=None, change=legible)))
    made = [Document(f"d{number}", ["The reader opens. "], np.array([0.0], np.float32)) for number in range(40)]
    corpus, out = annotated(tmp_path / "annotated", made), tmp_path / "out"
    evaluations = {"heldout": {"name": "heldout", "documents": 5}, "no-prompt": {"name": "samples", "n": 9, "max_tokens": 10}}
    options = config.Evaluate(evaluations=evaluations)
    with served(loaded, dies_after=8) as address, pytest.raises(InputError, match="no server answers there"):
        evaluate.evaluate(address, corpus, options, out, held_out=0.5)
    assert {record.evaluation for record in read_records(out / "records.jsonl")} == {"heldout"}
    assert not (out / "samples").exists()


def test_a_model_is_placed_in_front_of_every_segment_and_at_the_start(tmp_path):
    loaded = lm.load(str(checkpoint(tmp_path / "c", controls=CONTROLS)))
    assert placements_of(loaded) == {"": "every", "_start": "start"}
    assert placements_of(lm.load(str(tmp_path / "c"), "none")) == placements_of(Coin(0.5, 0.5)) == {"": None}
    assert with_control_placement(loaded, None) is loaded
    assert with_control_placement(loaded, "every").placement == "every"
    assert loaded.placement == "start"
