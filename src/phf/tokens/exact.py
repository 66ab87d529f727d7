"""Tokenizers made exact: what is set in a tokenizer's file must not change the texts that it reads."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from phf.errors import InputError

_CHILDREN = ("normalizers", "pretokenizers", "decoders")
_LARGEST_GAP = 2**20  # ids without a token
_LARGE_NUMBER = re.compile(rb"[0-9]{7}")  # in a file without one, ids leave out less than that


def exact_tokenizer(tokenizer: Any, plain: bool = False) -> Any:
    """Return a tokenizer that reads segments of documents as they are, with the same ids of tokens.

    Nothing is truncated or padded, no blank is put in front of a text or taken from its ends, neither by the encoder nor by the
    decoder, tokens are not dropped at random, and every id up to the highest has a token, so that new tokens come after it. The
    tokenizer itself is returned where it is so already.

    Args:
        tokenizer: a fast one of transformers.
        plain: return one of transformers' own class, without Python that came with the tokenizer.

    Raises:
        InputError: if a million ids and more have no token.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    check_ids(tokenizer.name_or_path, tokenizer.get_vocab().values())
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    exact = state | {
        "truncation": None,
        "padding": None,
        "normalizer": _exact(state.get("normalizer")),
        "pre_tokenizer": _exact(state.get("pre_tokenizer")),
        "decoder": _exact(state.get("decoder")),
        "added_tokens": [token | {"lstrip": False, "rstrip": False} for token in state["added_tokens"]],
        "model": _without_gaps(_without_dropout(state["model"]), state["added_tokens"]),
    }
    if exact == state and not plain:
        return tokenizer
    named = {role: token for role, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer.from_str(json.dumps(exact)),
        **named,
        model_max_length=tokenizer.model_max_length,
        chat_template=getattr(tokenizer, "chat_template", None),
        clean_up_tokenization_spaces=False,
    )


def _exact(step: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a step of normalising, splitting or decoding, or None for one that only adds or strips white space."""
    if step is None or step["type"] in ("Prepend", "Strip"):
        return None
    exact = dict(step)
    if "add_prefix_space" in step and step["type"] != "Metaspace":
        exact["add_prefix_space"] = False
    if step["type"] == "Metaspace":
        exact["prepend_scheme"] = "never"
        if "add_prefix_space" in step:  # as files of old spell it
            exact["add_prefix_space"] = False
    for children in _CHILDREN:
        if children in step:
            exact[children] = [child for child in map(_exact, step[children]) if child is not None]
    return exact


def _without_dropout(model: dict[str, Any]) -> dict[str, Any]:
    return model | {"dropout": None} if model.get("dropout") else model


def check_ids(name: str, ids: Collection[int]) -> None:
    """Refuse token ids that leave out more numbers than a vocabulary could be filled up with.

    Raises:
        InputError: for these, naming the tokenizer.
    """
    if (highest := max(ids, default=0)) - len(ids) > _LARGEST_GAP:
        raise InputError(f"tokenizer {name}: ids go up to {highest}, for only {len(ids)} tokens; number them from 0 on")


def check_ids_of_file(name: str, path: Path) -> None:
    """Refuse the ids of a tokenizer.json before it is loaded: transformers copies a tokenizer, listing every id that is missing.

    What else a damaged file holds is for its reader to say.

    Raises:
        InputError: for ids that `check_ids` refuses.
    """
    text = path.read_bytes()
    if not _LARGE_NUMBER.search(text):
        return
    try:
        state = json.loads(text)
        vocabulary = state["model"]["vocab"]
        ids = [*(vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary)))]
        ids += [token["id"] for token in state.get("added_tokens") or ()]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return
    check_ids(name, {one for one in ids if isinstance(one, int)})


def _without_gaps(model: dict[str, Any], added: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a model whose vocabulary has a token for every id up to the highest."""
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict):  # a list has no gaps
        return model
    tokens = vocabulary | {token["content"]: token["id"] for token in added}
    owners = {number: token for token, number in tokens.items()}
    size = max(owners, default=-1) + 1
    if size == len(owners):
        return model
    return model | {"vocab": {owners.get(number, f"<|unused-{number}|>"): number for number in range(size)}}
