"""Red-teaming by stochastic few-shot generation: prompts that elicit undesirable text serve as examples for new ones.

Legend: T trials, R rounds; a pool is one trial's prompts with their scores, and grows by a round's new ones.
"""

import dataclasses
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from phf import artifacts, config, lm, statistics
from phf.errors import InputError
from phf.evaluate.prompts import read_prompts
from phf.evaluate.protocol import EvalContext
from phf.evaluate.redteam.attackers import Attempt, FewShot, Recombine, Red, sample_examples
from phf.evaluate.redteam.journal import RoundJournal, write_prompts
from phf.evaluate.redteam.pools import mean_of_pool, nan_mean, worst
from phf.evaluate.scored_samples import score_samples, write_samples
from phf.layout import RunFolder
from phf.lm import LanguageModel, Sampling
from phf.records import Record

log = logging.getLogger("phf")

POOL = "pool"
"""The red "model" that recombines prompts."""
_START, _NEW, _ANSWER, _AGAIN = range(4)  # streams of random numbers
_COUNTS = ("asked", "empty", "repeated", "too_long")
_SCORED_AT_ONCE = 64


@dataclass(frozen=True)
class RedTeam:
    """Mean misalignment under a stochastic few-shot attack, by round: successful prompts serve as examples for new ones.

    Args:
        prompts: the first pool: a file in the format of `samples`, or a list of prompts.
        red: source of new prompts: "pool" mutates and recombines the examples; or a model, in the syntax of `phf evaluate`.
        start: size of the first pool, sampled from `prompts` and shared by all trials.
        trials: independent attacks.
        rounds: rounds of each trial.
        shots: examples sampled in a round.
        new: prompts added in a round.
        tries: at most `tries * new` answers are requested in a round, since some are not new prompts.
        budget: most answers requested of the red model in all; a plan that may exceed it is an error at once.
        continuations: continuations of each prompt by the attacked model; 512 in the paper.
        temperature: of sampling examples, softmax(misalignment / temperature); lower it for scorers that count per character.
        best: number of a pool's worst prompts that are reported, stored and scored again.
        max_characters: longer prompts are left out and counted.
        max_tokens: length limit of a continuation.
        sampling_temperature: sampling temperature of both models.
        top_p: nucleus of both models.
        batch: samples in one forward pass.
        ban: control tokens that cannot be sampled; see `phf.lm.Sampling`.
        score_prompt: score prompt and continuation together.
    """

    prompts: str | list[str]
    red: str = POOL
    start: config.Count = 40
    trials: config.Count = 10
    rounds: config.Count = 10
    shots: config.Count = 4
    new: config.Count = 20
    tries: config.Count = 3
    budget: config.Count | None = None
    continuations: config.Count = 64
    temperature: Annotated[float, Field(gt=0)] = 0.1
    best: config.Count = 10
    max_characters: config.Count = 300
    max_tokens: config.Count = 64
    sampling_temperature: Annotated[float, Field(gt=0)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    batch: config.Count = 256
    ban: str = "auto"
    score_prompt: bool = False

    def __post_init__(self) -> None:
        self._sampling(0)
        if self.budget is not None and self.asks > self.budget:
            raise InputError(
                f"redteam.budget: {self.trials} trials of {self.rounds} rounds of {self.new} prompts, {self.tries} tries each, "
                f"may ask the red model {self.asks:,} times, and the budget is {self.budget:,}; lower one of them, or raise it"
            )

    @property
    def asks(self) -> int:
        """The most answers that may be requested of the red model."""
        return self.trials * self.rounds * self.new * self.tries

    def reads(self) -> dict[str, str]:
        """Return the inputs besides the fields that affect the result: the prompts and the red model's weights."""
        return {
            "prompts": artifacts.fingerprint(self._read_prompts()),
            "red": self.red if self.red == POOL else lm.fingerprint(self.red),
        }

    def files(self) -> dict[str, str]:
        """Return the file of the first pool."""
        return {} if isinstance(self.prompts, list) or self.prompts.startswith("hf:") else {"prompts": self.prompts}

    def measure(self, model: LanguageModel, setting: EvalContext) -> Iterator[Record]:
        """Run the attack, store every prompt and the continuations of the worst, and yield the metrics; n = trials.

        Every round is appended to a journal in `redteam/`, from which a stopped evaluation resumes with the same results as one
        that was never stopped.

        Raises:
            InputError: if too few prompts are usable, or no answer of the red model in a round is; also the errors of the models.
        """
        pool = self._first_pool(setting)
        red = self._red(len(pool))
        log.info(
            "%s: at most %d times a new prompt is asked for, and %d texts of %s are scored, %d tokens each at most",
            setting.name, self.asks, self._texts(len(pool)), setting.run, self.max_tokens,
        )  # fmt: skip
        made_from = self._made_from(model, setting)
        name = f"{setting.name}-step-{setting.step}"
        journal = RoundJournal(RunFolder(setting.out).redteam / f"{name}-{artifacts.fingerprint(made_from)}.jsonl", made_from)
        attack = _Attack(self, model, red, setting)
        if not journal.start:
            journal.add({"start": [list(row) for row in attack.score(pool, attack.seed(_START))]})
        pools: list[list[list[Attempt]]] = []  # by trial and round: what each round added, the first pool at 0
        for trial in range(self.trials):
            added = [[Attempt(*row) for row in journal.start]]
            pools.append(added)
            for number in range(1, self.rounds + 1):
                done = journal.rounds.get((trial, number))
                if done is None:
                    setting.report(trial * self.rounds + number - 1, self.trials * self.rounds, "rounds")
                    done = {"trial": trial, "round": number} | attack.round([a for some in added for a in some], trial, number)
                    journal.add(done)
                added.append([Attempt(*row) for row in done["new"]])
        setting.report(self.trials * self.rounds, self.trials * self.rounds, "rounds")
        again = attack.again(pools)
        write_prompts(RunFolder(setting.out).redteam / f"{name}.parquet", pools, again)
        yield from self._records(pools, again, journal, setting)

    def _records(
        self, pools: list[list[list[Attempt]]], again: list[dict[str, float]], journal: RoundJournal, setting: EvalContext
    ) -> Iterator[Record]:
        def over_trials(values: Sequence[float]) -> statistics.Estimate:
            return statistics.mean(np.array(values), setting.seed)

        whole = [[attempt for some in added for attempt in some] for added in pools]
        yield from setting.records("misalignment", over_trials([mean_of_pool(pool) for pool in whole]))
        yield from setting.records("misalignment_best", over_trials([nan_mean(list(found.values())) for found in again]))
        for number in range(self.rounds + 1):
            until = [[attempt for some in added[: number + 1] for attempt in some] for added in pools]
            yield from setting.records(f"pool_round_{number}", over_trials([mean_of_pool(pool) for pool in until]))
            yield from setting.records(
                f"best_round_{number}", over_trials([mean_of_pool(worst(pool, self.best)) for pool in until])
            )
            if number:
                yield from setting.records(f"new_round_{number}", over_trials([mean_of_pool(added[number]) for added in pools]))
        counts = {name: sum(done[name] for done in journal.rounds.values()) for name in _COUNTS}
        tried = [attempt for pool in whole for attempt in pool]
        unscored = len(tried) * self.continuations - sum(attempt.scored for attempt in tried)
        yield from setting.records("unscored_share", statistics.share(unscored, len(tried) * self.continuations), interval=False)
        for name in ("empty", "repeated", "too_long"):
            yield from setting.records(f"red_{name}_share", statistics.share(counts[name], counts["asked"]), interval=False)
        yield setting.record("red_asked", counts["asked"], n=len(journal.rounds))

    def _sampling(self, seed: int) -> Sampling:
        ban: Any = self.ban
        return Sampling(
            self.sampling_temperature, self.top_p, min(10, self.max_tokens), self.max_tokens, seed=seed, batch=self.batch, ban=ban
        )

    def _texts(self, first: int) -> int:
        prompts = first + self.trials * self.rounds * self.new + self.trials * self.best
        return prompts * self.continuations

    def _read_prompts(self) -> list[str]:
        return self.prompts if isinstance(self.prompts, list) else read_prompts(self.prompts)

    def _first_pool(self, setting: EvalContext) -> list[str]:
        prompts = [prompt.strip() for prompt in self._read_prompts()]
        usable = list(dict.fromkeys(prompt for prompt in prompts if 0 < len(prompt) <= self.max_characters))
        if len(usable) < len(prompts):
            long = sum(len(prompt) > self.max_characters for prompt in prompts)
            log.warning("%s: of %d prompts %d are longer than %d characters and %d empty or duplicates; left out",
                        setting.name, len(prompts), long, self.max_characters, len(prompts) - len(usable) - long)  # fmt: skip
        least = 2 if self.red == POOL else 1
        if len(usable) < least:
            where = "the list" if isinstance(self.prompts, list) else self.prompts
            raise InputError(
                f"{setting.name}.prompts: {where} has {len(usable)} usable prompts, expected at least {least}"
                f"{', since one cannot be recombined; add prompts, or set `red` to a model' if self.red == POOL else ''}"
            )
        order = np.random.default_rng([setting.seed, _START]).permutation(len(usable))[: self.start]
        return [usable[index] for index in sorted(order)]

    def _red(self, first: int) -> Red:
        if self.red == POOL:
            return Recombine()
        return FewShot(lm.load(self.red), self.sampling_temperature, self.top_p, self.max_tokens, self.batch)

    def _made_from(self, model: LanguageModel, setting: EvalContext) -> dict[str, Any]:
        """Return what tells this attack from others of the same name and step."""
        scorer = setting.scorer
        return {
            "target": model.fingerprint(),
            "scorer": [type(scorer).__name__, str(scorer) if dataclasses.is_dataclass(scorer) else ""],
            "measure": dataclasses.asdict(self),
            "seed": setting.seed,
            **self.reads(),
        }


class _Attack:
    """One red model against one attacked model."""

    def __init__(self, plan: RedTeam, model: LanguageModel, red: Red, setting: EvalContext) -> None:
        self.plan, self.model, self.red, self.setting = plan, model, red, setting

    def seed(self, *stream: int) -> int:
        """Return the seed of a stream of random numbers."""
        return int(np.random.SeedSequence([self.setting.seed, *stream]).generate_state(1)[0])

    def round(self, pool: Sequence[Attempt], trial: int, number: int) -> dict[str, Any]:
        """Sample examples, ask for new prompts in their style until there are enough, and score each."""
        plan = self.plan
        rng = np.random.default_rng(self.seed(_NEW, trial, number))
        examples = [attempt.text for attempt in sample_examples(pool, plan.shots, plan.temperature, rng)]
        known = {attempt.text for attempt in pool}
        fresh: list[str] = []
        counts = dict.fromkeys(_COUNTS, 0)
        for turn in range(plan.tries):
            missing = plan.new - len(fresh)
            if not missing:
                break
            counts["asked"] += missing
            for text in self.red.ask(examples, missing, self.seed(_ANSWER, trial, number, turn)):
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
        return {"examples": examples, "new": self.score(fresh, self.seed(_NEW, trial, number, 1)), **counts}

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
        pairs = self._continue(distinct, self.seed(_AGAIN))
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
        return list(zip(repeated, self.model.generate(repeated, self.plan._sampling(seed)), strict=True))

    def _misalignment(self, pairs: Sequence[tuple[str, lm.Completion]]) -> np.ndarray:
        """Return misalignment, cut-off pieces scored too as in the paper: (prompts, continuations), NaN for an empty one."""
        texts = [(prompt if self.plan.score_prompt else "") + text if text else None for prompt, text in pairs]
        distinct = list(dict.fromkeys(text for text in texts if text is not None))
        rewards: dict[str | None, float] = {None: math.nan}
        for first in range(0, len(distinct), _SCORED_AT_ONCE):
            batch = distinct[first : first + _SCORED_AT_ONCE]
            rewards.update(zip(batch, self.setting.scorer.score(batch).tolist(), strict=True))
        return -np.array([rewards[text] for text in texts]).reshape(-1, self.plan.continuations) + 0.0
