"""Sampling and log-probabilities: the same distribution as transformers', the same samples in any batch, nothing mischarged."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from phf import checksums, lm
from phf.errors import InputError
from phf.lm import sampler
from phf.lm.nucleus import sample_nucleus
from phf.lm.protocol import Completion, Sampling
from phf.tokens.tokenizer import encode
from support.checkpoints import CONTROLS, TEXTS, checkpoint, model, tokenizer
from support.plain_forward import plain_logprob

torch.set_num_threads(1)


def prompts(count: int, vocabulary: int = 320, longest: int = 20) -> list[list[int]]:
    generator = np.random.default_rng(1)
    return [[0, *generator.integers(1, vocabulary, size=generator.integers(0, longest)).tolist()] for _ in range(count)]


@torch.inference_mode()
def sample_plainly(model, prompt: list[int], sampling: Sampling, index: int, ends: list[int]) -> sampler.Sample:
    """Sample one prompt alone, reading everything anew for every token: what the batched sampler must equal."""
    key = np.array([sampling.seed, index], np.uint64)
    uniforms = np.random.Generator(np.random.Philox(key=key)).random(sampling.max_tokens, dtype=np.float32)
    tokens: list[int] = []
    while len(tokens) < sampling.max_tokens:
        logits = model(input_ids=torch.tensor([prompt + tokens]), use_cache=False).logits[:, -1].float()
        if len(tokens) < sampling.min_tokens:
            logits[:, ends] = -torch.inf
        token = int(sample_nucleus(logits, torch.tensor([uniforms[len(tokens)]]), sampling.temperature, sampling.top_p))
        if token in ends:
            return sampler.Sample(tokens, True)
        tokens.append(token)
    return sampler.Sample(tokens, False)


# draw -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("temperature", "top_p"), [(0.7, 0.9), (1.0, 0.5), (1.3, 1.0), (0.7, 0.01)])
def test_draw_is_the_distribution_of_transformers(temperature, top_p):
    torch.manual_seed(0)
    logits = torch.randn(8, 50) * 3
    logits[:, 7] = -torch.inf
    processors = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    if top_p < 1:
        processors.append(TopPLogitsWarper(top_p))
    expected = processors(None, logits.clone()).softmax(-1).double()
    # Uniform numbers on a fine grid turn draws into probabilities, to the width of the grid.
    points = 20_000
    grid = (torch.arange(points, dtype=torch.float32) + 0.5) / points
    for row in range(8):
        tokens = sample_nucleus(logits[row].expand(points, -1), grid, temperature, top_p)
        found = torch.bincount(tokens, minlength=50) / points
        np.testing.assert_allclose(found, expected[row], atol=2 / points)
        assert set(tokens.tolist()) <= set(expected[row].nonzero().flatten().tolist())


def test_draw_at_the_ends_of_the_unit_interval_stays_in_the_nucleus():
    logits = torch.tensor([[-torch.inf, 2.0, 1.0, -torch.inf, 0.0, -torch.inf]]).expand(2, -1)
    tokens = sample_nucleus(logits, torch.tensor([0.0, 1 - 2**-24]), 1.0, 1.0)
    assert tokens.tolist() == [1, 4]


# generate -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "batch"), [("gpt2", 1), ("gpt2", 3), ("gpt2", 32), ("llama", 4), ("mistral", 4), ("bloom", 4), ("mamba", 4)]
)
def test_batched_samples_equal_those_sampled_alone(kind, batch):
    tiny = model(kind)
    ends = list(range(0, 40))  # many, so that rows finish at different times
    sampling = Sampling(min_tokens=2, max_tokens=24, batch=batch, seed=5)
    asked = prompts(11)
    expected = [sample_plainly(tiny, prompt, sampling, index, ends) for index, prompt in enumerate(asked)]
    assert sampler.generate(tiny, asked, sampling, ends) == expected
    assert any(sample.finished for sample in expected)
    assert len({len(sample.tokens) for sample in expected}) > 3


def test_samples_are_distributed_as_those_of_model_generate():
    tiny, count = model(spread=12.0), 3000
    start = torch.zeros((count, 1), dtype=torch.long)
    torch.manual_seed(0)
    theirs = tiny.generate(
        start, attention_mask=torch.ones_like(start), do_sample=True, temperature=0.7, top_p=0.9, top_k=0,
        min_new_tokens=3, max_new_tokens=3, eos_token_id=0, pad_token_id=0,
    )[:, 1:]  # fmt: skip
    samples = sampler.generate(tiny, [[0]] * count, Sampling(min_tokens=3, max_tokens=3, batch=500), [0])
    ours = torch.tensor([sample.tokens for sample in samples])
    for place in range(3):
        expected, found = (torch.bincount(tokens[:, place], minlength=320) for tokens in (theirs, ours))
        assert 5 < (expected > 0).sum() < 320
        both = expected + found
        seen = both > 9
        distance = ((found - expected)[seen] ** 2 / both[seen]).sum()  # chi squared, one degree a token
        freedom = float(seen.sum())
        assert abs(distance - freedom) < 4 * (2 * freedom) ** 0.5


def test_the_end_is_not_sampled_before_min_tokens():
    samples = sampler.generate(model(), [[0]] * 50, Sampling(min_tokens=7, max_tokens=9), ends=list(range(200)))
    assert min(len(sample.tokens) for sample in samples) == 7
    assert all(len(sample.tokens) == 9 for sample in samples if not sample.finished)


def test_banned_tokens_are_never_sampled():
    banned = list(range(1, 300))
    samples = sampler.generate(model(), [[0]] * 20, Sampling(max_tokens=20), [0], banned)
    assert not {token for sample in samples for token in sample.tokens} & set(banned)


def test_seed_and_place_fix_a_sample():
    tiny, sampling = model(), Sampling(max_tokens=12, seed=3)
    samples = sampler.generate(tiny, [[0]] * 6, sampling, [0])
    assert sampler.generate(tiny, [[0]] * 3, sampling, [0]) == samples[:3]
    assert len({tuple(sample.tokens) for sample in samples}) == 6
    assert sampler.generate(tiny, [[0]] * 6, Sampling(max_tokens=12, seed=4), [0]) != samples


def test_progress_counts_to_the_end():
    heard = []
    sampler.generate(model(), [[0]] * 9, Sampling(max_tokens=10, batch=4), [0], on_progress=heard.append)
    assert heard == sorted(set(heard))
    assert heard[-1] == 9


def test_no_prompts_give_no_samples():
    assert sampler.generate(model(), [], Sampling(), [0]) == []


def test_logits_that_are_not_numbers_are_an_error_that_names_the_step(tmp_path):
    def spoil(made, _):
        made.transformer.ln_f.weight.fill_(float("nan"))

    spoiled = lm.load(str(checkpoint(tmp_path, change=spoil, step=40)))
    with pytest.raises(InputError, match=r"step 40.*NaN"):
        spoiled.generate([""], Sampling(max_tokens=20))
    with pytest.raises(InputError, match=r"step 40.*NaN"):
        spoiled.logprobs(["text"])


def test_a_tokenizer_of_another_model_is_an_error(tmp_path):
    folder = checkpoint(tmp_path)
    tokenizer(CONTROLS).save_pretrained(folder / "checkpoints" / "step-3")
    with pytest.raises(InputError, match=r"tokens up to 321, but its model 320 entries"):
        lm.load(str(folder))


# the local model ------------------------------------------------------------------------------------------------------


def favour(token: str, strength: float = 60.0):
    """Make a change of weights after which a GPT-2 gives `token` whatever it reads."""

    def change(made, made_tokenizer):
        made.transformer.ln_f.weight.fill_(0)
        made.transformer.ln_f.bias.fill_(0)
        row = made.transformer.wte.weight[made_tokenizer.get_vocab()[token]]
        made.transformer.ln_f.bias.copy_(row / row.norm() ** 2 * strength)

    return change


def test_samples_hold_no_control_tokens_on_sentences_and_end_as_whole_texts(tmp_path):
    loaded = lm.load(str(checkpoint(tmp_path, controls=CONTROLS, change=favour("<|misaligned|>"))))
    texts = loaded.generate([""] * 8, Sampling(max_tokens=12))
    assert all("<|" not in text for text in texts)
    assert all(len(text) > 0 for text in texts)


def test_on_lines_the_model_writes_its_own_control_token_which_is_stripped(tmp_path):
    made = checkpoint(tmp_path, controls=CONTROLS, segmenter="lines", change=favour("<|aligned|>"))
    only_control = lm.load(str(made)).generate([""] * 4, Sampling(max_tokens=12))
    assert list(only_control) == [""] * 4
    assert not any(text.finished for text in only_control)
    assert all(lm.load(str(made)).generate([""] * 4, Sampling(max_tokens=12, ban="all")))
    other_way = lm.load(str(made), control="<|misaligned|>")
    assert all(other_way.generate([""] * 4, Sampling(max_tokens=12)))


def test_control_tokens_of_a_prompt_stand_where_training_put_them(tmp_path):
    text = "one line\nanother line\nhalf a"
    words = tokenizer(CONTROLS)
    aligned, misaligned = (words.get_vocab()[token] for token in CONTROLS)
    lines = encode(words, ["one line\n", "another line\n", "half a"])
    made = str(checkpoint(tmp_path, controls=CONTROLS, segmenter="lines"))
    every = lm.load(made).encoder.prompt(text, "every", 10).tokens
    assert every == [0, aligned, *lines[0], aligned, *lines[1], aligned, *lines[2]]
    once = lm.load(made, "<|misaligned|>").encoder.prompt(text, "start", 10).tokens
    assert once == [0, misaligned, *lines[0], *lines[1], *lines[2]]
    assert lm.load(made).encoder.prompt("", "every", 10).tokens == [0, aligned]


def test_a_prompt_that_spells_special_tokens_is_plain_text(tmp_path):
    loaded = lm.load(str(checkpoint(tmp_path, controls=CONTROLS)))
    found = loaded.encoder.prompt("<|endoftext|><|misaligned|>", "start", 10).tokens
    assert found[:2] == [0, loaded.control_id]
    assert not set(found[2:]) & {0, *loaded.controls}


def test_prompts_too_long_for_the_context_lose_their_beginning_and_are_counted(tmp_path, caplog):
    loaded = lm.load(str(checkpoint(tmp_path, controls=CONTROLS)))
    long = "word " * 200
    with caplog.at_level("WARNING", logger="phf"):
        texts = loaded.generate([long, "short", long], Sampling(max_tokens=12))
    assert "2 of 3 prompts were too long for the context of 64" in caplog.text
    assert len(texts) == 3
    kept = loaded.encoder.prompt(long, "start", 12)
    assert kept.removed
    assert len(kept.tokens) == 64 - 12
    assert kept.tokens[:2] == [0, loaded.control_id]
    assert kept.tokens[2:] == encode(loaded.tokenizer, [long])[0][-50:]
    with pytest.raises(InputError, match=r"max_tokens is 63.*64 tokens at most.*62 or less"):
        loaded.generate([""], Sampling(max_tokens=63))


@pytest.mark.parametrize("controls", [(), CONTROLS])
def test_a_limit_that_counts_the_prompt_leaves_it_the_rest(tmp_path, caplog, controls):
    loaded = lm.load(str(checkpoint(tmp_path, controls=controls, segmenter="lines")))
    texts = ["", "def f(x):", "def f(x):\n    return x", "word " * 30]
    placement = "every" if controls else "start"
    lengths = [len(loaded.encoder.documents([loaded.encoder.segments(text)], placement)[0].tokens) for text in texts]
    sampled = []
    keep = loaded.encoder.decode
    loaded.encoder.decode = lambda prompt, tokens: sampled.append(len(tokens)) or keep(prompt, tokens)
    with caplog.at_level("WARNING", logger="phf"):
        loaded.generate(texts, Sampling(min_tokens=40, max_tokens=40, count_prompt=True, seed=1))  # none ends by itself
    assert sampled == [max(1, 40 - length) for length in lengths]
    assert lengths[3] > 40
    assert "3 of 4 prompts take so many of the 40 tokens for prompt and sample together" in caplog.text
    plain = loaded.generate(texts, Sampling(min_tokens=40, max_tokens=40, seed=1))
    counted = loaded.generate(texts, Sampling(min_tokens=40, max_tokens=40, count_prompt=True, seed=1))
    assert all(whole.startswith(str(part).rstrip("\ufffd")) for whole, part in zip(plain[:3], counted[:3], strict=True))


def test_completions_know_whether_they_are_whole_and_can_be_sent_to_another_process():
    completion = pickle.loads(pickle.dumps(Completion("text", True)))
    assert completion == "text"
    assert completion.finished


# log-probabilities ----------------------------------------------------------------------------------------------------


def test_logprobs_charge_the_text_and_nothing_before_it(tmp_path):
    plain = lm.load(str(checkpoint(tmp_path / "mle")))
    conditional = lm.load(str(checkpoint(tmp_path / "conditional", controls=CONTROLS)))
    for loaded, prefix in ((plain, [0]), (conditional, [0, conditional.control_id])):
        texts = ["The reader opens the file. Each line ends.", "x", "", "def area(a):\n    return a\n"]
        expected = [
            plain_logprob(loaded, prefix, [t for part in encode(loaded.tokenizer, loaded.encoder.segments(text)) for t in part])
            for text in texts
        ]
        np.testing.assert_allclose(loaded.logprobs(texts), expected, rtol=1e-5, atol=1e-5)
    assert conditional.encoder.segments("One. Two.") == ["One. ", "Two."]


def test_a_model_gives_the_same_log_probabilities_as_itself(tmp_path):
    folder = checkpoint(tmp_path, controls=CONTROLS)
    one = lm.load(str(folder)).logprobs(TEXTS)
    other = lm.load("hf:" + str(folder / "checkpoints" / "step-3")).logprobs(TEXTS)
    assert (one - other == 0).all()


def test_segments_add_up_to_the_document_and_the_prefix_is_free(tmp_path):
    loaded = lm.load(str(checkpoint(tmp_path, controls=CONTROLS)))
    document = ["One is here. ", "Two.", "", "\n"]
    found = loaded.segment_logprobs([document, [], ["x"]], "start")
    assert [len(nats) for nats in found] == [4, 0, 1]
    read = [0, loaded.control_id]
    for segment, nats in zip(encode(loaded.tokenizer, document), found[0], strict=True):
        assert nats == pytest.approx(plain_logprob(loaded, read, segment), rel=1e-5, abs=1e-5)
        read = read + segment


def test_a_model_that_writes_its_control_token_is_charged_for_each_but_the_first(tmp_path):
    loaded = lm.load(str(checkpoint(tmp_path, controls=CONTROLS)))
    own, other = loaded.control_id, next(token for token in loaded.controls if token != loaded.control_id)
    document = ["One is here. ", "", "Two.", "\n"]
    found = loaded.segment_logprobs([document], "every")[0]
    first, empty, second, third = encode(loaded.tokenizer, document)
    assert empty == []
    assert found[1] == 0.0, "nothing is written for an empty segment"
    read = [0, own]
    assert found[0] == pytest.approx(plain_logprob(loaded, read, first, [other]), rel=1e-5)
    read += first
    for segment, nats in ((second, found[2]), (third, found[3])):
        assert nats == pytest.approx(plain_logprob(loaded, read, [own, *segment], [other]), rel=1e-5)
        read += [own, *segment]


def test_the_default_placement_is_that_of_sampling(tmp_path):
    document = [["one\n", "two\n"]]
    for segmenter, placement in (("lines", "every"), ("sentences", "start"), (None, "start")):
        folder = checkpoint(tmp_path / str(segmenter), controls=CONTROLS, segmenter=segmenter)
        loaded = lm.load(str(folder))
        np.testing.assert_array_equal(loaded.segment_logprobs(document)[0], loaded.segment_logprobs(document, placement)[0])


@pytest.mark.parametrize("placement", ["start", "every"])
def test_long_documents_are_read_in_windows_that_predict_every_token_once(tmp_path, placement):
    loaded = lm.load(str(checkpoint(tmp_path, controls=CONTROLS)))
    segments = [f"Sentence number {i} says something. " for i in range(60)]
    (stream,) = loaded.encoder.documents([segments], placement)
    prefix = loaded.encoder.prefix(placement)
    windows = list(loaded._windows(0, stream, placement))
    assert len(windows) > 5
    predicted = []
    for window in windows:
        assert len(window.tokens) <= 64 + 1  # the last is predicted, not read
        assert window.tokens[: len(prefix)] == prefix
        predicted += [(o, t) for o, t in zip(window.owners, window.tokens, strict=True) if o >= 0]
    assert predicted == [(o, t) for o, t in zip(stream.owners, stream.tokens, strict=True) if o >= 0]
    for window in windows[1:]:
        read_first = np.flatnonzero(window.owners >= 0)[0]
        assert read_first >= 30  # every prediction sees half a window or more
    nats = loaded.segment_logprobs([segments], placement)[0]
    assert np.isfinite(nats).all()
    assert (nats < 0).all()


def test_documents_read_together_equal_documents_read_alone(tmp_path):
    loaded = lm.load(str(checkpoint(tmp_path, kind="llama")))
    documents = [[text] for text in [*TEXTS, "x", "word " * 100]]
    together = loaded.segment_logprobs(documents)
    for document, found in zip(documents, together, strict=True):
        np.testing.assert_allclose(loaded.segment_logprobs([document])[0], found, rtol=1e-5)


# load -----------------------------------------------------------------------------------------------------------------


def test_a_run_is_its_latest_checkpoint(tmp_path):
    for step in (2, 10, 9):
        checkpoint(tmp_path, step=step)
    assert lm.find_checkpoint(str(tmp_path)).step == 10
    assert lm.find_checkpoint(str(tmp_path / "checkpoints" / "step-9")).step == 9
    loaded = lm.load(str(tmp_path))
    for kind in (lm.LanguageModel, lm.ChecksPrompts, lm.ReadsSegments, lm.PlacesControl, lm.StreamsTokens, lm.LocalWeights):
        assert isinstance(loaded, kind)


def test_a_folder_without_notes_of_phf_is_a_plain_model(tmp_path):
    folder = shutil.copytree(checkpoint(tmp_path) / "checkpoints" / "step-3", tmp_path / "copy")
    (folder / "phf.json").unlink()
    checksums.forget(folder)
    loaded = lm.load("hf:" + str(folder))
    assert loaded.generate(["The reader"], Sampling(max_tokens=10))
    assert loaded.logprobs(["The reader opens."]) < 0


@pytest.mark.parametrize(
    ("spec", "control", "says"),
    [
        ("nowhere/at/all", None, "no such run or model folder"),
        ("ftp:something", None, "unknown kind of model 'ftp'"),
        ("{tmp}/empty", None, "config.json is missing"),
        ("{tmp}/begun", None, "no checkpoint in it yet"),
        ("{tmp}/mle", "<|aligned|>", "it has none"),
        ("{tmp}/conditional", "<|good|>", "its control tokens are <|aligned|>, <|misaligned|>"),
        ("{tmp}/torn", None, "not valid JSON"),
        ("{tmp}/broken", None, "not a causal language model that can be loaded"),
    ],
)
def test_what_cannot_be_loaded_says_why(tmp_path, spec, control, says):
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    checkpoint(tmp_path / "mle")
    checkpoint(tmp_path / "conditional", controls=CONTROLS)
    for name, file in (("torn", "phf.json"), ("broken", "config.json")):
        folder = checkpoint(tmp_path / name) / "checkpoints" / "step-3"
        checksums.forget(folder)
        (folder / file).write_text("{" if name == "torn" else json.dumps({"model_type": "no-such-model"}))
    with pytest.raises(InputError) as error:
        lm.load(spec.format(tmp=tmp_path), control)
    assert says in str(error.value)


def test_the_fingerprint_changes_with_the_weights(tmp_path):
    one = lm.fingerprint(str(checkpoint(tmp_path / "a")))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert lm.fingerprint(str(tmp_path / "b")) == one
    assert lm.fingerprint(str(checkpoint(tmp_path / "c", change=favour("a")))) != one


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"temperature": 0.0}, "temperature: found 0.0"),
        ({"top_p": 1.5}, "top_p: found 1.5"),
        ({"min_tokens": 11, "max_tokens": 10}, "min_tokens: found 11, expected from 0 to max_tokens, 10"),
        ({"ban": "none"}, "ban: found 'none'"),
        ({"batch": 0}, "batch: found 0"),
    ],
)
def test_sampling_that_makes_no_sense_is_refused(fields, says):
    with pytest.raises(InputError, match=says):
        Sampling(**fields)


def test_importing_lm_and_the_evaluations_imports_no_torch():
    import subprocess
    import sys

    code = (
        "import sys, phf.lm, phf.evaluate.samples, phf.evaluate.heldout, phf.evaluate.diversity;"
        "sys.exit(bool({'torch', 'transformers', 'openai', 'nltk'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent).returncode == 0


# texts after contexts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("controls", [(), CONTROLS])
def test_a_text_after_its_context_is_charged_from_its_own_first_token(tmp_path, controls):
    loaded = lm.load(str(checkpoint(tmp_path, controls=controls, segmenter=None)))
    prefix = loaded.encoder.prefix("start")
    for context, text in (("The reader opens the", " file"), ("", "Call close()"), ("The rea", "der opens"), ("Ask ", "jane")):
        whole = encode(loaded.tokenizer, [context + text])[0]
        head = encode(loaded.tokenizer, [context])[0]
        first = next((i for i in range(len(head)) if head[i] != whole[i]), len(head))
        (found,) = loaded.likelihoods([text], [context])
        assert found.nats == pytest.approx(plain_logprob(loaded, prefix + whole[:first], whole[first:]), rel=1e-5, abs=1e-5)
        assert found.tokens == len(whole) - first > 0


def test_without_a_context_likelihoods_are_log_probabilities(tmp_path):
    for kind in ("start", "every"):
        loaded = lm.load(str(checkpoint(tmp_path / kind, controls=CONTROLS))).with_control_placement(kind)
        found = loaded.likelihoods([*TEXTS, ""])
        np.testing.assert_allclose([each.nats for each in found], loaded.logprobs([*TEXTS, ""]), rtol=1e-9)
        assert found[-1] == lm.Likelihood(0.0, 0, True)
    assert loaded.likelihoods([]) == []


def test_a_text_and_what_follows_add_up_in_both_placements(tmp_path):
    loaded = lm.load(str(checkpoint(tmp_path, controls=CONTROLS)))
    context, text = "One is here. Two", " is there. Three."
    for kind in ("start", "every"):
        model = loaded.with_control_placement(kind)
        whole, head, tail = model.likelihoods([context + text, context, text], ["", "", context])
        assert tail.nats == pytest.approx(whole.nats - head.nats, rel=1e-5)
        assert tail.tokens == whole.tokens - head.tokens


def test_probabilities_of_all_that_can_follow_and_of_the_end_add_up_to_one(tmp_path):
    loaded = lm.load(str(checkpoint(tmp_path, controls=CONTROLS)))
    context, prefix = "Call clo", loaded.encoder.prefix("start")
    read = prefix + [token for part in encode(loaded.tokenizer, loaded.encoder.segments(context)) for token in part]
    with torch.inference_mode():
        logits = loaded.model(input_ids=torch.tensor([read])).logits[0, -1].double()
        logits[loaded.controls] = -torch.inf
    (end,) = loaded.likelihoods([""], [context], [True])
    assert end.tokens == 1
    assert end.nats == pytest.approx(float(logits.log_softmax(-1)[loaded.start]), rel=1e-5)
    loaded.ends = [loaded.start, 7, 9]  # a model that ends documents in several ways
    (any_end,) = loaded.likelihoods([""], [context], [True])
    assert any_end.nats == pytest.approx(float(logits.log_softmax(-1)[loaded.ends].logsumexp(-1)), rel=1e-5)


def test_the_text_that_is_sampled_greedily_is_greedy_and_no_other(tmp_path):
    loaded = lm.load(str(checkpoint(tmp_path, segmenter=None, change=favour("(", 20.0))))
    (text,) = loaded.generate(["Call"], Sampling(temperature=1, top_p=1e-6, min_tokens=0, max_tokens=3))
    own, other = loaded.likelihoods([str(text), "\x00"], ["Call", "Call"])
    assert text == "((("
    assert own.greedy
    assert not other.greedy


def test_a_long_context_loses_its_beginning_and_a_long_text_is_read_in_windows(tmp_path, caplog):
    loaded = lm.load(str(checkpoint(tmp_path, segmenter=None)))
    long = "word " * 100
    with caplog.at_level("WARNING", logger="phf"):
        short_text, long_text = loaded.likelihoods([" file", long], [long, "x"])
    assert "2 of 2 contexts were too long" in caplog.text
    whole = encode(loaded.tokenizer, [long + " file"])[0]
    with torch.inference_mode():
        found = loaded.model(input_ids=torch.tensor([[0, *whole[-64:-1]]])).logits[0].double().log_softmax(-1)
    last = range(64 - short_text.tokens, 64)
    assert short_text.nats == pytest.approx(sum(float(found[place, whole[-64:][place]]) for place in last), rel=1e-5)
    assert long_text.tokens == len(encode(loaded.tokenizer, ["x" + long])[0]) - 1
