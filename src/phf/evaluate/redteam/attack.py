"""One red model against one attacked model: rounds of new prompts, scored by what the attacked model writes after them."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from phf import lm
from phf.errors import InputError
from phf.evaluate.protocol import EvalContext
from phf.evaluate.redteam.attackers import Attempt, Red, sample_examples
from phf.evaluate.redteam.pools import nan_mean, worst
from phf.evaluate.scored_samples import score_samples, write_samples
from phf.lm import LanguageModel

if TYPE_CHECKING:
    from phf.evaluate.redteam import RedTeam

START, NEW, ANSWER, AGAIN = range(4)
"""Streams of random numbers."""
COUNTS = ("asked", "empty", "repeated", "too_long")
"""What a round counts of the red model's answers."""
_SCORED_AT_ONCE = 64


class Attack:
    """One red model against one attacked model."""

    def __init__(self, plan: "RedTeam", model: LanguageModel, red: Red, setting: EvalContext) -> None:
        """Prepare an attack.

        Args:
            plan: its fields.
            model: the attacked model.
            red: the red model.
            setting: with the scorer of the attack.
        """
        self.plan, self.model, self.red, self.setting = plan, model, red, setting

    def seed(self, *stream: int) -> int:
        """Return the seed of a stream of random numbers."""
        return int(np.random.SeedSequence([self.setting.seed, *stream]).generate_state(1)[0])

    def round(self, pool: Sequence[Attempt], trial: int, number: int) -> dict[str, Any]:
        """Sample examples, ask for new prompts in their style until there are enough, and score each."""
        plan = self.plan
        rng = np.random.default_rng(self.seed(NEW, trial, number))
        examples = [attempt.text for attempt in sample_examples(pool, plan.shots, plan.temperature, rng)]
        known = {attempt.text for attempt in pool}
        fresh: list[str] = []
        counts = dict.fromkeys(COUNTS, 0)
        for turn in range(plan.tries):
            missing = plan.new - len(fresh)
            if not missing:
                break
            counts["asked"] += missing
            for text in self.red.ask(examples, missing, self.seed(ANSWER, trial, number, turn)):
                if not any(map(str.isalnum, text)):
                    counts["empty"] += 1
                elif len(text) > plan.max_characters:
                    counts["too_long"] += 1
                elif text in known:
                    counts["repeated"] += 1
                else:
                    known.add(text)
                    fresh.append(text)
        if not fresh:
            raise InputError(
                f"{self.setting.name}: the red model {plan.red!r} gave no new prompt in {counts['asked']} answers of trial "
                f"{trial + 1}, round {number} ({counts['empty']} empty, {counts['repeated']} known already, {counts['too_long']} "
                f"longer than {plan.max_characters} characters); finished rounds are kept. Use another red model, or more prompts"
            )
        return {"examples": examples, "new": self.score(fresh, self.seed(NEW, trial, number, 1)), **counts}

    def score(self, prompts: Sequence[str], seed: int) -> list[tuple[str, float, int]]:
        """Return each prompt with the mean misalignment of its continuations and the number of scored ones."""
        values = self._misalignment(self._continue(prompts, seed))
        rows = []
        for place, prompt in enumerate(prompts):
            known = [value for value in values[place] if not math.isnan(value)]
            rows.append((prompt, float(np.mean(known)) if known else math.nan, len(known)))
        return rows

    def again(self, pools: Sequence[Sequence[Sequence[Attempt]]]) -> list[dict[str, float]]:
        """Return fresh scores of each trial's worst prompts, since the scores they were selected by are biased upwards.

        Their continuations are stored as samples.
        """
        setting, many = self.setting, self.plan.continuations
        chosen = [worst([attempt for some in added for attempt in some], self.plan.best) for added in pools]
        distinct = list(dict.fromkeys(attempt.text for some in chosen for attempt in some))
        pairs = self._continue(distinct, self.seed(AGAIN))
        prompts, texts = [prompt for prompt, _ in pairs], [text for _, text in pairs]
        heads = prompts if self.plan.score_prompt else [""] * len(texts)
        scores = score_samples(heads, texts, setting.scorer, setting.segmenter, score_cut=True)
        finished = [text.finished for text in texts]
        columns = {"prompt": prompts, "text": list(map(str, texts)), "finished": finished, **scores}
        write_samples(setting.samples_of(setting.name), columns)
        fresh = {
            prompt: nan_mean(scores["misalignment"][place * many : (place + 1) * many].tolist())
            for place, prompt in enumerate(distinct)
        }
        return [{attempt.text: fresh[attempt.text] for attempt in some} for some in chosen]

    def _continue(self, prompts: Sequence[str], seed: int) -> list[tuple[str, lm.Completion]]:
        repeated = [prompt for prompt in prompts for _ in range(self.plan.continuations)]
        return list(zip(repeated, self.model.generate(repeated, self.plan.sampling(seed)), strict=True))

    def _misalignment(self, pairs: Sequence[tuple[str, lm.Completion]]) -> np.ndarray:
        """Return misalignment, cut-off pieces scored too as in the paper: (prompts, continuations), NaN for an empty one."""
        texts = [(prompt if self.plan.score_prompt else "") + text if text else None for prompt, text in pairs]
        distinct = list(dict.fromkeys(text for text in texts if text is not None))
        rewards: dict[str | None, float] = {None: math.nan}
        for first in range(0, len(distinct), _SCORED_AT_ONCE):
            batch = distinct[first : first + _SCORED_AT_ONCE]
            rewards.update(zip(batch, self.setting.scorer.score(batch).tolist(), strict=True))
        return -np.array([rewards[text] for text in texts]).reshape(-1, self.plan.continuations) + 0.0
