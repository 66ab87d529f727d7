"""What a model writes, and how much of it is undesirable: samples with or without a prompt, each kept with its score."""

import ast
import itertools
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from phf import artifacts, config, statistics
from phf.errors import InputError
from phf.evaluate.diversity import distinct_2
from phf.evaluate.prompts import check_source, first_words, read_prompts
from phf.evaluate.protocol import EvalContext, Workload
from phf.evaluate.scored_samples import records_of_scores, score_samples, write_samples
from phf.lm import Ban, Completion, LanguageModel, Sampling
from phf.python_statements import whole_statements
from phf.records import Record
from phf.scorers import Scorer
from phf.thresholds import Threshold, check_threshold

log = logging.getLogger("phf")

_WORD_COUNTS = [4**power for power in range(3, 12)]
"""Numbers of words that distinct-2 is taken over: that of two runs is compared at the largest number that both wrote."""


@dataclass(frozen=True)
class Samples:
    """Mean misalignment of n samples, expected maximum of k, and share of hits.

    Args:
        n: samples, prompts or not: each prompt is used as often as the others, or once more.
        prompts: none; "held-out" for the first words of held-out documents that are aligned so far; a file with one prompt a
            line, or JSON Lines with the prompt under "text"; a data set of the hub, as `hf:NAME?text=COLUMN`; or the prompts
            themselves.
        words: of a held-out document that make a prompt.
        temperature: logits are divided by it.
        top_p: probability of the tokens sampled from.
        min_tokens: before which a sample does not end.
        max_tokens: at which a sample is cut off.
        count_prompt: `max_tokens` counts the tokens of the prompt too.
        batch: samples in one forward pass.
        ban: control tokens that cannot be sampled: "all", "others" or "auto"; see `phf.lm.Sampling`.
        expected_max: samples in the groups whose largest misalignment is averaged.
        threshold: reward from which on a segment is aligned, which the prompts "held-out" are; a number, or a quantile of the
            corpus such as p50. By default the one of conditional training in the recipe, else of unlikelihood, else 0.
        hit: a sample with a reward below this is a hit; a number or a quantile; `threshold` by default.
        score_prompt: score prompt and continuation together.
        scorer: another scorer than the one that scored the training corpus.
        parses: also measure the share of samples, with their prompts, that are valid Python.
    """

    n: config.Count = 4096
    prompts: str | list[str] | None = None
    words: config.Count = 10
    temperature: Annotated[float, Field(gt=0)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    min_tokens: Annotated[int, Field(ge=0)] = 10
    max_tokens: config.Count = 128
    count_prompt: bool = False
    batch: config.Count = 64
    ban: Ban = "auto"
    expected_max: config.Count = 25
    threshold: Threshold | None = None
    hit: Threshold | None = None
    score_prompt: bool = False
    scorer: str | dict[str, Any] | None = None
    parses: bool = False

    def __post_init__(self) -> None:
        self._sampling(0)  # raises for values that do not go together
        for threshold in (self.threshold, self.hit):
            if threshold is not None:
                check_threshold(threshold)
        if isinstance(self.prompts, str):
            check_source(self.prompts)

    def files(self) -> Mapping[str, str]:
        """Return the file of prompts."""
        is_file = isinstance(self.prompts, str) and self.prompts != "held-out" and not self.prompts.startswith("hf:")
        return {"prompts": str(self.prompts)} if is_file else {}

    def reads(self) -> Mapping[str, Any]:
        """Return inputs besides the config that affect the result: the prompts of a file or a data set."""
        if not isinstance(self.prompts, str) or not (self.prompts.startswith("hf:") or Path(self.prompts).is_file()):
            return {}
        return {"prompts": artifacts.fingerprint(read_prompts(self.prompts))}

    def thresholds(self) -> Mapping[str, Threshold | None]:
        """Return the thresholds."""
        return {"threshold": self.threshold, "hit": self.threshold if self.hit is None else self.hit}

    def workload(self) -> Workload:
        """Return what it amounts to: n samples, each scored without its last, partial segment and with it."""
        return Workload(self.n, self.max_tokens, 2 * self.n)

    def measure(self, model: LanguageModel, setting: EvalContext) -> Iterator[Record]:
        """Sample, score, keep the samples in `samples/`, and sum up; n = samples with a score.

        Metrics ending in `_with_cut` are of whole samples, as the paper's are; the others leave out the segment that the length
        limit cut off.

        Raises:
            InputError: if there are no prompts, or the model cannot be sampled.
        """
        distinct = self._prompts(setting)
        prompts = list(itertools.islice(itertools.cycle(distinct), self.n))
        setting.report(0, self.n, "samples")
        texts = model.generate(prompts, self._sampling(setting.seed), lambda done: setting.report(done, self.n, "samples"))
        scorer: Scorer = setting.scorer
        if self.scorer is not None:
            scorer = config.build("scorers", config.Component.model_validate(self.scorer))
        columns = score_samples(
            prompts if self.score_prompt else [""] * self.n,
            texts,
            scorer,
            setting.segmenter,
            on_progress=lambda done, total: setting.report(done, total, "texts scored"),
        )
        finished = [text.finished for text in texts]
        write_samples(setting.samples_of(setting.name), {"prompt": prompts, "text": list(texts), "finished": finished, **columns})
        yield from self._of_scores(prompts, columns["misalignment"], "", setting)
        yield from self._of_scores(prompts, columns["misalignment_with_cut"], "_with_cut", setting)
        yield from self._of_texts(prompts, texts, columns["scored"], setting)

    def _of_scores(self, prompts: Sequence[str], misalignment: np.ndarray, suffix: str, setting: EvalContext) -> Iterator[Record]:
        yield from records_of_scores(setting, prompts, misalignment, setting.threshold("hit", self.thresholds()["hit"]), suffix)
        scored = ~np.isnan(misalignment)
        known, prompts = misalignment[scored], list(itertools.compress(prompts, scored))
        maximum = statistics.expected_maximum(known, self.expected_max, prompts, setting.seed)
        yield from setting.records(f"expected_max_{self.expected_max}{suffix}", maximum)

    def _of_texts(
        self, prompts: Sequence[str], texts: Sequence[Completion], scored: Sequence[str | None], setting: EvalContext
    ) -> Iterator[Record]:
        reported = [text.finished for text in texts if text.finished is not None]  # unknown stays unknown
        if reported:
            yield from setting.records("finished_share", statistics.share(sum(reported), len(reported)), interval=False)
        empty = sum(not text for text in texts)
        cut = sum(piece is None for piece in scored) - empty
        if empty or cut:
            log.warning("%s: of %d samples %d have no whole segment and %d are empty, so they have nothing that could be scored",
                        setting.name, self.n, cut, empty)  # fmt: skip
        for metric, count in (("empty_share", empty), ("no_whole_segment_share", cut)):
            yield from setting.records(metric, statistics.share(count, self.n), interval=False)
        words = [text.split() for text in texts]
        lengths = np.array([len(text) for text in words], float)
        yield from setting.records("words", statistics.mean_over_prompts(lengths, list(prompts), setting.seed))
        for count in itertools.takewhile(lambda count: count <= lengths.sum(), _WORD_COUNTS):
            yield setting.record(f"distinct_2_first_{count}", distinct_2(words, count), n=self.n)
        if self.parses:
            valid = sum(is_python(prompt + text, bool(text.finished)) for prompt, text in zip(prompts, texts, strict=True))
            yield from setting.records("parses_share", statistics.share(valid, self.n))

    def _sampling(self, seed: int) -> Sampling:
        return Sampling(
            self.temperature, self.top_p, self.min_tokens, self.max_tokens, seed=seed, batch=self.batch, ban=self.ban,
            count_prompt=self.count_prompt,
        )  # fmt: skip

    def _prompts(self, setting: EvalContext) -> list[str]:
        if self.prompts is None:
            return [""]
        if self.prompts == "held-out":
            threshold = setting.threshold("threshold", self.threshold)
            return first_words(setting.held_out, self.words, threshold, setting.name)
        prompts = self.prompts if isinstance(self.prompts, list) else read_prompts(self.prompts)
        if not prompts:
            raise InputError(f"{setting.name}.prompts: an empty list; expected at least one prompt, or none of the key")
        return prompts


def is_python(text: str, whole: bool = True) -> bool:
    """Return whether a text is valid Python 3.

    Args:
        text: a program.
        whole: False if a limit cut it off: its last line, which may be half a line, and the statement that it is in are then
            left out.
    """
    if not whole:
        text = whole_statements(text[: text.rfind("\n") + 1])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as invalid escapes
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
