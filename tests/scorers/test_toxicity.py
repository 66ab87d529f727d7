"""The toxicity scorer and the linear model under it."""

import itertools
import math
import pickle
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import phf.scorers
from phf import linear_model as linear
from phf.errors import InputError
from phf.linear_model import Curve, Features, Linear, batches, fold

FEATURES = Features(buckets=4096, shortest=2, longest=4, words=2)
TEXTS = ["You are a fool.", "", "What a lovely day, isn't it?", "a", "naïve café 😀 ﬁne", "x" * 40, "a b  c\n\td", "5% off!!!!!!"]
UNICODE = st.text(st.characters() | st.sampled_from("\0 \n\u2028\ud800\udfff\u0301é😀aab"), max_size=60)


def random_model(features: Features = FEATURES, seed: int = 0) -> Linear:
    weights = np.random.default_rng(seed).standard_t(3, features.buckets)
    return Linear.quantised(features, weights, bias=-0.3, curve=Curve(0.1, 1.5, -0.2, 0.7), share=0.25)


def plain_grams(piece: bytes, features: Features) -> list[tuple[str, int, object]]:
    """What `Features.of` hashes: one n-gram of each length for each byte, one for each word, cut short at the end."""
    squeezed = bytearray()
    for place, byte in enumerate(piece):
        if not (place >= 2 and byte == piece[place - 1] == piece[place - 2]):
            squeezed.append(byte)
    grams: list[tuple[str, int, object]] = []
    for length in range(features.shortest, features.longest + 1):
        grams += [("bytes", length, bytes(squeezed[place : place + length])) for place in range(len(squeezed))]
    words, word = [], b""
    for byte in squeezed:
        if byte >= 128 or chr(byte).isalnum() or chr(byte) == "'":
            word += bytes([byte])
        elif word:
            words.append(word)
            word = b""
    for length in range(1, features.words + 1):
        grams += [("words", length, tuple(words[place : place + length])) for place in range(len(words))]
    return grams


def hashed(pieces: list[bytes], features: Features) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in pieces]
    for buckets, bounds in features.of(pieces):
        for piece, (start, end) in enumerate(itertools.pairwise(bounds)):
            found[piece] += buckets[start:end].tolist()
    return found


@given(st.lists(UNICODE, max_size=8))
def test_hashes_are_those_of_the_plain_n_grams(texts: list[str]) -> None:
    """Equal n-grams share a bucket, in whatever piece they are, and (nearly always) different ones do not."""
    features = Features(buckets=2**31 - 1, shortest=1, longest=8, words=3)
    pieces = [fold(text) for text in texts if text.strip(" \0\n\u2028")]
    pieces = [piece for piece in pieces if len(piece) > 2]
    bucket_of: dict[object, int] = {}
    for piece, buckets in zip(pieces, hashed(pieces, features)):
        grams = plain_grams(piece, features)
        assert len(grams) == len(buckets)
        for gram, bucket in zip(grams, buckets):
            assert bucket_of.setdefault(gram, bucket) == bucket
    assert len(set(bucket_of.values())) >= len(bucket_of) - 1


def plain_log_odds(model: Linear, text: str) -> float:
    """The formula of the module's first page, piece by piece, without numpy's batches."""
    scores = [-np.inf]
    for _, pieces in batches([text]):
        for piece in pieces:
            [buckets] = hashed([piece], model.features)
            steps = model.steps[buckets].astype(int)
            total = float(np.sum(np.sign(steps) * steps.astype(float) ** 2)) * model.largest / 127**2
            scores.append(model.bias + total / np.sqrt(len(buckets)))
    return 0.1 + 1.5 * math.asinh((max(scores) + 0.2) / 0.7)


@settings(deadline=None)
@given(st.lists(UNICODE, max_size=6))
def test_log_odds_are_the_formula_for_any_text(texts: list[str]) -> None:
    model = random_model()
    np.testing.assert_allclose(model.log_odds(texts), [plain_log_odds(model, text) for text in texts], rtol=1e-9)


def test_a_score_does_not_depend_on_the_batch() -> None:
    model, many = random_model(), TEXTS * 400
    together = model.log_odds(many)
    assert together.tobytes() == np.concatenate([model.log_odds([text]) for text in many]).tobytes()
    order = np.random.default_rng(0).permutation(len(many))
    assert model.log_odds([many[place] for place in order]).tobytes() == together[order].tobytes()


def test_a_long_text_counts_as_its_worst_piece() -> None:
    model = random_model()
    sentences = ["The weather is fine today. ", "You fool, you utter fool! "]
    pieces = [sentence * 150 for sentence in sentences]
    assert all(len(piece) < 4096 for piece in pieces)
    long = "".join(piece + " " * (4096 - len(piece)) for piece in pieces)
    np.testing.assert_allclose(model.log_odds([long]), model.log_odds(pieces).max())


def test_a_long_text_is_cut_at_white_space_and_loses_nothing() -> None:
    for text in ["word " * 5000, "x" * 9001, "line\n" * 3000, " " * 10000, "ab " + "y" * 5000]:
        parts = list(linear._cut(text))
        assert "".join(parts) == text
        assert max(map(len, parts)) <= 4096
    assert all(part.endswith(" ") for part in list(linear._cut("word " * 5000))[:-1])


def test_folding() -> None:
    assert fold("  Ａ\tfool\0ﬁsh ") == b" a fool fish "
    assert fold("𝓯𝓸𝓸𝓵") == b" fool "
    assert fold("\ud800") == b" \xed\xa0\x80 "
    assert fold(" \n\0") == b"  "
    model = random_model()
    assert model.log_odds(["FOOOOOL!!!!"]) == model.log_odds(["fool!!"]) == model.log_odds([" fooool!!! "])
    assert unicodedata.is_normalized("NFC", fold("e\u0301").decode())


def test_no_text_at_all() -> None:
    assert random_model().log_odds([]).shape == (0,)
    scorer = phf.scorers.load("toxicity")
    assert scorer.score([]).shape == (0,)
    rewards = scorer.score(["", " \n\t\0 "])
    assert rewards.tolist() == [0, 0]
    assert not np.signbit(rewards).any()


def test_the_shipped_model_tells_insults_from_courtesy() -> None:
    scorer = phf.scorers.load("toxicity")
    rude = scorer.score(["You are a stupid idiot.", "shut up you fucking moron", "Go to hell, you pathetic piece of shit!"])
    kind = scorer.score(
        ["Thank you for your help with the article.", "The function returns a list of integers.", "See you tomorrow"]
    )
    assert rude.dtype == kind.dtype == np.float32
    assert rude.max() < -0.8
    assert kind.min() > -0.35
    assert linear.Linear.load(phf.scorers.toxicity._SHIPPED).steps.nbytes <= 2_000_000


@pytest.mark.parametrize(
    "text", ["\0", "\ud800 fool", "a\0b", "fool " * 400_000, "x" * 1_000_000, "\u0315\u0300" * 20_000, "ﷺ" * 5000, "\U000e0001"]
)
def test_strange_texts_have_a_reward(text: str) -> None:
    [reward] = phf.scorers.load("toxicity").score([text])
    assert -1 <= reward <= 0


def test_a_prior_moves_rewards_but_not_their_order(tmp_path) -> None:
    random_model().save(tmp_path / linear.FILE)
    scorer = phf.scorers.load("toxicity", path=str(tmp_path))
    same = phf.scorers.load("toxicity", path=str(tmp_path), prior=0.25)
    rare = phf.scorers.load("toxicity", path=str(tmp_path), prior=0.01)
    np.testing.assert_allclose(scorer.score(TEXTS), same.score(TEXTS), rtol=1e-6)
    odds = [rewards / (1 + rewards) for rewards in (scorer.score(TEXTS[3:]), rare.score(TEXTS[3:]))]
    np.testing.assert_allclose(odds[1], odds[0] * (0.01 / 0.99) / (0.25 / 0.75), rtol=1e-3)


def test_quantising_keeps_weights_to_a_step(tmp_path) -> None:
    weights = np.random.default_rng(1).standard_t(3, FEATURES.buckets)
    model = Linear.quantised(FEATURES, weights, 0.0, Curve(), 0.5)
    kept = model._table * model.largest / 127**2
    step = np.sqrt(np.abs(weights) / model.largest) / 127 + 1 / 127**2  # half the distance of two squares, and a half more at 0
    assert (np.abs(kept - weights) <= step * model.largest).all()
    empty = Linear.quantised(FEATURES, np.zeros(FEATURES.buckets), 1.0, Curve(), 0.5)
    np.testing.assert_allclose(empty.log_odds(["a"]), [1.0])


def test_a_model_survives_its_file_and_pickling(tmp_path) -> None:
    model = random_model()
    model.save(tmp_path / linear.FILE)
    for path in (tmp_path, tmp_path / linear.FILE):
        assert Linear.load(path).log_odds(TEXTS).tobytes() == model.log_odds(TEXTS).tobytes()
    scorer = phf.scorers.load("toxicity", path=tmp_path)
    assert pickle.loads(pickle.dumps(scorer)).score(TEXTS).tobytes() == scorer.score(TEXTS).tobytes()


def test_what_is_no_model_is_refused(tmp_path) -> None:
    from safetensors.numpy import save_file

    with pytest.raises(InputError, match="phf reward train"):
        phf.scorers.load("toxicity", path=str(tmp_path / "none"))
    (tmp_path / "text").write_text("not a model")
    with pytest.raises(InputError, match="not a safetensors file"):
        phf.scorers.load("toxicity", path=str(tmp_path / "text"))
    save_file({"weights": np.zeros(3)}, tmp_path / "other")
    with pytest.raises(InputError, match="another kind of file"):
        phf.scorers.load("toxicity", path=str(tmp_path / "other"))
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="classifier"):
        phf.scorers.load("toxicity", path=str(tmp_path / "hf"))
    with pytest.raises(InputError, match="prior"):
        phf.scorers.load("toxicity", prior=1.0)
    with pytest.raises(InputError, match="longest"):
        Features(longest=9)
