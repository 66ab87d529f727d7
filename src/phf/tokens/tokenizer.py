"""Tokenizers: loaded from a folder or the hub, or trained on the spot; texts are encoded as plain characters."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from phf import checksums
from phf.auto_tokenizer import load_auto_tokenizer
from phf.errors import InputError, out_of_memory
from phf.hub import needs_trust
from phf.tokens.exact import exact_tokenizer

DOCUMENT_START = "<|endoftext|>"


def load_tokenizer(path: str | Path, trust_remote_code: bool = False) -> Any:
    """Load a fast tokenizer from a folder or the hub.

    Args:
        path: the folder, or the name on the hub.
        trust_remote_code: run Python that comes with it; never asked, always said by the caller.

    Raises:
        InputError: if there is none, it is damaged, it is not a fast one, or it has Python of its own that is not trusted.
    """
    checksums.check_folder(Path(path))
    checksums.verify(Path(path) / "tokenizer.json")
    try:
        tokenizer = load_auto_tokenizer(str(path), trust_remote_code)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        if out_of_memory(error) is not None:
            raise
        if needs_trust(error):
            raise InputError(
                f"tokenizer {path}: comes with Python of its own, which is not run; if you trust who wrote it, set "
                "tokenize.trust_remote_code to true"
            ) from None
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"tokenizer {path}: cannot be loaded ({reason}); expected 'train', a folder or a hub name") from None
    if not tokenizer.is_fast:
        raise InputError(f"tokenizer {path}: is a slow one; expected a tokenizer with a tokenizer.json")
    return tokenizer


def matching_tokenizer(checkpoint: str, tokenizer: Any) -> Any:
    """Return a checkpoint's own tokenizer, which may have control tokens, if it reads texts as the corpus's does.

    Args:
        checkpoint: a folder or hub name; one without a tokenizer is taken to have the corpus's.
        tokenizer: the corpus's.

    Raises:
        InputError: if a token has another id there.
    """
    try:
        own = exact_tokenizer(load_tokenizer(checkpoint))
    except InputError:
        if any(Path(checkpoint).glob("tokenizer*")):  # it has one, which is damaged or not to be trusted
            raise
        return tokenizer
    known = own.get_vocab()
    other = next((token for token, number in tokenizer.get_vocab().items() if known.get(token) != number), None)
    if other is not None:
        raise InputError(
            f"{checkpoint}: its tokenizer is not the one the corpus was tokenised with (the token {other!r} has another id); "
            f"tokenise the corpus with it: tokenize.tokenizer={checkpoint}"
        )
    return own


def encode(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Tokenise texts as plain characters: nothing is added or cut off, and text never becomes a special token.

    Args:
        tokenizer: a fast one of transformers, or one of the library tokenizers.
        texts: any.
    """
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    backend.encode_special_tokens = True
    backend.no_truncation()
    backend.no_padding()
    return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]


def decode(tokenizer: Any, documents: list[list[int]]) -> list[str]:
    """Return the texts of tokens, every token spelled out, with a tokenizer as of `encode`."""
    texts: list[str] = getattr(tokenizer, "backend_tokenizer", tokenizer).decode_batch(documents, skip_special_tokens=False)
    return texts


def vocabulary_size(tokenizer: Any) -> int:
    """Return the highest id + 1, which is more than the number of tokens where ids have gaps."""
    return int(max(tokenizer.get_vocab().values())) + 1


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """Train a byte-level BPE tokenizer whose one special token is `<|endoftext|>`.

    Args:
        texts: what to learn merges from.
        vocab_size: entries, the 256 bytes and the special token counted.

    Raises:
        InputError: if `vocab_size` is too small for the byte alphabet.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocab_size < len(alphabet) + 1:
        raise InputError(
            f"tokenize.vocab_size is {vocab_size}; a byte-level tokenizer needs at least {len(alphabet) + 1} "
            f"entries, {len(alphabet)} bytes and {DOCUMENT_START}"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[DOCUMENT_START], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=DOCUMENT_START,
        eos_token=DOCUMENT_START,
        clean_up_tokenization_spaces=False,
    )


def document_start(tokenizer: Any, token: str | None = None) -> int:
    """Return the id of the token that documents begin with.

    That is the tokenizer's BOS where it has one that differs from its EOS; else `<|endoftext|>`, or the tokenizer's own EOS.

    Args:
        tokenizer: of the model.
        token: instead: "bos", "eos", or a token as it is spelled.

    Raises:
        InputError: if there is no such token.
    """
    bos, eos, vocabulary = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.get_vocab()
    if token is None:
        start = bos if bos is not None and bos != eos else vocabulary.get(DOCUMENT_START, eos)
        if start is None:
            raise InputError(
                f"tokenizer {tokenizer.name_or_path}: has neither a BOS token, nor {DOCUMENT_START}, nor an EOS token; "
                "name the token that documents begin with as tokenize.document_start"
            )
        return int(start)
    start = {"bos": bos, "eos": eos}.get(token, vocabulary.get(token))
    if start is None:
        what = f"has no {token.upper()} token" if token in ("bos", "eos") else f"has no token {token!r}"
        raise InputError(
            f"tokenize.document_start: the tokenizer {tokenizer.name_or_path} {what}; expected bos, eos or one of its tokens"
        )
    return int(start)
