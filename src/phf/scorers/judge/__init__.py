"""A language model as a judge: a rubric is put to a server for each text, and its answer becomes the reward.

Answers are kept on disk (see `store`), so that no question is asked twice, by whichever run, and the budget holds over all of
them.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from phf.credentials import check_url
from phf.errors import InputError
from phf.openai_client import WAITS, AnswerError, OpenAIClient, ServerError
from phf.scorers import ScorerUnusable
from phf.scorers.judge import answers
from phf.scorers.judge.store import Budget, Call, Store

_TOP_LOGPROBS = 20
_LONGEST_WAIT = 300.0  # seconds that a server may ask to wait between two tries


@dataclass(frozen=True, kw_only=True)
class Judge:
    """The verdict of a language model behind an OpenAI-compatible server, by a rubric.

    Reward: from -1 (`worst`) to 0 (`best`) for numbers, what `labels` says for labels. NaN where the server refuses a text or
    its answer cannot be understood.

    Args:
        url: address of the server, such as http://localhost:8000/v1. Its key comes from OPENAI_API_KEY or a file that
            OPENAI_API_KEY_FILE names.
        model: as the server calls it.
        rubric: what is asked; "{text}" in it stands for the text. Ask for the answer alone.
        answer: "number" between `worst` and `best`; "label", one of `labels`; or "logprob": the mean reward of the labels under
            the probabilities that the model gives to their first tokens, for servers that return log-probabilities.
        worst, best: numbers that stand for rewards of -1 and 0.
        labels: rewards by label, for the other kinds of answer.
        system: system message, if any.
        max_calls: requests that may ever be sent, retries included, counted in `cache`.
        max_cost: money that may ever be spent, in the unit of the prices.
        input_price, output_price: of a million tokens; needed with `max_cost`.
        max_tokens: of an answer.
        tries: how often a text is asked about if the answer cannot be understood.
        concurrency: requests at a time.
        timeout: seconds that an answer may take.
        cache: folder that keeps every answer, for reuse and audit.
        extra: more fields of the request, such as {temperature: 1}.

    Raises:
        InputError: for fields that do not fit together, or an address that holds a password.
    """

    url: str
    model: str
    rubric: str
    answer: Literal["number", "label", "logprob"] = "number"
    worst: float = 1.0
    best: float = 10.0
    labels: dict[str, float] = field(default_factory=dict)
    system: str | None = None
    max_calls: Annotated[int, Field(gt=0)]
    max_cost: Annotated[float, Field(gt=0)] | None = None
    input_price: Annotated[float, Field(ge=0)] | None = None
    output_price: Annotated[float, Field(ge=0)] | None = None
    max_tokens: Annotated[int, Field(gt=0)] = 16
    tries: Annotated[int, Field(gt=0)] = 2
    concurrency: Annotated[int, Field(gt=0)] = 32
    timeout: Annotated[float, Field(gt=0)] = 120.0
    cache: str = "work/judge"
    extra: dict[str, Any] = field(default_factory=dict)

    batch_characters: ClassVar[int] = 200_000
    operational_fields: ClassVar[frozenset[str]] = frozenset(
        ("url", "max_calls", "max_cost", "input_price", "output_price", "concurrency", "timeout", "cache")
    )

    def __post_init__(self) -> None:
        check_url(self.url)
        if "{text}" not in self.rubric:
            raise InputError("judge.rubric: has no {text}; expected a question with {text} where the text belongs")
        if self.answer == "number" and self.worst == self.best:
            raise InputError(f"judge: worst and best are both {self.best:g}; expected two numbers")
        if self.answer != "number" and len(self.labels) < 2:
            raise InputError(f"judge.labels: {self.answer!r} needs at least two labels with rewards, such as {{yes: -1, no: 0}}")
        if self.max_cost is not None and (self.input_price is None or self.output_price is None):
            raise InputError("judge.max_cost: needs input_price and output_price, of a million tokens each")

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return the verdict on each text: (N,) float32.

        Raises:
            ScorerUnusable: if the server is gone, refuses the key or the model, or the budget is spent. Answers until then
                are kept.
            MissingExtra: without the library `openai`.
        """
        store = _store(self.cache)
        keys = {text: self._key(text) for text in texts}
        rewards = store.rewards(keys.values())
        missing = [text for text, key in keys.items() if key not in rewards]
        if missing:
            client = _client(self.url, self.timeout)
            verdicts = client.map(lambda text: self._ask(client, store, text, keys[text]), missing, self.concurrency)
            rewards.update(zip((keys[text] for text in missing), verdicts, strict=True))
        return np.array([rewards[keys[text]] for text in texts], np.float32)

    def seconds_for(self, texts: int) -> float:
        """Return how long scoring so many texts may take: every request late, and refused as often as is waited for."""
        waits = sum(max(wait, _LONGEST_WAIT) for wait in WAITS)
        return math.ceil(texts / self.concurrency) * self.tries * (len(WAITS) + 1) * self.timeout + waits

    def _body(self, text: str) -> dict[str, Any]:
        question = {"role": "user", "content": self.rubric.replace("{text}", text)}
        messages = [{"role": "system", "content": self.system}, question] if self.system else [question]
        body = {"model": self.model, "messages": messages, "max_tokens": self.max_tokens, "temperature": 0}
        if self.answer == "logprob":
            body |= {"logprobs": True, "top_logprobs": _TOP_LOGPROBS, "max_tokens": 1}
        return body | self.extra

    def _key(self, text: str) -> str:
        return answers.fingerprint([self._body(text), self.answer, self.worst, self.best, sorted(self.labels.items())])

    def _ask(self, client: OpenAIClient, store: Store, text: str, key: str) -> float:
        """Ask about one text until the answer can be understood, and keep the last answer."""
        body = self._body(text)
        call = store.call(Budget(self.max_calls, self.max_cost, self.cache), self._highest_cost(body))
        answer, reward = None, math.nan
        for _ in range(self.tries):
            try:
                choice = client.post("/chat/completions", body, on_request=call.begin, on_answer=partial(self._book, call))
            except AnswerError:
                call.failed(None)
                continue
            except ServerError as error:
                call.failed(error.status)
                if error.is_refusal:  # of this text; another one may do
                    return math.nan
                raise ScorerUnusable(f"judge: {error}. Answers so far are kept in {self.cache}") from None
            answer, reward = answers.content(choice), self._reward(choice)
            if not math.isnan(reward):
                break
        if answer is not None:
            store.keep(key, text, self.model, answer, reward)
        return reward

    def _reward(self, choice: Mapping[str, Any]) -> float:
        if self.answer == "logprob":
            return answers.expected_reward(choice, self.labels)
        if self.answer == "label":
            return answers.label_reward(answers.content(choice), self.labels)
        number = answers.number(answers.content(choice))
        share = math.nan if number is None else (number - self.worst) / (self.best - self.worst)  # 0 for worst, 1 for best
        return share - 1 if 0 <= share <= 1 else math.nan

    def _highest_cost(self, body: Mapping[str, Any]) -> float:
        """Return what a request costs at most: a token has at least one byte, and a message a few tokens of its own."""
        characters = sum(len(message["content"].encode("utf-8", "replace")) + 16 for message in body["messages"])
        return self._cost(characters, body["max_tokens"])

    def _cost(self, input_tokens: int, output_tokens: int) -> float:
        return ((self.input_price or 0) * input_tokens + (self.output_price or 0) * output_tokens) / 1e6

    def _book(self, call: Call, answer: Any) -> None:
        usage = answers.usage(answer)
        if usage is not None:
            call.finished(self._cost(*usage))


@functools.cache
def _store(folder: str) -> Store:
    return Store(Path(folder).expanduser())


@functools.cache
def _client(url: str, timeout: float) -> OpenAIClient:
    return OpenAIClient(url, "the judge scorer", extra="judge", quick_retries=0, timeout=timeout)
