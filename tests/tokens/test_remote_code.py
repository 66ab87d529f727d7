"""Python that comes with a tokenizer or a model is not run, and nobody is asked, unless the user said so for this one."""

import json
import shutil

import pytest
import transformers

from phf import config, lm
from phf.errors import InputError
from phf.tokenize import tokenize
from phf.tokens import TokenStore, load_tokenizer
from phf.train import train
from support import tiny_corpora as tiny

TOKENIZER = """
from pathlib import Path
from transformers import PreTrainedTokenizerFast

class Own(PreTrainedTokenizerFast):
    pass

Path({mark!r}).touch()
"""
MODEL = """
from pathlib import Path
from transformers import GPT2Config, GPT2LMHeadModel

class OwnConfig(GPT2Config):
    model_type = "own"

class OwnModel(GPT2LMHeadModel):
    config_class = OwnConfig

Path({mark!r}).touch()
"""


@pytest.fixture
def refuses_to_answer(monkeypatch):
    """Fail if anybody is asked anything."""

    def asked(prompt=""):
        raise AssertionError(f"asked: {prompt}")

    monkeypatch.setattr("builtins.input", asked)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny.token_store(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def own(store, tmp_path, monkeypatch, refuses_to_answer):
    """A folder with a tokenizer that has Python of its own, which leaves a mark."""
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "own"
    shutil.copytree(store / "tokenizer", folder)
    (folder / "checksums.json").unlink()
    about = json.loads((folder / "tokenizer_config.json").read_text())
    about |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own_tokenizer.Own"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    (folder / "own_tokenizer.py").write_text(TOKENIZER.format(mark=str(tmp_path / "was-run")))
    return folder


@pytest.fixture
def own_model(own, store, tmp_path):
    """The same folder with a model that has Python of its own."""
    size = TokenStore.open(store).meta["vocab_size"]
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=size, n_positions=64, n_embd=16, n_layer=1, n_head=2))
    model.save_pretrained(own)
    about = json.loads((own / "config.json").read_text())
    about |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own_model.OwnConfig", "AutoModelForCausalLM": "own_model.OwnModel"},
    }
    (own / "config.json").write_text(json.dumps(about))
    (own / "own_model.py").write_text(MODEL.format(mark=str(tmp_path / "was-run")))
    shutil.copy(store / "tokenizer" / "tokenizer_config.json", own)
    return own


def test_a_tokenizers_own_python_is_not_run(own, store, tmp_path):
    with pytest.raises(InputError, match=r"Python of its own.*tokenize\.trust_remote_code"):
        load_tokenizer(own)
    options = config.Tokenize(tokenizer=str(own), held_out=0)
    with pytest.raises(InputError, match=r"Python of its own"):
        tokenize(store.parent / "annotated", tmp_path / "tokens", options)
    assert not (tmp_path / "was-run").exists()


def test_a_recipe_may_trust_one_tokenizer_and_the_store_keeps_no_code(own, store, tmp_path):
    options = config.Tokenize(tokenizer=str(own), trust_remote_code=True, held_out=0)
    tokenize(store.parent / "annotated", tmp_path / "tokens", options)
    assert (tmp_path / "was-run").exists()
    meta = TokenStore.open(tmp_path / "tokens").meta
    assert meta["made_from"]["tokenize"]["trust_remote_code"] is True
    assert not list((tmp_path / "tokens").rglob("*.py"))
    load_tokenizer(tmp_path / "tokens" / "tokenizer")


def test_a_models_own_python_is_not_run(own_model, store, tmp_path):
    with pytest.raises(InputError, match=r"Python of its own.*\?trust_remote_code=true"):
        lm.load(str(own_model))
    options = tiny.train_options(model=f"from:{own_model}")
    with pytest.raises(InputError, match=r"Python of its own.*train\.trust_remote_code"):
        train(store, tmp_path / "run", "run", config.Component(name="mle"), options)
    assert not (tmp_path / "was-run").exists()
    assert not (tmp_path / "run").exists()


def test_a_recipe_may_trust_one_model_which_is_recorded(own_model, store, tmp_path):
    options = tiny.train_options(model=f"from:{own_model}", trust_remote_code=True)
    train(store, tmp_path / "run", "run", config.Component(name="mle"), options)
    assert (tmp_path / "was-run").exists()
    assert config.read_yaml(tmp_path / "run" / "config.yaml")["train"]["trust_remote_code"] is True
    (tmp_path / "was-run").unlink()
    model = lm.load(f"{own_model}?trust_remote_code=true")
    assert len(model.likelihoods(["a text"])) == 1


def test_trust_is_said_as_true_or_false(own_model):
    with pytest.raises(InputError, match="expected true or false"):
        lm.find_checkpoint(f"{own_model}?trust_remote_code=yes")
    assert lm.fingerprint(str(own_model)) == lm.fingerprint(f"{own_model}?trust_remote_code=false")
