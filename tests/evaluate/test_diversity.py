"""Diversity: Self-BLEU as nltk has it, other statistics as their definitions, on texts short enough to go wrong."""

import math
import random
import time
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phf import plugins
from phf.errors import InputError
from phf.evaluate.diversity import Diversity, distinct, distinct_of_all, entropy, is_loop, self_bleu, self_bleu_without_groups
from phf.evaluate.protocol import EvalContext
from phf.evaluate.scored_samples import SCHEMA

TEXTS = st.lists(st.lists(st.sampled_from("abcd"), max_size=9).map(" ".join), min_size=2, max_size=8)


def by_nltk(texts: list[str], index: int, n: int, cut=str.split) -> float:
    bleu = pytest.importorskip("nltk.translate.bleu_score")
    others = [cut(text) for place, text in enumerate(texts) if place != index]
    return bleu.sentence_bleu(others, cut(texts[index]), (1 / n,) * n, bleu.SmoothingFunction().method1)


def ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    words = text.split()
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.integers(1, 5))
def test_self_bleu_is_nltks_on_any_texts(texts, n):
    expected = [by_nltk(texts, index, n) for index in range(len(texts))]
    np.testing.assert_allclose(self_bleu(texts, n), expected, atol=1e-12, rtol=0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 45), st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 6, 30]), st.integers(1, 5))
def test_self_bleu_without_a_group_is_that_of_the_texts_that_are_left(count, seed, words, n):
    rng = random.Random(seed)
    texts = [" ".join(str(rng.randrange(words)) for _ in range(rng.choice([0, 1, 4, 12]))) for _ in range(count)]
    groups = min(20, count)
    expected = [self_bleu([text for place, text in enumerate(texts) if place % groups != group], n) for group in range(groups)]
    means = [values.mean() if len(values) > 1 else math.nan for values in expected]
    np.testing.assert_allclose(self_bleu_without_groups(texts, n), means, rtol=1e-12)


def make_texts(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    words = [f"w{number}" for number in range(500)]
    weights = [1 / (number + 1) for number in range(500)]
    return [" ".join(rng.choices(words, weights, k=rng.randint(0, 60))) for _ in range(count)]


def test_self_bleu_is_nltks_on_many_texts():
    texts = make_texts(150)
    found = self_bleu(texts)
    for index in range(0, 150, 30):
        assert found[index] == pytest.approx(by_nltk(texts, index, 5), abs=1e-9)
    some = texts[:20]
    assert self_bleu(some, 3, unit="characters")[4] == pytest.approx(by_nltk(some, 4, 3, list), abs=1e-9)


def test_self_bleu_of_equal_texts_is_one_and_of_strangers_zero():
    assert self_bleu(["a b c d e f"] * 3).tolist() == pytest.approx([1, 1, 1])
    assert self_bleu(["a b c", "d e f"]).tolist() == [0, 0]
    assert self_bleu(["", ""]).tolist() == [0, 0]
    assert math.isnan(self_bleu(["alone"])[0])
    assert len(self_bleu([])) == 0


def test_self_bleu_of_4096_samples_takes_seconds():
    rng = random.Random(1)
    words = [f"w{number}" for number in range(3000)]
    weights = [1 / (number + 1) for number in range(3000)]
    texts = [" ".join(rng.choices(words, weights, k=100)) for _ in range(4096)]
    start = time.process_time()
    assert len(self_bleu(texts)) == 4096
    assert time.process_time() - start < 10


@given(TEXTS, st.integers(1, 3))
def test_distinct_and_entropy_are_their_definitions(texts, n):
    for found, text in zip(distinct(texts, n), texts, strict=True):
        own = ngrams(text, n)
        assert math.isnan(found) if not own else found == pytest.approx(len(set(own)) / len(own))
    every = Counter(gram for text in texts for gram in ngrams(text, n))
    total = sum(every.values())
    if total:
        assert distinct_of_all(texts, n).value == pytest.approx(len(every) / total)
        expected = -sum(count / total * math.log(count / total) for count in every.values())
        assert entropy(texts, n).value == pytest.approx(expected, abs=1e-12)
    else:
        assert math.isnan(entropy(texts, n).value)


def test_the_error_of_entropy_is_that_of_repeated_sampling():
    found = [entropy(make_texts(200, seed), 1) for seed in range(60)]
    assert np.std([one.value for one in found]) == pytest.approx(np.mean([one.stderr for one in found]), rel=0.35)


@pytest.mark.parametrize(
    ("text", "whole", "loop"),
    [
        ("it goes on and on and on and on", True, True),
        ("on and on and on and", True, True),
        ("a b a b", True, False),
        ("x a b c a b c a b c", True, True),
        ("x a b c a b c a b c d", True, False),
        ("the the the the the", True, False),
        ("the the the the the the", True, True),
        ("a b c a b c a b c a", True, True),
        ("a b a b a b brok", True, False),
        ("a b a b a b brok", False, True),
        ("", True, False),
    ],
)
def test_a_loop_is_a_phrase_three_times_over_at_the_end(text, whole, loop):
    assert is_loop(text, whole) is loop


@pytest.fixture
def setting(tmp_path) -> EvalContext:
    return EvalContext("run", 7, "diversity", tmp_path, None, None, 0, list)


def keep(setting: EvalContext, texts: list[str], measure: str = "no-prompt") -> None:
    path = setting.samples_of(measure)
    path.parent.mkdir(exist_ok=True)
    rows = [{"text": text, "finished": True} for text in texts]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)


def test_it_measures_the_samples_another_measure_kept(setting):
    texts = make_texts(60)
    keep(setting, texts)
    records = {record.metric: record for record in Diversity(characters=10).measure(None, setting)}
    metrics = {"self_bleu_5", "self_bleu_5_characters", "loop_share"}
    metrics |= {f"{name}_{n}" for n in (1, 2, 3) for name in ("distinct", "entropy")} | {
        f"distinct_{n}_of_all" for n in (1, 2, 3)
    }
    assert set(records) == {metric + end for metric in metrics for end in ("", ".low", ".high")}
    assert records["self_bleu_5.low"].value < records["self_bleu_5"].value < records["self_bleu_5.high"].value
    assert records["self_bleu_5"].value == pytest.approx(self_bleu(texts).mean())
    assert records["self_bleu_5"].n == 60
    assert records["self_bleu_5_characters"].n == 10
    assert all(
        record.stderr > 0 for name, record in records.items() if name.startswith("entropy") and not name.endswith(("w", "h"))
    )


def test_it_reads_the_samples_of_its_own_control_token(tmp_path, setting):
    misaligned = EvalContext("run", 7, "diversity@misaligned", tmp_path, None, None, 0, list)
    keep(setting, ["a b c d e"] * 3)
    keep(misaligned, ["a b c", "d e f"])
    one, other = (
        next(record.value for record in Diversity().measure(None, each) if record.metric == "self_bleu_5")
        for each in (setting, misaligned)
    )
    assert (one, other) == (pytest.approx(1), 0)


def test_without_samples_it_says_which_measure_to_take(setting):
    with pytest.raises(InputError, match=r"diversity.of: 'no-prompt' has no samples"):
        list(Diversity().measure(None, setting))


def test_its_fields_are_checked_as_those_of_any_component():
    made = plugins.build("evaluations", "diversity", {"of": "neutral", "ngrams": [1, 2]})
    assert made.ngrams == [1, 2]
    with pytest.raises(InputError, match="unknown key"):
        plugins.build("evaluations", "diversity", {"off": "neutral"})
