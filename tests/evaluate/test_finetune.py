"""Finetuning on GLUE's tasks: rows as the files have them, padding that nothing hangs on, and models that learn."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from phf import lm, plugins
from phf.errors import InputError
from phf.evaluate.finetune import FineTune, glue
from phf.evaluate.finetune.training import _batches, _classifier, _encode, _logits
from phf.evaluate.protocol import EvalContext
from phf.layout import RunFolder
from phf.records import write_records
from phf.report.differences import BY_DOCUMENT, difference
from phf.report.run_files import read_runs
from phf.segmenters import Sentences
from support.checkpoints import CONTROLS, checkpoint
from support.hub_data import write_hub_data

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
        parts = glue.parts(found, labels)
        assert parts["acc"][0].sum() / parts["acc"][1].sum() == pytest.approx(mine["acc"])
        assert parts["f1"][0].sum() / max(1, parts["f1"][1].sum()) == pytest.approx(mine["f1"])
    assert glue.measure(("mcc", "f1"), np.zeros(4), np.array([0, 1, 0, 1])) == {"mcc": 0, "f1": 0}


def test_correlations_are_those_of_scipy():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 26, 60) / 5
    found = labels + rng.normal(0, 1, 60)
    mine = glue.measure(("pearson", "spearman"), found, labels)
    assert mine["pearson"] == pytest.approx(stats.pearsonr(found, labels)[0])
    assert mine["spearman"] == pytest.approx(stats.spearmanr(found, labels)[0])
    for flat in (np.ones(60), np.ones(1)):
        assert glue.measure(("pearson", "spearman"), flat, labels[: len(flat)]) == {"pearson": 0, "spearman": 0}


# rows -----------------------------------------------------------------------------------------------------------------


def test_rows_are_those_of_the_files(data):
    for name, texts in (("sst2", 1), ("cola", 1), ("mrpc", 2), ("rte", 2)):
        rows = glue.read(name, str(data))
        assert (len(rows.train), len(rows.dev[""])) == (120, 60)
        assert {len(row.texts) for row in rows.train} == {texts}
        for row in rows.dev[""]:
            assert row.label == ("good" in " ".join(row.texts))


@pytest.mark.skipif(not SHARED.exists(), reason="GLUE's own files are not here")
@pytest.mark.parametrize(
    ("name", "train", "dev"), [("cola", 8551, 1043), ("sst2", 67349, 872), ("mrpc", 3667, 408), ("rte", 2490, 277)]
)
def test_glue_has_the_rows_it_is_known_to_have(name, train, dev):
    rows = glue.read(name, str(SHARED))  # MRPC's copy lacks one of its 3,668
    assert (len(rows.train), len(rows.dev[""])) == (train, dev)
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
        assert len(glue.read("sst2", str(data)).dev[""]) == 60
    assert "1 of 62 lines lack columns and are left out, line 62 first" in caplog.text


HUB = {
    "cola": (("sentence",), 2, ("validation",)),
    "sst2": (("sentence",), 2, ("validation",)),
    "mrpc": (("sentence1", "sentence2"), 2, ("validation",)),
    "stsb": (("sentence1", "sentence2"), 0, ("validation",)),
    "qqp": (("question1", "question2"), 2, ("validation",)),
    "mnli": (("premise", "hypothesis"), 3, ("validation_matched", "validation_mismatched")),
    "qnli": (("question", "sentence"), 2, ("validation",)),
    "rte": (("sentence1", "sentence2"), 2, ("validation",)),
}
"""Columns, number of classes (none for scores) and dev splits of nyu-mll/glue."""
WORDS = ("bad", "fair", "good")


def write_glue_of_the_hub(folder: Path, train: int, dev: int) -> Path:
    """Write a stand-in for nyu-mll/glue whose last sentence says the class, or the score in three steps."""
    rng = np.random.default_rng(0)

    def columns(texts, classes, count):
        labels = rng.integers(0, classes or 3, count)
        said = [WORDS[label] for label in labels]
        found = {name: [f"line {number}" for number in range(count)] for name in texts[:-1]}
        found[texts[-1]] = [f"file {word}" for word in said]
        return found | {"label": (labels / 2 * 5 if not classes else labels).tolist(), "idx": list(range(count))}

    return write_hub_data(
        folder,
        {
            name: {"train": columns(texts, classes, train)} | {split: columns(texts, classes, dev) for split in splits}
            for name, (texts, classes, splits) in HUB.items()
        },
    )


def test_every_task_is_read_from_the_columns_of_the_hub(tmp_path):
    folder = write_glue_of_the_hub(tmp_path / "glue", 6, 4)
    assert set(HUB) == set(glue.TASKS)
    for name, (texts, classes, splits) in HUB.items():
        rows = glue.read(name, f"hf:{folder}")
        assert list(rows.dev) == ["", "_mismatched"][: len(splits)]
        for row in [*rows.train, *(row for split in rows.dev.values() for row in split)]:
            assert len(row.texts) == len(texts)
            assert WORDS[int(row.label * 2 / 5 if not classes else row.label)] in row.texts[-1]
    with pytest.raises(InputError, match=r"cola, train cannot be read \(BuilderConfig .cola. not found"):
        glue.read("cola", f"hf:{tmp_path}")


def test_scores_and_both_dev_files_are_read_from_tsv(tmp_path):
    write = lambda name, text: (tmp_path / name).parent.mkdir(exist_ok=True) or (tmp_path / name).write_text(text)  # noqa: E731
    head = "index\tgenre\tsentence1\tsentence2\tscore\n"
    for split in ("train", "dev"):
        write(f"STS-B/{split}.tsv", head + "0\tx\ta\tb\t2.5\n")
    assert glue.read("stsb", str(tmp_path)).train == [glue.Row(("a", "b"), 2.5)]
    write("STS-B/dev.tsv", head + "0\tx\ta\tb\tmuch\n")
    with pytest.raises(InputError, match=r"dev\.tsv, line 2: score 'much'; expected a number"):
        glue.read("stsb", str(tmp_path))
    for number, split in enumerate(("train", "dev_matched", "dev_mismatched")):
        write(f"MNLI/{split}.tsv", f"sentence1\tsentence2\tgold_label\na\tb{number}\tneutral\n")
    rows = glue.read("mnli", str(tmp_path))
    assert {suffix: split[0].texts for suffix, split in rows.dev.items()} == {"": ("a", "b1"), "_mismatched": ("a", "b2")}


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
    (kept,) = (setting.out / "finetune").rglob("*-seed-*.json")
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
    kept = {path.stem: json.loads(path.read_text())["metrics"] for path in (setting.out / "finetune").rglob("*-seed-*.json")}
    per_seed = [
        (kept[f"cola-seed-{seed}"]["mcc"] + (kept[f"mrpc-seed-{seed}"]["acc"] + kept[f"mrpc-seed-{seed}"]["f1"]) / 2) / 2
        for seed in (0, 1)
    ]
    assert found["score"].value == pytest.approx(np.mean(per_seed))
    assert found["score"].stderr == pytest.approx(np.std(per_seed, ddof=1) / math.sqrt(2))
    half = found["score.high"].value - found["score"].value
    assert half == pytest.approx(12.706 * found["score"].stderr, rel=1e-3), "Student's t of 1 degree of freedom"
    assert {record.n for record in found.values()} == {2}


def test_every_task_is_finetuned_and_its_predictions_are_kept(tmp_path, setting):
    """That all kinds of task go from rows to records; that they learn is tested on SST-2 and STS-B."""
    folder = write_glue_of_the_hub(tmp_path / "glue", 12, 5)
    model = lm.load(str(checkpoint(tmp_path / "model")))
    found = take(FineTune(data=f"hf:{folder}", **QUICK | {"tasks": list(HUB), "epochs": 1}), model, setting)
    metrics = {metric for metric in found if not metric.endswith((".low", ".high"))}
    assert metrics == {
        "cola.mcc", "sst2.acc", "mrpc.acc", "mrpc.f1", "stsb.pearson", "stsb.spearman", "qqp.acc", "qqp.f1", "mnli.acc",
        "mnli.acc_mismatched", "qnli.acc", "rte.acc", "score",
    }  # fmt: skip
    kept = {path.name: json.loads(path.read_text())["predictions"] for path in (setting.out / "finetune").rglob("*-seed-0.json")}
    assert {suffix: len(rows) for suffix, rows in kept["mnli-seed-0.json"].items()} == {"": 5, "_mismatched": 5}
    wrong = sum(
        int(row.label) != predicted
        for row, predicted in zip(glue.read("rte", f"hf:{folder}").dev[""], kept["rte-seed-0.json"][""], strict=True)
    )
    assert found["rte.acc"].value == pytest.approx(1 - wrong / 5)
    assert not all(predicted == int(predicted) for predicted in kept["stsb-seed-0.json"][""]), "scores, not classes"
    with pytest.raises(InputError, match=r"found wnli\. WNLI is not finetuned: its dev rows share their sentences"):
        FineTune(tasks=["rte", "wnli"])


def test_a_regression_learns_what_can_be_learned(tmp_path, setting):
    folder = write_glue_of_the_hub(tmp_path / "glue", 90, 30)
    model = lm.load(str(checkpoint(tmp_path / "model")))
    found = take(FineTune(data=f"hf:{folder}", **QUICK | {"tasks": ["stsb"], "epochs": 8}), model, setting)
    assert found["stsb.pearson"].value > 0.8
    assert found["score"].value == pytest.approx((found["stsb.pearson"].value + found["stsb.spearman"].value) / 2)


def test_runs_are_compared_row_by_row(data, tmp_path):
    runs = {}
    for name, lr in (("mle", 5e-3), ("other", 1e-6)):
        folder = checkpoint(tmp_path / "runs" / name)
        context = EvalContext(name, 3, "glue", folder, None, Sentences(), 0, lambda: [])
        records = list(
            FineTune(data=str(data), **QUICK | {"lr": lr, "tasks": ["sst2", "mrpc"]}).measure(lm.load(str(folder)), context)
        )
        write_records(RunFolder(folder).records, records)
        (runs[name],) = read_runs([folder])
    for metric in ("sst2.acc", "mrpc.acc", "mrpc.f1"):
        found = difference(runs["other"], runs["mle"], "glue", metric)
        assert found.how == BY_DOCUMENT, metric
        assert found.low < found.value < 0, metric
    assert difference(runs["other"], runs["mle"], "glue", "score").how != BY_DOCUMENT


def test_a_sweep_is_made_on_one_run_and_fixed_for_all(data, tmp_path):
    folders = {name: checkpoint(tmp_path / "runs" / name) for name in ("mle", "other")}
    fields = QUICK | {
        "tasks": ["sst2"],
        "epochs": 2,
        "stop_on": "dev",
        "sweep": {"lr": [1e-6, 5e-3], "batch": [8, 16], "on": "mle"},
    }

    def measure(name, **changes):
        context = EvalContext(name, 3, "glue", folders[name], None, Sentences(), 0, lambda: [], shared=tmp_path / "shared")
        plan = plugins.build("evaluations", "finetune", fields | {"data": str(data)} | changes)
        return take(plan, lm.load(str(folders[name])), context)

    other = measure("other")
    assert (other["sst2.lr"].value, other["sst2.lr"].n) == (5e-3, 4)
    assert not [metric for metric in other if ".sweep." in metric], "it was made on another run"
    (kept,) = (tmp_path / "shared" / "finetune").rglob("tried.json")
    tried = {(one["lr"], one["batch"]): one["score"] for one in json.loads(kept.read_text())["tried"]}
    assert set(tried) == {(lr, batch) for lr in (1e-6, 5e-3) for batch in (8, 16)}
    best = max(tried, key=tried.get)
    assert (other["sst2.lr"].value, other["sst2.batch"].value) == best
    made_from = json.loads(next((folders["other"] / "finetune").rglob("sst2-seed-0.json")).read_text())["made_from"]
    assert (made_from["lr"], made_from["batch"]) == best
    mle = measure("mle")
    assert {metric: mle[metric].value for metric in mle if ".sweep." in metric} == {
        f"sst2.sweep.lr={lr:g},batch={batch}": score for (lr, batch), score in tried.items()
    }
    assert mle["sst2.lr"].value == other["sst2.lr"].value
    with pytest.raises(InputError, match=r"finetune\.sweep\.on: the run 'mla' has no weights to try on"):
        measure("other", sweep={"lr": [1e-3], "batch": [8], "on": "mla"})
    with pytest.raises(InputError, match=r"sweep\.rates: unknown key"):
        measure("other", sweep={"rates": [1e-3], "batch": [8], "on": "mle"})
    with pytest.raises(InputError, match=r"finetune\.sweep\.lr: found \[0\.1, 0\.1\], expected different values"):
        measure("other", sweep={"lr": [0.1, 0.1], "batch": [8], "on": "mle"})


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
    (kept,) = (setting.out / "finetune").rglob("*-seed-*.json")
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
    fields = {"tasks": ["sst2"], "seeds": 1, "epochs": 3, "lr": 3e-3, "train_rows": 8000}
    found = take(FineTune(data=str(SHARED), **fields), model, setting)
    assert found["sst2.acc"].value > 0.57  # 0.51 is the larger class; 872 rows, so 3.5 standard errors above
