"""Tokenizers of many kinds, made on the spot, each with settings that would change texts."""

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = ["the cat sat on the mat. The dog ran! ", "a model reads a text, token for token", "line one\n  line two\n"] * 5


def wrapped(backend, **named):
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", **named)


def byte_level(prefix=False, **named):
    """A byte-level BPE."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<|endoftext|>", *named.values()],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS, trainer)
    return wrapped(backend, **named)


def in_sequence():
    """A byte-level BPE whose prefix space is set inside a sequence, as of DeepSeek or Llama 3."""
    tokenizer = byte_level()
    split = pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=True)])
    tokenizer.backend_tokenizer.pre_tokenizer = split
    return tokenizer


def unigram(scheme="always", like_llama=False):
    """A unigram model with byte fallback, as of SentencePiece; like Llama's, its prefix may come from a normalizer."""
    pieces = [("<unk>", 0.0), ("<|endoftext|>", 0.0), *((f"<0x{byte:02X}>", -20.0) for byte in range(256))]
    pieces += [
        (word, -3.0 - number / 10) for number, word in enumerate(["▁the", "▁", "cat", "▁a", "t", "o", "e", "▁token", "▁▁"])
    ]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    fallback = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if like_llama:
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.decoder = decoders.Sequence([*fallback, decoders.Strip(" ", 1, 0)])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
        backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=scheme)])
    return wrapped(backend)


def with_gaps():
    """A byte-level BPE whose ids from 300 on are 100 higher, and one is above 65,535."""
    import json

    state = json.loads(byte_level().backend_tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    last = max(vocabulary, key=vocabulary.get)
    state["model"]["vocab"] = {token: number + 100 * (number >= 300) for token, number in vocabulary.items()} | {last: 70_000}
    return wrapped(Tokenizer.from_str(json.dumps(state)))


def with_added_tokens():
    """A byte-level BPE with added tokens that occur in texts, and swallow the white space around them."""
    tokenizer = byte_level()
    tokenizer.add_tokens([AddedToken("cat", lstrip=True, rstrip=True), AddedToken("  ", normalized=False)])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|aligned|>"]})
    return tokenizer


def truncating_and_padding():
    """A byte-level BPE whose file says to cut texts to 8 tokens and to pad them to 16."""
    tokenizer = byte_level()
    tokenizer.backend_tokenizer.enable_truncation(8)
    tokenizer.backend_tokenizer.enable_padding(length=16)
    return tokenizer


def word_level():
    """A word-level model, whose unknown words are lost."""
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "<|endoftext|>": 1, "the": 2, "cat": 3}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return wrapped(backend)


def without_bytes():
    """A BPE of the characters of English, without a token for others: they vanish."""
    backend = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<|endoftext|>"], show_progress=False)
    backend.decoder = decoders.Fuse()
    backend.train_from_iterator([*TEXTS, "".join(map(chr, range(32, 127)))], trainer)
    return wrapped(backend)


FAITHFUL = {
    "byte-level": byte_level,
    "byte-level with prefix space": lambda: byte_level(prefix=True),
    "byte-level in a sequence": in_sequence,
    "metaspace always": lambda: unigram("always"),
    "metaspace first": lambda: unigram("first"),
    "metaspace never": lambda: unigram("never"),
    "like Llama": lambda: unigram(like_llama=True),
    "gaps and large ids": with_gaps,
    "added tokens": with_added_tokens,
    "truncation and padding": truncating_and_padding,
}
"""Tokenizers that give every text back once they are made exact."""
