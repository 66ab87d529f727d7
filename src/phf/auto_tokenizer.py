"""Tokenizers of transformers, by folder or by name, built only once their ids have been looked at."""

import contextlib
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from phf.errors import InputError

_LARGEST_GAP = 2**20  # ids without a token
_LARGE_NUMBER = re.compile(rb"[0-9]{7}")  # in a file without one, ids leave out less than that


def load_auto_tokenizer(name: str, trust_remote_code: bool = False) -> Any:
    """Load a tokenizer as transformers' AutoTokenizer does.

    Args:
        name: a folder, or a name on the hub.
        trust_remote_code: run Python that comes with it.

    Raises:
        InputError: for ids that leave out a million numbers. transformers copies a tokenizer as it builds it, and lists every id
            that is missing: four billion of them are sixteen gigabytes.
        OSError, ValueError: if it cannot be loaded, as transformers says it.
    """
    from transformers import AutoTokenizer
    from transformers.utils.hub import cached_file

    with contextlib.suppress(OSError):  # which loading it meets again, and says
        if file := cached_file(name, "tokenizer.json", _raise_exceptions_for_missing_entries=False):
            _check_ids_of_file(name, Path(file))
    return AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)


def check_ids(name: str, ids: Collection[int]) -> None:
    """Refuse token ids that leave out more numbers than a vocabulary could be filled up with.

    Raises:
        InputError: for these, naming the tokenizer.
    """
    if (highest := max(ids, default=0)) - len(ids) > _LARGEST_GAP:
        raise InputError(f"tokenizer {name}: ids go up to {highest}, for only {len(ids)} tokens; number them from 0 on")


def _check_ids_of_file(name: str, path: Path) -> None:
    text = path.read_bytes()
    if not _LARGE_NUMBER.search(text):
        return
    try:
        state = json.loads(text)
        vocabulary = state["model"]["vocab"]
        ids = [*(vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary)))]
        ids += [token["id"] for token in state.get("added_tokens") or ()]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return  # a damaged file, which is for its reader to say
    check_ids(name, {one for one in ids if isinstance(one, int)})
