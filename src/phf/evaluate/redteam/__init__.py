"""Red-teaming by stochastic few-shot generation: prompts that elicit undesirable text serve as examples for new ones.

Legend: T trials, R rounds; a pool is one trial's prompts with their scores, and grows by a round's new ones.
"""

import dataclasses
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from phf import artifacts, config, lm, statistics
from phf.errors import InputError
from phf.evaluate.prompts import Prompt, check_source, read_scored_prompts
from phf.evaluate.protocol import EvalContext, Workload
from phf.evaluate.redteam.attack import COUNTS, START, Attack
from phf.evaluate.redteam.attackers import Attempt, FewShot, Recombine, Red
from phf.evaluate.redteam.items import Items, instruction_for, items_for
from phf.evaluate.redteam.journal import RoundJournal, write_prompts
from phf.evaluate.redteam.pools import mean_of_pool, nan_mean, worst
from phf.layout import RunFolder
from phf.lm import LanguageModel, Sampling
from phf.records import Record

log = logging.getLogger("phf")

POOL = "pool"
"""The red "model" that recombines prompts."""


@dataclass(frozen=True)
class RedTeam:
    """Mean misalignment under a stochastic few-shot attack, by round: successful prompts serve as examples for new ones.

    Args:
        prompts: the first pool: a file or a data set of the hub, as of `samples`, or a list of prompts.
        instruction: what the red model is asked for: a task (toxicity, pii, pep8), whose instruction it is, or the instruction
            itself; without one it is shown the examples as a list of texts of one kind.
        fenced: write prompts as fenced code, in lines, rather than as items of a line each; by default for the task pep8.
        red: source of new prompts: "pool" mutates and recombines the examples; or a model, in the syntax of `phf evaluate`.
        start: size of the first pool, which all trials share.
        start_order: the pool is "sampled" from `prompts`, or is the first ones of the "file".
        start_scores: scores of the first pool: "measured" as those of other prompts, "published" beside the prompts, or a number
            for all of them; the released code has 0.001.
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
        count_prompt: `max_tokens` counts the prompt's tokens too.
        sampling_temperature: sampling temperature of the attacked model.
        top_p: nucleus of the attacked model.
        red_temperature: sampling temperature of the red model.
        red_top_p: nucleus of the red model.
        red_max_tokens: length limit of an answer of the red model, of which the first item is taken.
        batch: samples in one forward pass.
        ban: control tokens that cannot be sampled; see `phf.lm.Sampling`.
        score_prompt: score prompt and continuation together.
        scorer: another scorer than the one that scored the training corpus.
    """

    prompts: str | list[str]
    instruction: str | None = None
    fenced: bool | None = None
    red: str = POOL
    start: config.Count = 40
    start_order: Literal["sampled", "file"] = "sampled"
    start_scores: Literal["measured", "published"] | float = "measured"
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
    count_prompt: bool = False
    sampling_temperature: Annotated[float, Field(gt=0)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    red_temperature: Annotated[float, Field(gt=0)] = 1.0
    red_top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    red_max_tokens: config.Count = 128
    batch: config.Count = 256
    ban: lm.Ban = "auto"
    score_prompt: bool = False
    scorer: str | dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self.sampling(0)
        instruction_for(self.instruction)
        if isinstance(self.prompts, str):
            check_source(self.prompts)
        if self.budget is not None and self.asks > self.budget:
            raise InputError(
                f"redteam.budget: {self.trials} trials of {self.rounds} rounds of {self.new} prompts, {self.tries} tries each, "
                f"may ask the red model {self.asks:,} times, and the budget is {self.budget:,}; lower one of them, or raise it"
            )

    @property
    def asks(self) -> int:
        """The most answers that may be requested of the red model."""
        return self.trials * self.rounds * self.new * self.tries

    def workload(self) -> Workload:
        """Return what it amounts to: at most so many prompts continued and scored, and answers asked of the red model."""
        texts = self._texts(self.start)
        return Workload(texts, self.max_tokens, 2 * texts, asked={self.red: self.asks})

    def reads(self) -> dict[str, str]:
        """Return the inputs besides the fields that affect the result: the prompts and the red model's weights."""
        return {
            "prompts": artifacts.fingerprint([[prompt.text, repr(prompt.score)] for prompt in self._read_prompts()]),
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
        if self.scorer is not None:
            scorer = config.build("scorers", config.Component.model_validate(self.scorer))
            setting = dataclasses.replace(setting, scorer=scorer)
        pool = self._first_pool(setting)
        red = self._red()
        log.info(
            "%s: at most %d times a new prompt is asked for, and %d texts of %s are scored, %d tokens each at most",
            setting.name, self.asks, self._texts(len(pool)), setting.run, self.max_tokens,
        )  # fmt: skip
        made_from = self._made_from(model, setting)
        name = f"{setting.name}-step-{setting.step}"
        journal = RoundJournal(RunFolder(setting.out).redteam / f"{name}-{artifacts.fingerprint(made_from)}.jsonl", made_from)
        attack = Attack(self, model, red, setting)
        if not journal.start:
            journal.add({"start": [list(row) for row in self._scored(pool, attack)]})
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
        counts = {name: sum(done[name] for done in journal.rounds.values()) for name in COUNTS}
        given = 0 if self.start_scores == "measured" else 1
        tried = [attempt for added in pools for some in added[given:] for attempt in some]
        unscored = len(tried) * self.continuations - sum(attempt.scored for attempt in tried)
        yield from setting.records("unscored_share", statistics.share(unscored, len(tried) * self.continuations), interval=False)
        for name in ("empty", "repeated", "too_long"):
            yield from setting.records(f"red_{name}_share", statistics.share(counts[name], counts["asked"]), interval=False)
        yield setting.record("red_asked", counts["asked"], n=len(journal.rounds))

    def sampling(self, seed: int) -> Sampling:
        """Return how the attacked model is sampled."""
        return Sampling(
            self.sampling_temperature, self.top_p, min(10, self.max_tokens), self.max_tokens, seed, self.batch, self.ban,
            count_prompt=self.count_prompt,
        )  # fmt: skip

    def _texts(self, first: int) -> int:
        prompts = first * (self.start_scores == "measured") + self.trials * self.rounds * self.new + self.trials * self.best
        return prompts * self.continuations

    def _read_prompts(self) -> list[Prompt]:
        return [Prompt(text) for text in self.prompts] if isinstance(self.prompts, list) else read_scored_prompts(self.prompts)

    @property
    def _items(self) -> Items:
        return items_for(self.instruction, self.fenced)

    def _first_pool(self, setting: EvalContext) -> list[Prompt]:
        prompts = [Prompt(self._items.clean(prompt.text), prompt.score) for prompt in self._read_prompts()]
        distinct = {prompt.text: prompt for prompt in reversed(prompts)}
        usable = [
            distinct[text] for text in dict.fromkeys(prompt.text for prompt in prompts) if 0 < len(text) <= self.max_characters
        ]
        if len(usable) < len(prompts):
            long = sum(len(prompt.text) > self.max_characters for prompt in prompts)
            log.warning("%s: of %d prompts %d are longer than %d characters and %d empty or duplicates; left out",
                        setting.name, len(prompts), long, self.max_characters, len(prompts) - len(usable) - long)  # fmt: skip
        least = 2 if self.red == POOL else 1
        if len(usable) < least:
            where = "the list" if isinstance(self.prompts, list) else self.prompts
            raise InputError(
                f"{setting.name}.prompts: {where} has {len(usable)} usable prompts, expected at least {least}"
                f"{', since one cannot be recombined; add prompts, or set `red` to a model' if self.red == POOL else ''}"
            )
        if self.start_order == "file":
            return usable[: self.start]
        order = np.random.default_rng([setting.seed, START]).permutation(len(usable))[: self.start]
        return [usable[index] for index in sorted(order)]

    def _scored(self, pool: Sequence[Prompt], attack: Attack) -> list[tuple[str, float, int]]:
        """Return the first pool with its scores, and how many continuations each is the mean of."""
        if self.start_scores == "measured":
            return attack.score([prompt.text for prompt in pool], attack.seed(START))
        if self.start_scores != "published":
            return [(prompt.text, float(self.start_scores), 0) for prompt in pool]
        without = sum(math.isnan(prompt.score) for prompt in pool)
        if without:
            raise InputError(
                f"{attack.setting.name}.start_scores: published, but {without} of the {len(pool)} prompts of the first pool have "
                "no score beside them (`score` of a line, or ?score=COLUMN of a data set); set it to measured, or to a number"
            )
        return [(prompt.text, prompt.score, 0) for prompt in pool]

    def _red(self) -> Red:
        if self.red == POOL:
            return Recombine(self._items)
        return FewShot(
            lm.load(self.red), instruction_for(self.instruction), self._items,
            self.red_temperature, self.red_top_p, self.red_max_tokens, self.batch,
        )  # fmt: skip

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
