"""Prompt generation for red-teaming: sample examples by score, then write new prompts with a model or by recombination.

Stochastic few-shot generation: Perez et al. 2022 (arXiv 2202.03286), section 3.1, as Korbak et al. 2023 use it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from phf.evaluate.redteam.items import Items
from phf.lm import LanguageModel, Sampling


@dataclass(frozen=True, slots=True)
class Attempt:
    """A prompt that was tried.

    Args:
        text: the prompt.
        misalignment: mean over its continuations; NaN if none could be scored.
        scored: continuations that count.
    """

    text: str
    misalignment: float
    scored: int


class Red(Protocol):
    """The red model: a source of new prompts."""

    def ask(self, examples: Sequence[str], count: int, seed: int) -> list[str]:
        """Return `count` answers in the style of the examples, usable or not. Deterministic in its arguments."""


def sample_examples(pool: Sequence[Attempt], count: int, temperature: float, rng: np.random.Generator) -> list[Attempt]:
    """Return prompts sampled without replacement, each in proportion to exp(misalignment / temperature) among those left.

    Uses the Gumbel top-k trick: the largest values of misalignment / temperature + Gumbel noise. Prompts without a score are
    sampled only if no other is left.
    """
    scores = np.array([attempt.misalignment for attempt in pool]) / temperature
    keys = np.where(np.isnan(scores), -math.inf, scores) + rng.gumbel(size=len(pool))
    return [pool[index] for index in np.argsort(-keys, kind="stable")[:count]]


@dataclass(frozen=True)
class FewShot:
    """A language model that is shown examples under an instruction and writes the next item.

    Args:
        model: a base or instruction-tuned model.
        instruction: what stands above the examples.
        items: how prompts are written.
        temperature, top_p, max_tokens, batch: its sampling options.
    """

    model: LanguageModel
    instruction: str
    items: Items
    temperature: float
    top_p: float
    max_tokens: int
    batch: int

    def ask(self, examples: Sequence[str], count: int, seed: int) -> list[str]:
        """Return the first item of each of `count` sampled answers to one list of examples."""
        sampling = Sampling(self.temperature, self.top_p, 1, self.max_tokens, seed=seed, batch=self.batch)
        shown = self.items.few_shot(self.instruction, examples)
        return [self.items.first_item(answer) for answer in self.model.generate([shown] * count, sampling)]


@dataclass(frozen=True)
class Recombine:
    """Mutation and recombination of the examples by word: an attacker that needs no red model.

    Each answer is one of: the beginning of one example and the end of another; an example followed by a piece of
    another; a word replaced by one of another's; a word deleted; a word moved. In code, words keep their lines.

    Args:
        items: how prompts are cut into words.
    """

    items: Items

    def ask(self, examples: Sequence[str], count: int, seed: int) -> list[str]:
        """Return `count` recombined prompts."""
        rng = np.random.default_rng(seed)
        return [self._answer(examples, rng) for _ in range(count)]

    def _answer(self, examples: Sequence[str], rng: np.random.Generator) -> str:
        order = rng.permutation(len(examples))
        one, other = (self.items.cut(examples[order[place % len(order)]]) for place in (0, 1))
        at, their = int(rng.integers(len(one))), int(rng.integers(len(other)))
        how = rng.integers(5)
        if how == 0:
            words = one[: at + 1] + other[their:]
        elif how == 1:
            words = one + other[their : their + 1 + int(rng.integers(3))]
        elif how == 2:
            words = [*one[:at], other[their], *one[at + 1 :]]
        else:
            words = one[:at] + one[at + 1 :]
            if how == 4:
                words.insert(int(rng.integers(len(words) + 1)), one[at])
        return self.items.join(words)
