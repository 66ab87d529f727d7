"""How fast this machine does what a recipe asks for: probes of some seconds that read, train, sample and score."""

import functools
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phf import config, corpora, lm
from phf.errors import InputError
from phf.hub import HubModel
from phf.layout import WorkFolder
from phf.pipeline.needs import Need, find_needs
from phf.scorers import ScorerUnusable
from phf.tokens import load_tokenizer, vocabulary_size

log = logging.getLogger("phf")

_ASSUMED_VOCABULARY = 50_257  # GPT-2's, where the tokenizer is not on this machine
_PATIENCE = 5  # probes' worth of time in which a corpus that cannot say its size is read to its end
_TEXTS = 1000  # documents that scoring is timed on, at most
_SAMPLE_TEXT = "A sentence of some ten words that a model may write. "


@dataclass(frozen=True, slots=True)
class ModelSpeed:
    """What a model of a run's shape does on this machine.

    Args:
        parameters: tied ones once; None for a checkpoint that is not on this machine.
        width: of its embeddings.
        trains: tokens a second; NaN if it was not measured.
        samples: tokens a second.
        reason: why it was not measured.
    """

    parameters: int | None = None
    width: int = 0
    trains: float = math.nan
    samples: float = math.nan
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class CorpusSize:
    """How much a corpus holds, extrapolated from its beginning.

    Args:
        documents, characters: of the whole.
        seconds: that cutting and scoring it takes one core; NaN if it was not measured.
        reason: why something is not known.
    """

    documents: float = math.nan
    characters: float = math.nan
    seconds: float = math.nan
    reason: str | None = None


class Prober:
    """Measures each thing once.

    Args:
        recipe: with one run for each seed.
        work: its work folder.
        seconds: that one probe takes, about; 0 to measure nothing.
        threads: of one run.
    """

    def __init__(self, recipe: config.Recipe, work: WorkFolder, seconds: float, threads: int) -> None:
        self.recipe, self.work, self.seconds, self.threads = recipe, work, seconds, threads
        self._models: dict[str, ModelSpeed] = {}
        self._scorers: dict[str, float] = {}
        self.vocabulary, self.vocabulary_is_assumed = self._vocabulary()

    def model(self, run: str) -> ModelSpeed:
        """Return the speed of a run's model."""
        options = self.recipe.train_of(run)
        of_shape = options.model_copy(update={"init": None, "lr": 1.0, "tokens": 1, "seed": 0, "checkpoints": 1})
        key = config.dump(of_shape)
        if key not in self._models:
            self._models[key] = self._measure(options)
        return self._models[key]

    def score_seconds(self, component: config.Component, key: str, characters: int) -> float:
        """Return the seconds of one core that scoring a text of so many characters takes; NaN if it cannot be measured.

        Args:
            component: the scorer.
            key: of the recipe, where it stands.
            characters: of a text.
        """
        name = f"{component.model_dump_json()} {characters}"
        if name not in self._scorers:
            self._scorers[name] = self._score_seconds(component, key, characters)
        return self._scorers[name]

    def corpus(self) -> CorpusSize:
        """Return the size of the corpus, from what can be read and scored of it in some seconds."""
        if any(name.startswith("hf:") or "://" in name for name in self.recipe.corpus.inputs):
            return CorpusSize(reason="how much the corpus holds is known when it is read")
        if not self.recipe.corpus.inputs and self.recipe.corpus.source is None:
            return CorpusSize(reason="the recipe names no corpus")
        counted = [0, 0]  # documents and characters
        texts: list[str] = []
        at_share: list[tuple[float, int, int]] = []  # a share of the corpus, and the documents and characters in it
        begin = time.perf_counter()
        for row in corpora.rows(self.recipe.corpus, lambda share: at_share.append((share, counted[0], counted[1]))):
            if row.text is not None:
                counted[0], counted[1] = counted[0] + 1, counted[1] + len(row.text)
                texts += [row.text] if len(texts) < _TEXTS else []
            taken = time.perf_counter() - begin
            if taken > self.seconds / 2 and at_share and at_share[-1][0] * at_share[-1][1] > 0:
                break
            if taken > _PATIENCE * self.seconds:  # a corpus that does not say how far it has been read
                return CorpusSize(reason=f"the corpus was not read to its end in {taken:.0f} s")
        else:
            at_share.append((1.0, counted[0], counted[1]))
        share, documents, characters = at_share[-1]
        whole = min(1 / share, (self.recipe.corpus.limit or math.inf) / documents) if documents else math.nan
        speed, reason = self._annotates(texts)
        return CorpusSize(documents * whole, characters * whole, characters * whole * speed, reason)

    def _annotates(self, texts: list[str]) -> tuple[float, str | None]:
        """Return the seconds of one core that cutting and scoring a character takes; or why that is not known."""
        scorers = {"annotate.scorer": self.recipe.annotate.scorer}
        scorers |= {f"annotate.also.{name}": also for name, also in self.recipe.annotate.also.items()}
        if reason := self._not_here("annotate."):
            return math.nan, reason
        if self.recipe.annotate.scorer.name == "published" or self.seconds <= 0:
            return 0.0 if self.seconds > 0 else math.nan, None
        try:
            segmenter = config.build("segmenters", self.recipe.annotate.segmenter)
            built = [config.build("scorers", component) for component in scorers.values()]
            begin, characters = time.perf_counter(), 0
            for number, text in enumerate(texts):
                segments = segmenter.segment(text)
                for scorer in built:
                    scorer.score(segments)
                if number == 0 and len(texts) > 1:  # the first loads what it needs
                    begin = time.perf_counter()
                    continue
                characters += len(text)
                if time.perf_counter() - begin > self.seconds:
                    break
            return (time.perf_counter() - begin) / max(characters, 1), None
        except (InputError, ScorerUnusable) as error:
            return math.nan, str(error)

    def _score_seconds(self, component: config.Component, key: str, characters: int) -> float:
        if self.seconds <= 0 or self._not_here(key):
            return math.nan
        text = (_SAMPLE_TEXT * (characters // len(_SAMPLE_TEXT) + 1))[:characters]
        try:
            scorer = config.build("scorers", component)
            scorer.score([text])  # loads what it needs
            begin, count = time.perf_counter(), 0
            while time.perf_counter() - begin < self.seconds / 4:
                scorer.score([f"{count} {text}", f"{text} {count}"])
                count += 2
            return (time.perf_counter() - begin) / count
        except (InputError, ScorerUnusable):
            return math.nan

    @functools.cached_property
    def _needs(self) -> list[Need]:
        return find_needs(self.recipe)

    def _not_here(self, key: str) -> str | None:
        """Return what a key of the recipe needs that is not on this machine; None if it has all."""
        for need in self._needs:
            if need.key.startswith(key) and (need.here is False or need.kind == "server"):
                return f"{need.key} asks a server" if need.kind == "server" else f"{need.name} is not on this machine"
        return None

    def _measure(self, options: config.Train) -> ModelSpeed:
        if isinstance(options.model, str) and options.model.startswith("from:"):
            return ModelSpeed(reason=f"its shape is that of {options.model.removeprefix('from:')}")
        from phf.train import measure_speed

        found = _with_threads(self.threads, lambda: measure_speed(options, self.vocabulary, self.seconds))
        if found.model is None:
            return ModelSpeed(found.parameters, found.width, reason=found.reason)
        tokens = max(1, min(64, options.context - 2))
        rate = _with_threads(self.threads, lambda: lm.sampling_speed(found.model, 64, tokens, self.seconds))
        return ModelSpeed(found.parameters, found.width, found.tokens_per_second, rate)

    def _vocabulary(self) -> tuple[int, bool]:
        """Return the size of the vocabulary, and whether it is an assumption."""
        name = self.recipe.tokenize.tokenizer
        if (self.work.tokens / "tokenizer").exists():
            return vocabulary_size(load_tokenizer(self.work.tokens / "tokenizer")), False
        if name == "train":
            return self.recipe.tokenize.vocab_size, False
        folder = Path(name) if Path(name).exists() else HubModel.parse(name).cached(weights=False)
        return (_ASSUMED_VOCABULARY, True) if folder is None else (vocabulary_size(load_tokenizer(folder)), False)


def _with_threads(threads: int, measure: Any) -> Any:
    """Call a function while PyTorch has so many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return measure()
    finally:
        torch.set_num_threads(before)
