"""Tokenizers made exact: what is set in a tokenizer's file must not change the texts that it reads."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from phf.auto_tokenizer import check_ids

_CHILDREN = ("normalizers", "pretokenizers", "decoders")


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
