"""A linear model over hashed character and word n-grams: features, probabilities and file. Whole batches at once, in numpy alone.

A text is cut at white space into pieces of a few thousand characters. A piece is folded (compatibility forms to plain ones, lower
case, white space to single spaces, runs of a character to two of it) and its n-grams are hashed, each to the bucket of a weight.
A piece ends in bytes of zero, so that every byte starts one n-gram of every length.

    score of a piece    bias + (sum of the weights of its n-grams) / sqrt(number of its n-grams)
    log-odds of a text  shift + scale asinh((the largest score of its pieces - centre) / width)
    P(text)             sigmoid of its log-odds; 0 for a text of nothing but white space

The second line makes probabilities of scores: labels err, so beyond a point a larger score hardly makes a text more certain.

A weight is stored in a signed byte, as the square root of its size in 127 steps, and weights are summed as whole numbers: a
probability does not depend on the batch, its order or the machine.

n bytes in a batch, P pieces, G n-grams of one kind, N texts
"""

import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from phf.errors import InputError

FILE = "linear.safetensors"
_FORMAT = "phf linear 1"

_PIECE = 4096  # characters; the longest comment with a human label is 5000
_BATCH = 1 << 16  # bytes hashed at once: what is computed of them stays in the cache
_GAP = bytes(8)
_WORD = np.array([byte >= 128 or chr(byte).isalnum() or byte == ord("'") for byte in range(256)])
_ODD = np.cumprod(np.full(_PIECE, 0x9E3779B97F4A7C15, np.uint64))  # powers of the golden ratio's 64 bits: random odd numbers


@dataclass(frozen=True)
class Features:
    """Which n-grams are counted.

    Args:
        buckets: how many weights they are hashed to.
        shortest: bytes of the shortest character n-gram; they run across words.
        longest: bytes of the longest, at most 8.
        words: words of the longest word n-gram; 0 for none.
    """

    buckets: int = 2**20
    shortest: int = 3
    longest: int = 5
    words: int = 2

    def __post_init__(self) -> None:
        if not (1 <= self.shortest <= self.longest <= 8 and 0 <= self.words <= 8 and 1 <= self.buckets < 2**31):
            raise InputError(f"{self}: expected 1 <= shortest <= longest <= 8, 0 <= words <= 8 and 1 <= buckets < 2^31")

    def of(self, pieces: Sequence[bytes]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Hash the n-grams of folded pieces (see `fold`), one kind of n-gram at a time.

        Yields:
            (G,) int64, the bucket of each n-gram, piece after piece, and (P + 1,) int64, where each piece begins in it.
        """
        text, windows, bounds = _lay_out(pieces)
        for length in range(self.shortest, self.longest + 1):
            yield self._bucket(windows & np.uint64(256**length - 1), length), bounds
        if self.words:
            words, bounds = _hash_words(text, bounds)
            last = bounds[1:][np.diff(bounds) > 0] - 1
            grams = words
            for length in range(1, self.words + 1):
                yield self._bucket(grams.copy(), 8 + length), bounds
                grams = np.append(grams[1:], np.uint64(0))
                grams[last] = 0
                grams = words + grams * _ODD[0]

    def _bucket(self, grams: np.ndarray, kind: int) -> np.ndarray:
        """Map 64-bit numbers, in place, to buckets: multiply, and scale the upper half of the product."""
        grams *= _ODD[kind]
        grams >>= np.uint64(32)
        grams *= np.uint64(self.buckets)
        grams >>= np.uint64(32)
        return grams.view(np.int64)


@dataclass(frozen=True)
class Curve:
    """From scores to log-odds, always rising; as it stands, from a score to nearly itself."""

    shift: float = 0.0
    scale: float = 1e6
    centre: float = 0.0
    width: float = 1e6

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return the log-odds of scores, of the same shape."""
        log_odds: np.ndarray = self.shift + self.scale * np.arcsinh((scores - self.centre) / self.width)
        return log_odds


@dataclass(frozen=True, eq=False)
class Linear:
    """A trained model.

    Args:
        features: what the weights are of.
        steps: (buckets,) int8, the weights as stored: sign(w) sqrt(|w| / largest) 127.
        largest: size of the largest weight.
        bias: score of a piece whose n-grams say nothing.
        curve: makes log-odds of scores.
        share: the share of positive texts among the labels it was trained on, which is what a probability takes for granted.
        low: the reward of a text that is certainly positive.
        high: the reward of one that is certainly not.
    """

    features: Features
    steps: np.ndarray
    largest: float
    bias: float
    curve: Curve
    share: float
    low: float = -1.0
    high: float = 0.0

    @classmethod
    def quantised(
        cls,
        features: Features,
        weights: np.ndarray,
        bias: float,
        curve: Curve,
        share: float,
        scale: tuple[float, float] | None = None,
    ) -> "Linear":
        """Make a model of (buckets,) weights of any float type, storing each in a byte; `scale` is (low, high)."""
        largest = float(np.abs(weights).max(initial=0)) or 1.0
        steps = np.sign(weights) * np.sqrt(np.abs(weights) / largest) * 127
        return cls(features, np.rint(steps).astype(np.int8), largest, bias, curve, share, *(scale or (-1.0, 0.0)))

    @cached_property
    def _table(self) -> np.ndarray:
        """The weights, (buckets,) int16, in units of largest / 127^2."""
        steps = self.steps.astype(np.int16)
        return steps * np.abs(steps)

    def log_odds(self, texts: Sequence[str]) -> np.ndarray:
        """Return the log-odds that each text is positive: (N,) float64, -inf for a text of nothing but white space."""
        best = np.full(len(texts), -np.inf)
        for rows, pieces in batches(texts):
            np.maximum.at(best, rows, self._scores(pieces))
        return self.curve(best)

    def _scores(self, pieces: Sequence[bytes]) -> np.ndarray:
        total, count = np.zeros(len(pieces), np.int64), np.zeros(len(pieces), np.int64)
        for buckets, bounds in self.features.of(pieces):
            running = np.zeros(len(buckets) + 1, np.int64)
            np.cumsum(self._table.take(buckets), out=running[1:])
            total += np.diff(running[bounds])
            count += np.diff(bounds)
        scores: np.ndarray = self.bias + self.largest / 127**2 * total / np.sqrt(count)
        return scores

    def save(self, path: Path) -> None:
        """Write the model as one safetensors file."""
        settings = {"largest": self.largest, "bias": self.bias, "share": self.share}
        if (self.low, self.high) != (-1.0, 0.0):
            settings |= {"low": self.low, "high": self.high}
        note = {"features": asdict(self.features), "curve": asdict(self.curve), "model": settings}
        path.write_bytes(save({"steps": self.steps}, {_FORMAT: json.dumps(note)}))

    @classmethod
    def load(cls, path: Path) -> "Linear":
        """Read a model from its file, or from the folder it lies in.

        Raises:
            InputError: if there is none, or if it is not one.
        """
        file = path / FILE if path.is_dir() else path
        try:
            with safe_open(file, "numpy") as tensors:
                if _FORMAT not in (tensors.metadata() or {}):
                    raise InputError(f"{file}: another kind of file; expected a linear model of `phf reward train` ({_FORMAT})")
                note = json.loads(tensors.metadata()[_FORMAT])
                features = Features(**note["features"])
                steps = tensors.get_tensor("steps")
                if steps.shape != (features.buckets,) or steps.dtype != np.int8:
                    raise InputError(f"{file}: expected ({features.buckets},) int8 weights, found {steps.shape} {steps.dtype}")
                return cls(features, steps, curve=Curve(**note["curve"]), **note["model"])
        except FileNotFoundError:
            if (path / "config.json").exists():
                raise InputError(f"{path}: a Hugging Face model; use the scorer `classifier` with `model: {path}`") from None
            raise InputError(f"{path}: no {FILE} there; `phf reward train` writes one") from None
        except (SafetensorError, OSError) as error:
            raise InputError(f"{file}: not a safetensors file ({error})") from None


def sigmoid(log_odds: np.ndarray) -> np.ndarray:
    """Return the probabilities of log-odds, float32; -inf is 0."""
    probabilities: np.ndarray = np.exp(-np.logaddexp(0, -log_odds)).astype(np.float32)
    return probabilities


def batches(texts: Iterable[str]) -> Iterator[tuple[list[int], list[bytes]]]:
    """Cut texts into folded pieces and group these into batches to be hashed at once.

    Yields:
        for each piece of a batch the number of its text, and the piece. A text of nothing but white space has none.
    """
    rows: list[int] = []
    pieces: list[bytes] = []
    size = 0
    for row, text in enumerate(texts):
        for part in _cut(text):
            piece = fold(part)
            if len(piece) > 2:
                rows.append(row)
                pieces.append(piece)
                size += len(piece)
            if size >= _BATCH:
                yield rows, pieces
                rows, pieces, size = [], [], 0
    if pieces:
        yield rows, pieces


def fold(text: str) -> bytes:
    """Reduce a text to what its n-grams are taken of, a space at either end; two spaces if there is nothing in it."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    words = text.casefold().replace("\0", " ").split()
    return f" {' '.join(words)} ".encode("utf-8", "surrogatepass") if words else b"  "


def _cut(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _PIECE:
        end = max(text.rfind(" ", start, start + _PIECE), text.rfind("\n", start, start + _PIECE)) + 1
        if end <= start:  # no white space to cut at
            end = start + _PIECE
        yield text[start:end]
        start = end
    yield text[start:]


def _lay_out(pieces: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Put pieces side by side, runs of a byte shortened to two.

    Returns:
        (n,) uint8, their bytes; (n,) uint64, the eight bytes from each on, the first the lowest, zero past the end of its piece;
        and (P + 1,) int64, where each piece begins.
    """
    text = np.frombuffer(_GAP.join([b"", *pieces, b""]), np.uint8)
    keep = np.ones(len(text), bool)
    keep[2:] = (text[2:] != text[1:-1]) | (text[2:] != text[:-2]) | (text[2:] == 0)
    text = text[keep]
    inside = text != 0
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    windows = np.ndarray(len(text) - 7, "<u8", text, strides=(1,))[inside[:-7]].astype(np.uint64, copy=False)
    bounds = np.zeros(len(pieces) + 1, np.int64)
    np.cumsum(edges[1::2] - edges[::2], out=bounds[1:])
    return text[inside], windows, bounds


def _hash_words(text: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hash each word to 64 bits, and say where the words of each piece begin: (words,) uint64, (P + 1,) int64."""
    inside = _WORD[text]
    places = np.flatnonzero(inside)
    if not len(places):
        return np.zeros(0, np.uint64), np.zeros_like(bounds)
    starts = np.flatnonzero(np.diff(places, prepend=-2) > 1)
    lengths = np.diff(starts, append=len(places))
    offsets = np.arange(len(places)) - np.repeat(starts, lengths)
    terms = (text[places].astype(np.uint64) + np.uint64(1)) * _ODD.take(offsets, mode="wrap")
    return np.add.reduceat(terms, starts), np.searchsorted(places[starts], bounds)
