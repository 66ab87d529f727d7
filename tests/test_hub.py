"""The hub out of reach: names fail at once, and what is cached is used."""

import socket
import sys

import pytest
from huggingface_hub import constants

from phf import config, corpora, hub
from phf.errors import InputError


@pytest.fixture
def unreachable(monkeypatch):
    """A hub whose address nothing listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def test_libraries_are_offline_while_the_hub_is_out_of_reach(unreachable):
    with hub.offline_if_unreachable():
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE


def test_a_hub_that_answers_is_asked(monkeypatch, unreachable):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        with hub.offline_if_unreachable():
            assert not constants.HF_HUB_OFFLINE


def test_behind_a_proxy_nobody_decides_for_it(monkeypatch, unreachable):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with hub.offline_if_unreachable():
        assert not constants.HF_HUB_OFFLINE


def test_a_model_that_is_not_here_fails_without_being_asked_for_again(unreachable):
    with pytest.raises(InputError, match="hf:some/model: cannot be downloaded, and is not in this machine's cache"):
        hub.HubModel.parse("some/model").download(weights=True)


def test_a_data_set_fails_without_being_asked_for_again(unreachable, monkeypatch):
    pytest.importorskip("datasets")
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it was asked for again"))
    with pytest.raises(InputError, match="hf:some/data, split 'train': cannot be opened"):
        next(iter(corpora.rows(config.Corpus(inputs=["hf:some/data"]))))
    assert sys.modules["datasets.config"].HF_HUB_OFFLINE is False
