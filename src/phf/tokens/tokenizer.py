"""Tokenizers: loaded from a folder or the hub, or trained on the spot; texts are encoded as plain characters."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from phf.errors import InputError

DOCUMENT_START = "<|endoftext|>"


def load_tokenizer(path: str | Path) -> Any:
    """Load a fast tokenizer from a folder or the hub.

    Raises:
        InputError: if there is none, or it is not a fast one.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"tokenizer {path}: cannot be loaded ({reason}); expected 'train', a folder or a hub name") from None
    if not tokenizer.is_fast:
        raise InputError(f"tokenizer {path}: is a slow one; expected a tokenizer with a tokenizer.json")
    return tokenizer


def matching_tokenizer(checkpoint: str, tokenizer: Any) -> Any:
    """Give a checkpoint's own tokenizer, which may know control tokens, if it reads texts as the corpus's does.

    Args:
        checkpoint: a folder or hub name; one without a tokenizer is taken to have the corpus's.
        tokenizer: the corpus's.

    Raises:
        InputError: if a token has another id there.
    """
    try:
        own = load_tokenizer(checkpoint)
    except InputError:
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
    """Tokenise texts as plain characters: nothing is added, and text that spells a special token does not become one."""
    backend = tokenizer.backend_tokenizer
    backend.encode_special_tokens = True
    return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """Train a byte-level BPE tokenizer whose one special token is `<|endoftext|>`.

    Args:
        texts: what to learn merges from.
        vocab_size: entries, the 256 bytes and the special token counted.

    Raises:
        InputError: if `vocab_size` does not leave room for the byte alphabet.
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


def document_start(tokenizer: Any) -> int:
    """Give the id of the token that starts and ends a document: `<|endoftext|>`, or the tokenizer's own end of text.

    Raises:
        InputError: if it has neither.
    """
    known = tokenizer.get_vocab().get(DOCUMENT_START, tokenizer.eos_token_id)
    if known is None:
        raise InputError(f"tokenizer {tokenizer.name_or_path}: has neither {DOCUMENT_START} nor an end-of-text token")
    return int(known)
