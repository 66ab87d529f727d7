"""Tokenizers whose ids are looked at before transformers builds them."""

import json

import pytest

from phf import scorers
from phf.auto_tokenizer import load_auto_tokenizer
from phf.errors import InputError
from phf.tokens import load_tokenizer
from support import tokenizers_on_the_spot as made


@pytest.fixture(params=["vocabulary", "added"])
def endless(request, tmp_path):
    """A folder whose tokenizer has an id of four billion."""
    made.byte_level().save_pretrained(tmp_path / "given")
    path = tmp_path / "given" / "tokenizer.json"
    state = json.loads(path.read_text())
    if request.param == "added":
        state["added_tokens"].append(state["added_tokens"][0] | {"id": 4_000_000_000, "content": "x"})
    else:
        state["model"]["vocab"]["Ġx"] = 4_000_000_000
    path.write_text(json.dumps(state))
    return tmp_path / "given"


@pytest.mark.parametrize("load", [load_auto_tokenizer, load_tokenizer])
def test_ids_up_to_four_billion_are_refused_before_the_tokenizer_is_built(endless, monkeypatch, load):
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda *_, **__: pytest.fail("built"))
    with pytest.raises(InputError, match=r"given: ids go up to 4000000000, for only \d+ tokens; number them from 0 on"):
        load(str(endless))


def test_so_are_those_of_a_classifier(endless):
    with pytest.raises(InputError, match=r"given: ids go up to 4000000000"):
        scorers.load("classifier", model=str(endless)).score(["a text"])


def test_large_numbers_that_are_no_ids_change_nothing(tmp_path):
    tokenizer = made.byte_level(extra_token="12345678")
    tokenizer.save_pretrained(tmp_path / "given")
    assert load_auto_tokenizer(str(tmp_path / "given")).get_vocab() == tokenizer.get_vocab()


def test_what_is_not_there_is_said_as_transformers_says_it(tmp_path):
    with pytest.raises((OSError, ValueError)):
        load_auto_tokenizer(str(tmp_path / "missing"))
