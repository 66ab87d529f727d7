"""Training reward models from labels: what is written, what it measures, and what is refused."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch

import phf.scorers
from phf import linear_model as linear
from phf import reward
from phf.documents import Document, write_part
from phf.errors import InputError, MissingExtra
from phf.linear_model import Features, fold
from phf.progress import Progress
from phf.reward import TrainOptions, calibration, fit_linear, labelled_texts, linear_model, preferences, splits
from phf.reward.calibration import Predictions

NICE = ["lovely weather", "thank you", "a good article", "see the references", "well done"]
RUDE = ["you fool", "utter rubbish", "shut up", "what an idiot", "stupid fool"]


def comments(count: int = 300, noise: float = 0.05, seed: int = 0) -> dict[str, list]:
    rng = np.random.default_rng(seed)
    toxic = rng.random(count) < 0.4
    texts = [" ".join(rng.choice(RUDE if rude else NICE, 3)) + f" {number}" for number, rude in enumerate(toxic)]
    source = np.where(rng.random(count) < np.where(toxic, 0.8, 0.3), "forum", "wiki")
    split = np.where(rng.random(count) < 0.2, "test", "train")
    flipped = toxic ^ (rng.random(count) < noise)
    return {"text": texts, "toxic": flipped.tolist(), "source": source.tolist(), "split": split.tolist()}


def write(path: Path, columns: dict[str, list]) -> Path:
    table = pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        pyarrow.csv.write_csv(table, path, pyarrow.csv.WriteOptions(delimiter="\t" if path.suffix == ".tsv" else ","))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, dict, list[Progress]]:
    folder = tmp_path_factory.mktemp("reward")
    seen: list[Progress] = []
    metrics = reward.train(write(folder / "labels.parquet", comments()), folder / "out", TrainOptions(folds=3), seen.append)
    return folder / "out", metrics, seen


def test_the_folder_is_a_scorer_that_ranks_texts(trained) -> None:
    out, metrics, _ = trained
    assert sorted(path.name for path in out.iterdir()) == [
        "calibration.svg",
        "checksums.json",
        "linear.safetensors",
        "metrics.json",
    ]
    assert json.loads((out / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    assert (out / "calibration.svg").read_text().rstrip().endswith("</svg>")
    rewards = phf.scorers.load("toxicity", path=str(out)).score(["you utter fool", "thank you, lovely article"])
    assert rewards[0] < -0.7 < -0.3 < rewards[1]


def test_metrics_are_of_texts_not_trained_on(trained) -> None:
    _, metrics, seen = trained
    data = comments()
    measured = metrics["measured"]
    held_out = data["split"].count("test")
    assert {name: by_source["all"]["texts"] for name, by_source in measured.items()} == {
        "cross-validated": 300 - held_out,
        "held out": held_out,
    }
    assert set(measured["held out"]) == {"all", "forum", "wiki"}
    assert 0.8 < measured["cross-validated"]["all"]["auc"] < 0.97  # flipped labels are not foreseen
    assert measured["cross-validated"]["all"]["calibration_error"] < 0.1
    assert metrics["words"]["positive"][0][1] > 0 > metrics["words"]["negative"][0][1]
    assert {word for word, _ in metrics["words"]["positive"][:4]} <= set(" ".join(RUDE).split())
    assert [(event.done, event.total) for event in seen] == [(done, 4) for done in range(5)]


def test_finished_is_left_alone_and_other_settings_are_refused(trained) -> None:
    out, metrics, _ = trained
    before = (out / "linear.safetensors").stat().st_mtime_ns
    source = out.parent / "labels.parquet"
    again = reward.train(source, out, TrainOptions(folds=3))
    assert json.dumps(again) == json.dumps(metrics)
    assert (out / "linear.safetensors").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="folds was 3, now 4"):
        reward.train(source, out, TrainOptions(folds=4))
    with pytest.raises(InputError, match="choose another output folder"):
        reward.train(source, out.parent)


def test_the_same_labels_in_any_format_and_order_give_the_same_model(tmp_path) -> None:
    data = comments(80)
    models = []
    for name in ("a.parquet", "b.csv", "c.tsv", "d.jsonl"):
        reward.train(write(tmp_path / name, data), tmp_path / f"{name}-out", TrainOptions(folds=2))
        models.append((tmp_path / f"{name}-out" / linear.FILE).read_bytes())
    assert len(set(models)) == 1


def test_folds_are_equal_in_kind_keep_equal_texts_together_and_ignore_order() -> None:
    texts = [f"text {number}" for number in range(60)] * 2
    data = labelled_texts.Labels(
        texts, np.array([number % 3 == 0 for number in range(60)] * 2, float), None, np.ones(120, bool), {}
    )
    fold_of = splits.folds_of(data, 5)
    assert fold_of[:60].tolist() == fold_of[60:].tolist()
    for number in range(5):
        assert data.labels[fold_of == number].sum() == 8
        assert (fold_of == number).sum() == 24
    order = np.random.default_rng(0).permutation(120)
    mixed = labelled_texts.Labels([texts[row] for row in order], data.labels[order], None, np.ones(120, bool), {})
    assert splits.folds_of(mixed, 5).tolist() == fold_of[order].tolist()


def test_importance_gives_every_source_the_same_share() -> None:
    rng = np.random.default_rng(0)
    sources = rng.choice(["a", "b", "c"], 500)
    truth = (rng.random(500) < np.where(sources == "a", 0.9, 0.2)).astype(float)
    data = labelled_texts.Labels(["x"] * 500, truth, sources, rng.random(500) < 0.7, {})
    importance = splits.importance_of(data)
    for trains in (True, False):
        for source in "abc":
            here = (sources == source) & (data.trains == trains)
            np.testing.assert_allclose(np.average(truth[here], weights=importance[here]), truth[data.trains].mean())
    np.testing.assert_allclose(splits.importance_of(labelled_texts.Labels(["x"] * 500, truth, None, data.trains, {})), 1)


def test_training_counts_what_scoring_counts() -> None:
    """A fitted model's scores by the sparse matrix of training are those of the scorer, but for the rounding of weights."""
    features = Features(buckets=2**14)
    texts = [*comments(50)["text"], "word " * 3000, "", "a"]
    counts, owner = fit_linear.matrix(features, texts)
    steps = np.random.default_rng(0).integers(-127, 128, features.buckets).astype(np.int8)
    model = linear.Linear(features, steps, largest=2.0, bias=0.3, curve=linear.Curve(), share=0.5)
    scores = np.full(len(texts), -np.inf)
    np.maximum.at(scores, owner, counts @ (model._table * 2.0 / 127**2) + 0.3)
    np.testing.assert_allclose(model.curve(scores), model.log_odds(texts), rtol=1e-5)


def test_labels_that_are_probabilities_count_as_both_kinds() -> None:
    counts, _ = fit_linear.matrix(Features(buckets=2**12), comments(60)["text"])
    rng = np.random.default_rng(0)
    soft, weight = rng.choice([0, 0.25, 0.5, 1], 60), rng.random(60) + 0.5
    from scipy.sparse import vstack

    weights, bias = fit_linear.fit(counts, soft, weight, 1.0)
    twice = fit_linear.fit(
        vstack([counts, counts], format="csr"),
        np.repeat([1.0, 0.0], 60),
        np.concatenate([weight * soft, weight * (1 - soft)]) + 1e-12,
        1.0,
    )
    np.testing.assert_allclose(counts @ weights + bias, counts @ twice[0] + twice[1], atol=0.05)


def test_calibration_finds_the_curve_that_made_the_labels() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(1, 3, 20_000)
    curve = linear.Curve(-0.5, 1.3, 0.4, 0.8)
    truth = (rng.random(20_000) < linear.sigmoid(curve(scores))).astype(float)
    found = fit_linear.calibrate(scores, truth, np.ones(20_000))
    grid = np.linspace(-6, 8, 50)
    np.testing.assert_allclose(linear.sigmoid(found(grid)), linear.sigmoid(curve(grid)), atol=0.02)
    certain = fit_linear.calibrate(scores, (scores > 1).astype(float), np.ones(20_000))(grid)
    assert np.isfinite(certain).all()
    assert (np.diff(certain) > 0).all()


def test_measures_of_known_cases() -> None:
    truth = np.array([0, 0, 1, 1.0])
    perfect = calibration.measure(Predictions(np.array([0, 0, 1, 1.0]), truth, np.ones(4)))
    assert (perfect["auc"], perfect["average_precision"], perfect["brier"], perfect["calibration_error"]) == (1, 1, 0, 0)
    one_kind = calibration.measure(Predictions(np.array([0.25, 0.75]), np.ones(2), np.ones(2)))
    assert one_kind["auc"] is None
    assert one_kind["brier"] == pytest.approx((0.75**2 + 0.25**2) / 2)
    rng = np.random.default_rng(0)
    p = rng.random(30_000)
    honest = calibration.measure(Predictions(p, (rng.random(30_000) < p).astype(float), np.ones(30_000)))
    assert honest["calibration_error"] < 0.02
    assert honest["auc"] == pytest.approx(5 / 6, abs=4 * honest["auc_stderr"])
    assert (
        calibration.measure(Predictions(p**3, (rng.random(30_000) < p).astype(float), np.ones(30_000)))["calibration_error"]
        > 0.15
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"toxic": None}, r"no column 'toxic'; did you mean 'toxicity'\?"),
        ({"toxic": [True] * 6}, "every label to train on is positive"),
        ({"toxic": ["yes", "no"] * 3}, r"row 1, column 'toxic': expected true or false, 1 or 0, or a probability, found 'yes'"),
        ({"toxic": [0.0, 1.0, 3.0] * 2}, r"row 3, column 'toxic': .* found 3.0"),
        ({"toxic": [0.0, 1.0, float("nan")] * 2}, r"row 3, .* found nan"),
        ({"toxic": [True, False, None] * 2}, r"row 3, column 'toxic': null; 2 rows"),
        ({"text": ["a", None, "c"] * 2}, r"row 2, column 'text': null; 2 rows"),
        ({"text": [1, 2, 3] * 2}, r"row 1, column 'text': expected a text, found 1"),
        ({"split": ["test"] * 6}, r"column 'split': no row says 'train' \(found 'test'\)"),
        ({"text": [], "toxic": pa.array([], pa.bool_()), "toxicity": [], "split": []}, "no rows"),
    ],
)
def test_labels_that_cannot_be_trained_on(tmp_path, change, message) -> None:
    data = {"text": list("abcdef"), "toxic": [True, False] * 3, "toxicity": [0] * 6, "split": ["train"] * 6, **change}
    with pytest.raises(InputError, match=message):
        reward.train(write(tmp_path / "labels.parquet", {k: v for k, v in data.items() if v is not None}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_that_cannot_be_read(tmp_path) -> None:
    def refused(name: str, content: bytes | None, message: str) -> None:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            reward.train(tmp_path / name, tmp_path / "out")

    refused("none.parquet", None, "no such file")
    refused("empty.csv", b"", "empty")
    refused("x.parquet", b"not parquet at all", "not a readable .parquet file")
    refused("x.jsonl", b'{"text": ', "not a readable .jsonl file")
    refused("latin.csv", b"text,toxic\n\xff\xfe,1\nb,0\n", "invalid UTF8")
    broken = pa.array([b"\xff", b"a"]).view(pa.string())
    write(tmp_path / "latin.parquet", {"text": broken, "toxic": [True, False]})
    refused("latin.parquet", None, "column 'text': not UTF-8")
    refused("x.xlsx", b"x", "expected a file that ends in")
    (tmp_path / "folder.csv").mkdir()
    refused("folder.csv", None, "a folder")
    refused("few.csv", b"text,toxic\na,1\nb,0\nc,0\n", "1 different positive texts")
    refused("blank.csv", b"text,toxic\n" + b" ,1\n" * 9 + b"b,0\nc,0\n", "0 different positive texts")
    with pytest.raises(InputError, match="at least 2"):
        reward.train(write(tmp_path / "ok.csv", comments(40)), tmp_path / "out", TrainOptions(folds=1))


def test_columns_are_found_and_can_be_named(tmp_path) -> None:
    rows = {
        "body": ["1", "2", "NA", ""],
        "bad": [0, 1, 1, 0],
        "dataset": list("aabb"),
        "part": ["train", "dev", "train", "train"],
    }
    read = labelled_texts.read(write(tmp_path / "a.csv", rows), "body", "bad", split="part")
    assert read.texts == ["1", "2", "NA", ""]
    assert read.trains.tolist() == [True, False, True, True]
    assert read.sources.tolist() == list("aabb")
    assert labelled_texts.read(tmp_path / "a.csv", "body", "bad", source="").sources is None
    many = {"text": ["x"] * 200, "toxic": [True, False] * 100, "source": [f"http://{number}" for number in range(200)]}
    assert labelled_texts.read(write(tmp_path / "b.parquet", many)).sources is None
    assert len(labelled_texts.read(tmp_path / "b.parquet", source="source").sources) == 200
    with pytest.raises(InputError, match="no column 'sauce'; did you mean 'source'"):
        labelled_texts.read(tmp_path / "b.parquet", source="sauce")
    long = {"text": ["x" * 3_000_000, "y"], "toxic": [True, False]}
    for name in ("c.csv", "c.jsonl"):
        assert [len(text) for text in labelled_texts.read(write(tmp_path / name, long)).texts] == [3_000_000, 1]


def test_a_missing_extra_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtra, match=r"phf\[toxicity\]"):
        reward.train(write(tmp_path / "labels.csv", comments(40)), tmp_path / "out")


def test_texts_without_content_are_measured_but_not_trained_on(tmp_path) -> None:
    data = comments(60)
    data["text"][:4] = ["", " ", "\n", "\t"]
    metrics = reward.train(write(tmp_path / "labels.jsonl", data), tmp_path / "out", TrainOptions(folds=2))
    assert metrics["measured"]["cross-validated"]["all"]["texts"] == data["split"].count("train")
    assert all(np.isfinite(value) for value in metrics["measured"]["cross-validated"]["all"].values())


def test_words_are_counted_in_different_texts() -> None:
    model = linear.Linear(Features(buckets=64), np.zeros(64, np.int8), 1.0, 0.0, linear.Curve(), 0.5)
    listed = linear_model.telling_words(model, ["Fool! naïve " * 30, *(f"don't {number}" for number in range(20)), "once"])
    assert [word for word, _ in listed["positive"]] == ["don't"]
    assert fold("Don't") == b" don't "


@pytest.fixture(params=["roberta", "gpt2"])
def base(request, tmp_path) -> str:
    """A tiny model that has never been trained, with a tokenizer of the words there are; GPT-2's kind has no padding token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast, RobertaConfig, RobertaModel

    words = sorted({word for phrase in NICE + RUDE for word in phrase.split()})
    vocabulary = {word: place for place, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    if request.param == "roberta":
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
        names = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
        numbers = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1, "max_position_embeddings": 34}
        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
        model = RobertaModel(RobertaConfig(vocab_size=len(vocabulary), **sizes, **numbers))
    else:
        names = {"eos_token": "</s>", "unk_token": "<unk>"}
        model = GPT2Model(GPT2Config(vocab_size=len(vocabulary), n_positions=32, n_embd=32, n_layer=1, n_head=2, eos_token_id=2))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(tmp_path / "base")
    model.save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


def test_a_base_is_finetuned_to_a_classifier(tmp_path, base: str) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    columns = comments(noise=0)
    columns["text"][:3] = ["", " ", "fool " * 100]
    data = write(tmp_path / "labels.parquet", columns)
    seen: list[Progress] = []
    options = TrainOptions(base=base, epochs=4, rate=5e-3, batch=16)
    metrics = reward.train(data, tmp_path / "out", options, seen.append)
    assert set(metrics["measured"]) == {"one fold", "held out"}
    assert metrics["measured"]["held out"]["all"]["auc"] > 0.9
    scorer = phf.scorers.load("classifier", model=str(tmp_path / "out"), device="cpu")
    rewards = scorer.score(["you fool shut up", "thank you see the references", ""])
    torch.set_num_threads(threads)
    assert rewards[0] < -0.7 < -0.3 < rewards[1]
    assert np.isnan(rewards[2]) == base_has_no_special_tokens(base)
    assert seen[-1].done == seen[-1].total
    assert seen[-1].unit == "steps"
    assert "loss" in seen[-1].facts


def base_has_no_special_tokens(base: str) -> bool:
    from transformers import AutoTokenizer

    return not AutoTokenizer.from_pretrained(base)("")["input_ids"]


def test_a_base_that_cannot_be_loaded(tmp_path) -> None:
    with pytest.raises(InputError, match=r"base: .* cannot be loaded"):
        reward.train(write(tmp_path / "labels.csv", comments(60)), tmp_path / "out", TrainOptions(base=str(tmp_path / "none")))
    assert not (tmp_path / "out").exists()


def annotated(folder: Path, count: int = 400, scale: float = 1.0, seed: int = 0) -> Path:
    """A corpus scored by a stand-in for a costly judge: the share of rude phrases in a sentence, with noise."""
    rng = np.random.default_rng(seed)
    documents = []
    for number in range(count):
        segments, rewards = [], []
        for _ in range(3):
            rude = rng.random(4) < rng.choice([0.0, 0.5, 1.0])
            segments.append(" ".join(rng.choice(RUDE if bad else NICE) for bad in rude) + f" {number}. ")
            rewards.append(-scale * np.clip(rude.mean() + rng.normal(0, 0.05), 0, 1))
        documents.append(Document(f"d{number}", segments, np.array([*rewards[:2], np.nan], np.float32)))
    write_part(folder / "part-00000.parquet", documents)
    return folder


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_rewards_of_a_costly_scorer_are_learnt_by_a_cheap_one(tmp_path, scale) -> None:
    metrics = reward.train(annotated(tmp_path / "annotated", scale=scale), tmp_path / "out", TrainOptions(folds=3))
    measured = metrics["measured"]
    assert measured["cross-validated"]["all"]["texts"] + measured["held out"]["all"]["texts"] == 800
    for numbers in (measured["cross-validated"]["all"], measured["held out"]["all"]):
        assert numbers["correlation"] > 0.9
        assert numbers["rank_correlation"] > 0.85
        assert numbers["rmse"] < 0.15 * scale
        assert numbers["calibration_error"] < 0.08 * scale
    rude, nice = phf.scorers.load("toxicity", path=str(tmp_path / "out")).score(["shut up you fool", "thank you well done"])
    assert -scale <= rude < -0.7 * scale < -0.3 * scale < nice <= 0
    again = reward.train(tmp_path / "annotated", tmp_path / "out", TrainOptions(folds=3))
    assert again["measured"] == json.loads(json.dumps(measured))
    with pytest.raises(InputError, match='kind was "regression", now "classification"'):
        reward.train(
            tmp_path / "annotated", tmp_path / "out", TrainOptions(folds=3, kind="classification", threshold=-0.5 * scale)
        )


def test_an_annotated_corpus_gives_classes_by_a_threshold(tmp_path) -> None:
    corpus = annotated(tmp_path / "annotated")
    options = TrainOptions(kind="classification", threshold="p50", folds=2)
    metrics = reward.train(corpus, tmp_path / "out", options)
    assert metrics["measured"]["held out"]["all"]["auc"] > 0.9
    assert metrics["measured"]["held out"]["all"]["positive"] == pytest.approx(0.5, abs=0.1)
    with pytest.raises(InputError, match="needs a threshold on its rewards"):
        reward.train(corpus, tmp_path / "none", TrainOptions(kind="classification"))
    with pytest.raises(InputError, match="every reward is on one side of the threshold -3"):
        reward.train(corpus, tmp_path / "none", TrainOptions(kind="classification", threshold=-3))
    with pytest.raises(InputError, match="no annotated corpus, whose rewards a regression needs"):
        reward.train(write(tmp_path / "labels.csv", comments(40)), tmp_path / "none", TrainOptions(kind="regression"))


def pairs(count: int = 400, noise: float = 0.1, seed: int = 0) -> dict[str, list]:
    rng = np.random.default_rng(seed)
    better = [" ".join(rng.choice(NICE, 3)) + f" {number}" for number in range(count)]
    worse = [" ".join(rng.choice(RUDE, 3)) + f" {number}" for number in range(count)]
    flipped = rng.random(count) < noise
    columns = {
        "chosen": [b if flip else a for a, b, flip in zip(better, worse, flipped, strict=True)],
        "rejected": [a if flip else b for a, b, flip in zip(better, worse, flipped, strict=True)],
    }
    return columns | {"split": np.where(rng.random(count) < 0.2, "test", "train").tolist()}


def test_preference_pairs_give_rewards_that_agree_with_them(tmp_path) -> None:
    data = write(tmp_path / "pairs.jsonl", pairs())
    metrics = reward.train(data, tmp_path / "out", TrainOptions(folds=3))
    assert set(metrics["measured"]) == {"cross-validated", "held out"}
    for sources in metrics["measured"].values():
        numbers = sources["all"]
        assert numbers["agreement_low"] < numbers["agreement"] < numbers["agreement_high"]
        assert 0.8 < numbers["agreement"] < 0.97  # flipped choices are not foreseen
        assert numbers["calibration_error"] < 0.15
        assert numbers["log_loss"] < np.log(2)
    rude, nice = phf.scorers.load("toxicity", path=str(tmp_path / "out")).score(["shut up you fool", "thank you well done"])
    assert -1 <= rude < nice <= 0


def test_agreement_of_known_margins() -> None:
    numbers = preferences.agreement(np.array([2.0, 2.0, 2.0, -2.0]))
    assert numbers["agreement"] == 0.75
    sure = 1 / (1 + np.exp(-2))
    assert numbers["log_loss"] == pytest.approx(-(3 * np.log(sure) + np.log(1 - sure)) / 4)
    honest = np.random.default_rng(0).normal(0, 1, 20_000)
    right = np.random.default_rng(1).random(20_000) < 1 / (1 + np.exp(-np.abs(honest)))
    assert preferences.agreement(np.where(right, 1, -1) * np.abs(honest))["calibration_error"] < 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen": [None] * 20}, "column 'chosen': null"),
        ({"rejected": [1] * 20}, "row 1, column 'rejected': expected a text, found 1"),
        ({"split": ["test"] * 20}, "0 pairs to train on"),
    ],
)
def test_pairs_that_cannot_be_trained_on(tmp_path, change, message) -> None:
    columns = {"chosen": ["a"] * 20, "rejected": ["b"] * 20, "split": ["train"] * 20, **change}
    with pytest.raises(InputError, match=message):
        reward.train(write(tmp_path / "pairs.parquet", columns), tmp_path / "out")


@pytest.mark.parametrize("kind", ["regression", "pairs"])
def test_a_base_is_finetuned_to_a_reward_model(tmp_path, base: str, kind: str) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    data = annotated(tmp_path / "annotated", 120) if kind == "regression" else write(tmp_path / "pairs.csv", pairs(200, noise=0))
    options = TrainOptions(base=base, epochs=4, rate=5e-3, batch=16)
    metrics = reward.train(data, tmp_path / "out", options)
    held_out = metrics["measured"]["held out"]["all"]
    assert held_out["correlation" if kind == "regression" else "agreement"] > 0.8
    rude, nice = phf.scorers.load("classifier", model=str(tmp_path / "out"), device="cpu").score(["you fool", "thank you"])
    torch.set_num_threads(threads)
    assert rude < nice
