"""Scorers of the tests, installed as a plugin would be: some behave, some bring down the process they run in."""

import ctypes
import os
import pickle
import signal
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phf.errors import InputError


def install(folder, monkeypatch):
    """Install this module as a distribution with entry points, for this process and for those it starts."""
    from phf import plugins

    info = folder / "toy_scorers-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-scorers\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[phf.scorers]\ntoy = support.toy_components:Toy\ntoy-document = support.toy_components:ToyDocument\n"
        "toy-device = support.toy_components:ToyDevice\ntoy-batch = support.toy_components:ToyBatch\n"
        "[phf.segmenters]\ntoy-lossy = support.toy_components:Lossy\ntoy-logging = support.toy_components:Logging\n"
    )
    monkeypatch.syspath_prepend(folder)
    plugins.available.cache_clear()


@dataclass(frozen=True)
class Toy:
    """-(share of vowels) - offset, in `rest` seconds a character; something terrible at each of a few words."""

    offset: float = 0.0
    rest: float = 0.0
    batch_characters: int = 2_000
    unsure: bool = False  # of a text with a question mark

    def score(self, texts):
        for text in texts:
            suffer(text)
            time.sleep(self.rest * len(text))
            for word, result in WRONG.items():
                if word in text:
                    return result
        unknown = [self.unsure and "?" in text for text in texts]
        return np.where(unknown, np.nan, [reward(text) - self.offset for text in texts]).astype(np.float32)


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


@dataclass(frozen=True)
class Logging:
    """A segmenter of lines that notes how often it is asked about each text.

    Args:
        log: the file that gets a line for each text, its first word.
    """

    log: str

    def segment(self, text):
        with open(self.log, "a") as file:
            file.write(text.split()[0] + "\n")
        return text.splitlines(keepends=True)


WRONG = {"!text": "no numbers", "!count": np.zeros(10_000), "!none": None, "!infinite": [np.inf]}
"""What the toy scorer returns for a text with the word, instead of rewards."""


class Mark:
    """A file is made when this is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


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
    if "!input" in text:
        raise InputError("not this text")
    if "!surrogate" in text:
        raise RuntimeError("half \ud83d a pair")
    if "!ignore" in text:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        time.sleep(1000)
    if "!block" in text:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        time.sleep(1000)
    if "!stop" in text:
        os.kill(os.getpid(), signal.SIGSTOP)
    if "!fork" in text:
        if os.fork() == 0:
            time.sleep(1000)  # holds the connection open after its parent has ended
        os._exit(4)
    if "!pickle" in text:
        message = pickle.dumps(Mark(text.split("!pickle ")[1].split()[0]))
        os.write(int(sys.argv[1]), struct.pack("!i", len(message)) + message)
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
