"""The classifier scorer against what Detoxify computes, on small random models of the same architectures."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPT2Config,
    GPT2ForSequenceClassification,
)

import phf.scorers
from phf.errors import InputError
from phf.scorers.classifier import Classifier, _batches
from support.classifiers import WORDS, roberta_tokenizer, sentences, write_classifier


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def roberta(tmp_path_factory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("roberta"), "roberta", problem_type="multi_label_classification")


@torch.no_grad()
def detoxify_predict(folder: Path, texts: list[str], label: int = 0, activation: str = "sigmoid") -> np.ndarray:
    """Do what Detoxify.predict does: one padded batch of everything, cut at what the model reads."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder).eval()
    limit = {} if tokenizer.model_max_length < 10**6 else {"max_length": model.config.max_position_embeddings}
    out = model(**tokenizer(texts, return_tensors="pt", truncation=True, padding=True, **limit))[0]
    return getattr(torch, activation)(out, *([-1] if activation == "softmax" else []))[:, label].numpy()


@pytest.mark.parametrize("batch", [8, 100, 4096])
@pytest.mark.parametrize("kind", ["roberta", "bert"])
def test_scores_are_those_of_detoxify(tmp_path, kind: str, batch: int) -> None:
    folder = write_classifier(tmp_path, kind, problem_type="multi_label_classification")
    texts = [*sentences(60, 40), "", " ", "naïve 😀", "tab\tand\nline"]
    rewards = phf.scorers.load("classifier", model=str(folder), batch=batch, device="cpu").score(texts)
    assert rewards.dtype == np.float32
    expected = -detoxify_predict(folder, texts)
    assert np.ptp(expected) > 0.1  # a model that answers the same to everything would prove nothing
    np.testing.assert_allclose(rewards, expected, atol=1e-5)


def test_a_long_text_counts_as_its_worst_part(roberta: Path) -> None:
    scorer = Classifier(model=str(roberta), device="cpu")
    tokenizer = AutoTokenizer.from_pretrained(roberta)
    [long] = [" ".join(sentences(40, 40, seed=3))]
    ids = tokenizer(long, add_special_tokens=False)["input_ids"]
    parts = [ids[start : start + 62] for start in range(0, len(ids), 62)]
    assert len(parts) > 5
    model = AutoModelForSequenceClassification.from_pretrained(roberta).eval()
    with torch.no_grad():
        each = [model(torch.tensor([[0, *part, 2]])).logits.sigmoid()[0, 0].item() for part in parts]
    assert max(each) > each[0] + 0.01  # else the first part, which is all that Detoxify reads, would do
    np.testing.assert_allclose(scorer.score([long]), [-max(each)], atol=1e-5)
    short = Classifier(model=str(roberta), device="cpu", max_length=20).score([long])
    assert short != scorer.score([long])


def test_activation_is_what_the_config_says(tmp_path) -> None:
    texts = sentences(6, 12)

    def check(name: str, expected: str, config: dict[str, object], **fields: object) -> None:
        folder = write_classifier(tmp_path / name, "bert", **config)
        rewards = Classifier(model=str(folder), device="cpu", **fields).score(texts)
        np.testing.assert_allclose(rewards, -detoxify_predict(folder, texts, activation=expected), atol=1e-5)

    check("multi", "sigmoid", {"problem_type": "multi_label_classification"})
    check("single", "softmax", {"problem_type": "single_label_classification"})
    check("silent", "softmax", {})
    check("function", "sigmoid", {"function_to_apply": "sigmoid"})
    check("asked", "sigmoid", {"problem_type": "single_label_classification"}, activation="sigmoid")
    one = {"id2label": {0: "toxicity"}, "label2id": {"toxicity": 0}}
    check("one", "sigmoid", one)
    with pytest.raises(InputError, match="regression"):
        check("regression", "sigmoid", {**one, "problem_type": "regression"})


def test_the_output_of_a_reward_model_is_the_reward(tmp_path) -> None:
    texts = sentences(10, 12)
    folder = write_classifier(
        tmp_path / "reward", "bert", id2label={0: "LABEL_0"}, label2id={"LABEL_0": 0}, problem_type="regression"
    )
    rewards = Classifier(model=str(folder), activation="none", device="cpu").score(texts)
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for text, reward in zip(texts, rewards, strict=True):
        with torch.no_grad():
            expected = model(**tokenizer(text, return_tensors="pt")).logits.item()
        assert reward == pytest.approx(expected, abs=1e-5)
    with pytest.raises(InputError, match="set activation to none"):
        Classifier(model=str(folder), device="cpu").score(texts)


def test_a_reward_model_without_a_padding_token_scores_batches_as_single_texts(tmp_path) -> None:
    """Language models with a head for one output: they take the last token that is no padding."""
    torch.manual_seed(0)
    tokenizer = roberta_tokenizer()
    tokenizer.pad_token = None
    shape = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": len(tokenizer), "num_labels": 1}
    model = GPT2ForSequenceClassification(GPT2Config(**shape, bos_token_id=0, eos_token_id=2))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    scorer = Classifier(model=str(tmp_path), activation="none", device="cpu")
    texts = [text for text in sentences(12, 20) if text]
    np.testing.assert_allclose(scorer.score(texts), [scorer.score([text])[0] for text in texts], atol=1e-5)


def test_the_label_of_a_guard_model_by_name(tmp_path) -> None:
    texts = sentences(8, 12)
    guard = write_classifier(tmp_path / "guard", "bert", id2label={0: "SAFE", 1: "UNSAFE"}, label2id={"SAFE": 0, "UNSAFE": 1})
    rewards = Classifier(model=str(guard), label="unsafe", device="cpu").score(texts)
    np.testing.assert_allclose(rewards, -detoxify_predict(guard, texts, label=1, activation="softmax"), atol=1e-5)


def test_another_label(roberta: Path) -> None:
    texts = sentences(8, 12)
    rewards = Classifier(model=str(roberta), label="threat", device="cpu").score(texts)
    np.testing.assert_allclose(rewards, -detoxify_predict(roberta, texts, label=3), atol=1e-5)
    with pytest.raises(InputError, match="did you mean 'toxicity'"):
        Classifier(model=str(roberta), label="toxic").score(texts)


def test_a_label_not_given(tmp_path) -> None:
    texts = sentences(8, 12)
    alone = write_classifier(tmp_path / "alone", "bert", id2label={0: "spam"}, label2id={"spam": 0})
    np.testing.assert_allclose(
        Classifier(model=str(alone), device="cpu").score(texts), -detoxify_predict(alone, texts), atol=1e-5
    )
    two = write_classifier(tmp_path / "two", "bert", id2label={0: "ham", 1: "spam"}, label2id={"ham": 0, "spam": 1})
    with pytest.raises(InputError, match=r"no label 'toxicity' \(known: ham, spam\)"):
        Classifier(model=str(two), device="cpu").score(texts)


def test_bf16_is_near(roberta: Path) -> None:
    texts = sentences(20, 30)
    exact, near = (
        Classifier(model=str(roberta), device="cpu", precision=precision).score(texts) for precision in ("fp32", "bf16")
    )
    np.testing.assert_allclose(near, exact, atol=0.03)
    assert not np.array_equal(near, exact)


def test_order_repeats_and_pickling_change_nothing(roberta: Path) -> None:
    scorer = pickle.loads(pickle.dumps(Classifier(model=str(roberta), device="cpu", batch=64)))
    texts = sentences(30, 40)
    rewards = scorer.score(texts)
    np.testing.assert_allclose(scorer.score(texts[::-1] + texts), np.concatenate([rewards[::-1], rewards]), atol=1e-6)
    assert scorer.score([]).shape == (0,)


@pytest.mark.parametrize("text", ["\ud83d\ude00 \udc00 fool", "\0", "fool\0", "x" * 100_000, "</s><s>"])
def test_strange_texts_have_a_reward(roberta: Path, text: str) -> None:
    [reward] = Classifier(model=str(roberta), device="cpu").score([text])
    assert -1 <= reward <= 0


def test_no_number_is_nan(tmp_path) -> None:
    folder = write_classifier(tmp_path, "bert", problem_type="multi_label_classification")
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    model.bert.embeddings.word_embeddings.weight.data[4 + WORDS.index("fool")] = torch.nan
    model.save_pretrained(folder)
    rewards = Classifier(model=str(folder), device="cpu").score(["fool", "weather", "you fool"])
    assert np.isnan(rewards).tolist() == [True, False, True]


def test_what_cannot_score_is_refused(roberta: Path, tmp_path) -> None:
    with pytest.raises(InputError, match="cannot be loaded"):
        Classifier(model=str(tmp_path / "none")).score(["a"])
    with pytest.raises(InputError, match="reads at most 64"):
        Classifier(model=str(roberta), max_length=65).score(["a"])
    with pytest.raises(InputError, match="at least 8"):
        Classifier(batch=1)
    base = AutoModelForSequenceClassification.from_pretrained(roberta).roberta
    base.save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(roberta).save_pretrained(tmp_path / "base")
    with pytest.raises(InputError, match="lacks trained weights for classifier"):
        Classifier(model=str(tmp_path / "base"), label="LABEL_0").score(["a"])


def test_batches_hold_every_part_once_within_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(1, 300, 500).tolist()
    groups = list(_batches(lengths, 256))
    assert sorted(part for group in groups for part in group) == list(range(500))
    assert all(len(group) == 1 or len(group) * max(lengths[part] for part in group) <= 256 for group in groups)
    padded = sum(len(group) * max(lengths[part] for part in group) for group in groups)
    assert padded < 1.1 * sum(lengths)
