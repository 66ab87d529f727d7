"""Finetuning on GLUE's tasks: rows as the files have them, padding that nothing hangs on, and models that learn."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from phf import lm, plugins
from phf.errors import InputError
from phf.evaluate.finetune import FineTune, glue
from phf.evaluate.finetune.training import _batches, _classifier, _encode, _logits
from phf.evaluate.protocol import EvalContext
from phf.segmenters import Sentences
from support.checkpoints import CONTROLS, checkpoint

torch.set_num_threads(1)

SHARED = Path(__file__).parents[3] / "shared" / "data" / "eval" / "glue"
QUICK = {"tasks": ["sst2"], "seeds": 1, "epochs": 6, "lr": 5e-3, "batch": 8, "warmup": 0.0}


@pytest.fixture
def setting(tmp_path) -> EvalContext:
    return EvalContext("run", 7, "glue", tmp_path / "run", None, Sentences(), 0, lambda: [])


@pytest.fixture
def data(tmp_path):
    """Tasks small enough to learn: a sentence is good if it says so."""
    folder, rng = tmp_path / "glue", np.random.default_rng(0)

    def write(task, name, rows, header=None):
        path = folder / task / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "\n".join("\t".join(map(str, row)) for row in ([header] if header else []) + rows) + "\n", encoding="utf-8"
        )

    def words(label):
        return " ".join([*rng.choice(["file", "line", "reader"], rng.integers(1, 6)), "good" if label else "bad"])

    for name, count in (("train", 120), ("dev", 60)):
        labels = [int(label) for label in rng.integers(0, 2, count)]
        write("SST-2", name, [[words(label), label] for label in labels], ["sentence", "label"])
        write("CoLA", name, [["s", label, "", words(label)] for label in labels])
        write("MRPC", name, [[label, 1, 2, words(label), "x"] for label in labels],
              ["\ufeffQuality", "#1 ID", "#2 ID", "#1 String", "#2 String"])  # fmt: skip
        write("RTE", name, [[0, "x", words(label), "not_entailment" if label else "entailment"] for label in labels],
              ["index", "sentence1", "sentence2", "label"])  # fmt: skip
    return folder


def take(measure, model, setting):
    return {record.metric: record for record in measure.measure(model, setting)}


# measures -------------------------------------------------------------------------------------------------------------


def test_metrics_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for size in (1, 2, 50):
        found, labels = rng.integers(0, 2, size), rng.integers(0, 2, size)
        mine = glue.measure(("acc", "f1", "mcc"), found, labels)
        assert mine["acc"] == pytest.approx(metrics.accuracy_score(labels, found))
        assert mine["f1"] == pytest.approx(metrics.f1_score(labels, found, zero_division=0))
        assert mine["mcc"] == pytest.approx(metrics.matthews_corrcoef(labels, found))
    assert glue.measure(("mcc", "f1"), np.zeros(4), np.array([0, 1, 0, 1])) == {"mcc": 0, "f1": 0}


# rows -----------------------------------------------------------------------------------------------------------------


def test_rows_are_those_of_the_files(data):
    for name, texts in (("sst2", 1), ("cola", 1), ("mrpc", 2), ("rte", 2)):
        rows = glue.read(name, str(data))
        assert (len(rows.train), len(rows.dev)) == (120, 60)
        assert {len(row.texts) for row in rows.train} == {texts}
        for row in rows.dev:
            assert row.label == ("good" in " ".join(row.texts))


@pytest.mark.skipif(not SHARED.exists(), reason="GLUE's own files are not here")
@pytest.mark.parametrize(
    ("name", "train", "dev"), [("cola", 8551, 1043), ("sst2", 67349, 872), ("mrpc", 3667, 408), ("rte", 2490, 277)]
)
def test_glue_has_the_rows_it_is_known_to_have(name, train, dev):
    rows = glue.read(name, str(SHARED))  # MRPC's copy lacks one of its 3,668
    assert (len(rows.train), len(rows.dev)) == (train, dev)
    assert {row.label for row in rows.train} == {0, 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no column 'sentence'; found nothing"),
        ("text\tlabel\na\t1\n", "no column 'sentence'; found text, label"),
        ("sentence\tlabel\na\t2\n", "line 2: class '2'; expected one of 0, 1"),
        ("sentence\tlabel\n", "no rows; expected"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_files_that_are_not_glue(data, content, message):
    path = data / "SST-2" / "train.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=rf"train\.tsv.*{message}"):
        glue.read("sst2", str(data))


def test_a_missing_folder_says_what_is_expected(tmp_path):
    with pytest.raises(InputError, match=r"SST-2/train\.tsv: no such file; expected data to be a folder with GLUE's SST-2"):
        glue.read("sst2", str(tmp_path))


def test_lines_that_lack_columns_are_left_out_and_counted(data, caplog):
    path = data / "SST-2" / "dev.tsv"
    path.write_text(path.read_text() + "half a line\n")
    with caplog.at_level("WARNING", logger="phf"):
        assert len(glue.read("sst2", str(data)).dev) == 60
    assert "1 of 62 lines lack columns and are left out, line 62 first" in caplog.text


# reading --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bloom"])
@pytest.mark.parametrize("controls", [(), CONTROLS])
def test_a_row_is_judged_the_same_alone_and_padded(tmp_path, kind, controls):
    base = lm.load(str(checkpoint(tmp_path, kind, controls=controls)))
    model, pad = _classifier(base, 2)
    rows = _encode(
        base, [glue.Row(("The reader",), 0), glue.Row(("Each line ends", "Call close() when"), 1), glue.Row(("",), 0)], 40
    )
    assert [row[: len(controls) // 2 + 1] for row in rows] == [[base.start, base.control_id][: len(controls) // 2 + 1]] * 3
    assert {row[-1] for row in rows} == {base.start}
    model.eval()
    with torch.inference_mode():
        together = _logits(model, pad, rows)
        for row, logits in zip(rows, together, strict=True):
            torch.testing.assert_close(_logits(model, pad, [row])[0], logits, rtol=1e-4, atol=1e-4)


def test_what_is_too_long_is_cut_the_longer_sentence_first(tmp_path):
    base = lm.load(str(checkpoint(tmp_path, controls=CONTROLS)))
    long, short = "word " * 50, "Call close()"
    cut, whole = _encode(base, [glue.Row((long, short), 0), glue.Row((short, short), 0)], 30)
    assert len(cut) == 30
    assert len(whole) < 30
    text = base.tokenizer.decode(cut)
    assert text.endswith("\nCall close()<|endoftext|>")
    assert len(_encode(base, [glue.Row((long, long), 0)], 1000)[0]) == base.context
    assert _encode(base, [glue.Row((long,), 0)], 8)[0][-1] == base.start


def test_batches_hold_every_row_once():
    rows = [[0] * length for length in np.random.default_rng(0).integers(1, 90, 203)]
    found = list(_batches(rows, 8, np.random.default_rng(1)))
    assert sorted(row for batch in found for row in batch) == list(range(203))
    padded = sum(len(batch) * max(len(rows[row]) for row in batch) for batch in found)
    assert padded < 1.25 * sum(map(len, rows))


# the measure ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("controls", [(), CONTROLS])
def test_it_learns_what_can_be_learned_and_is_not_done_again(data, tmp_path, setting, controls, monkeypatch):
    model = lm.load(str(checkpoint(tmp_path / "model", controls=controls)))
    measure = FineTune(data=str(data), **QUICK)
    found = take(measure, model, setting)
    assert found["sst2.acc"].value > 0.8
    assert found["score"].value == found["sst2.acc"].value
    assert math.isnan(found["sst2.acc"].stderr)
    (kept,) = (setting.out / "finetune").rglob("*.json")
    notes = json.loads(kept.read_text())
    assert notes["epochs"][-1]["loss"] < notes["epochs"][0]["loss"]
    assert notes["made_from"]["control"] == model.control
    with monkeypatch.context() as patched:
        patched.setattr("phf.evaluate.finetune.training.finetune", lambda *_: pytest.fail("done again"))
        assert take(measure, model, setting)["sst2.acc"].value == found["sst2.acc"].value
        with pytest.raises(pytest.fail.Exception, match="done again"):
            take(FineTune(data=str(data), **QUICK | {"lr": 4e-3}), model, setting)


def test_seeds_and_tasks_have_a_mean_and_an_error(data, tmp_path, setting):
    model = lm.load(str(checkpoint(tmp_path / "model")))
    fields = QUICK | {"tasks": ["cola", "mrpc"], "seeds": 2, "epochs": 1}
    found = take(FineTune(data=str(data), **fields), model, setting)
    metrics = {"cola.mcc", "mrpc.acc", "mrpc.f1", "score"}
    assert set(found) == {metric + end for metric in metrics for end in ("", ".low", ".high")}
    kept = {path.stem: json.loads(path.read_text())["metrics"] for path in (setting.out / "finetune").rglob("*.json")}
    per_seed = [
        (kept[f"cola-seed-{seed}"]["mcc"] + (kept[f"mrpc-seed-{seed}"]["acc"] + kept[f"mrpc-seed-{seed}"]["f1"]) / 2) / 2
        for seed in (0, 1)
    ]
    assert found["score"].value == pytest.approx(np.mean(per_seed))
    assert found["score"].stderr == pytest.approx(np.std(per_seed, ddof=1) / math.sqrt(2))
    half = found["score.high"].value - found["score"].value
    assert half == pytest.approx(12.706 * found["score"].stderr, rel=1e-3), "Student's t of 1 degree of freedom"
    assert {record.n for record in found.values()} == {2}


def test_the_same_seed_gives_the_same(data, tmp_path, setting):
    model = lm.load(str(checkpoint(tmp_path / "model")))
    fields = QUICK | {"epochs": 1, "train_rows": 30}
    one = take(FineTune(data=str(data), **fields), model, setting)["sst2.acc"].value
    torch.manual_seed(123)
    elsewhere = EvalContext("run", 7, "other", setting.out, None, Sentences(), 0, lambda: [])
    assert take(FineTune(data=str(data), **fields), model, elsewhere)["sst2.acc"].value == one


def test_finetuning_stops_when_it_no_longer_helps(data, tmp_path, setting):
    model = lm.load(str(checkpoint(tmp_path / "model")))
    take(FineTune(data=str(data), **QUICK | {"epochs": 40, "patience": 1, "stop_on": "dev"}), model, setting)
    (kept,) = (setting.out / "finetune").rglob("*.json")
    notes = json.loads(kept.read_text())
    scores = [epoch["score"] for epoch in notes["epochs"]]
    assert len(scores) < 40
    assert notes["epoch"] == int(np.argmax(scores)) + 1 == len(scores) - 1
    assert notes["metrics"]["acc"] == max(scores), "judged on dev, stopped on dev: the best epoch's weights"


def test_models_that_cannot_be_finetuned(data, tmp_path, setting):
    class Remote:
        def logprobs(self, texts): ...

    with pytest.raises(InputError, match="needs a model's weights"):
        take(FineTune(data=str(data), **QUICK), Remote(), setting)
    with pytest.raises(InputError, match="cannot be finetuned to classify"):
        take(FineTune(data=str(data), **QUICK), lm.load(str(checkpoint(tmp_path / "mamba", "mamba"))), setting)

    def spoil(made, _):
        made.transformer.ln_f.weight.fill_(float("nan"))

    spoiled = lm.load(str(checkpoint(tmp_path / "spoiled", change=spoil)))
    with pytest.raises(InputError, match="the loss is nan at step 0; lower lr"):
        take(FineTune(data=str(data), **QUICK), spoiled, setting)
    with pytest.raises(InputError, match="at least 2 rows"):
        take(FineTune(data=str(data), **QUICK | {"train_rows": 1}), spoiled, setting)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"tasks": ["sst-2"]}, "tasks.0"), ({"tasks": []}, "tasks"), ({"seeds": 0}, "seeds"), ({"rate": 1}, "unknown key")],
)
def test_fields_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        plugins.build("evaluations", "finetune", fields)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="GLUE's own files are not here")
def test_a_small_model_learns_more_than_chance_of_sst2(tmp_path, setting):
    model = lm.load(str(checkpoint(tmp_path / "model", controls=CONTROLS)))
    fields = {"tasks": ["sst2"], "seeds": 1, "epochs": 3, "lr": 3e-3, "train_rows": 4000}
    found = take(FineTune(data=str(SHARED), **fields), model, setting)
    assert found["sst2.acc"].value > 0.57  # 0.51 is the larger class; 872 rows, so 3.5 standard errors above
