"""Scorers of the tests, installed as a plugin would be: some behave, some bring down the process they run in."""

import ctypes
import os
import time
from dataclasses import dataclass

import numpy as np


def install(folder, monkeypatch):
    """Install this module as a distribution with entry points, for this process and for those it starts."""
    from phf import plugins

    info = folder / "toy_scorers-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-scorers\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[phf.scorers]\ntoy = support.toy_components:Toy\ntoy-document = support.toy_components:ToyDocument\n"
        "toy-device = support.toy_components:ToyDevice\ntoy-batch = support.toy_components:ToyBatch\n"
        "[phf.segmenters]\ntoy-lossy = support.toy_components:Lossy\n"
    )
    monkeypatch.syspath_prepend(folder)
    plugins.available.cache_clear()


@dataclass(frozen=True)
class Toy:
    """-(share of vowels) - offset, in `rest` seconds a character; something terrible at each of a few words."""

    offset: float = 0.0
    rest: float = 0.0
    batch_characters: int = 2_000

    def score(self, texts):
        for text in texts:
            suffer(text)
            time.sleep(self.rest * len(text))
        return np.array([reward(text) - self.offset for text in texts], np.float32)


@dataclass(frozen=True)
class ToyDocument:
    """The place of each segment in its document, negative."""

    def score(self, texts):
        return np.zeros(len(texts), np.float32)

    def score_segments(self, segments):
        return -np.arange(len(segments), dtype=np.float32)


@dataclass(frozen=True)
class ToyDevice:
    """Nothing is wrong, on any device."""

    device: str = "auto"

    def score(self, texts):
        return np.zeros(len(texts), np.float32)


@dataclass(frozen=True)
class ToyBatch:
    """-(characters that it was given at once)."""

    batch_characters: int = 1_000

    def score(self, texts):
        return np.full(len(texts), -sum(map(len, texts)), np.float32)


@dataclass(frozen=True)
class Lossy:
    """A segmenter that loses white space."""

    def segment(self, text):
        return text.split()


def reward(text):
    return -sum(text.count(vowel) for vowel in "aeiou") / max(len(text), 1)


def suffer(text):
    if "!raise" in text:
        raise RuntimeError("no good")
    if "!short" in text:
        raise IndexError
    if "!hang" in text:
        while True:  # holds the interpreter, as a pattern that never ends does
            pass
    if "!sleep" in text:
        time.sleep(1000)
    if "!crash" in text:
        ctypes.string_at(0)
    if "!exit" in text:
        os._exit(3)
    if "!memory" in text:
        hoard = []
        while True:
            hoard.append(np.ones(2_000_000))
            time.sleep(0.002)
