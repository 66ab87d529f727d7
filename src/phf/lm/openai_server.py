"""A language model behind an OpenAI-compatible server (vLLM, SGLang, `transformers serve`, hosted): its completions endpoint."""

import itertools
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from phf.errors import InputError
from phf.lm.address import split_address
from phf.lm.protocol import CONTROL_TOKENS, Completion, Likelihood, Sampling
from phf.openai_client import OpenAIClient, ServerError
from phf.tokens import DOCUMENT_START

log = logging.getLogger("phf")

_LOGPROBS_AT_ONCE = 16
_FINISHED = {"stop": True, "length": False}
"""What a finish_reason says of whether the model ended a sample; any other leaves it unknown."""
_OPTIONAL = {
    "min_tokens": "samples may be shorter than min_tokens",
    "seed": "samples are other ones each time",
}
"""Fields of a request that not every server knows, and what it means to go without."""


class OpenAIModel:
    """A model that a server serves. For the key see `phf.openai_client`.

    What it cannot do from here: ban control tokens (they are only taken out of the text), and, where the server does not know
    the fields `min_tokens` or `seed`, forbid an early end or repeat a sample.
    """

    def __init__(self, address: str, control: str | None = None) -> None:
        """Prepare; the server is first asked when the model is used, or here for its only model if the address names none.

        Args:
            address: `http://host:port/v1#model`, or without `#model` where the server has one only. `?start=` and a text at
                the end says what begins a document there, `<|endoftext|>` by default; nothing, where the server itself
                puts a token before each prompt. `&end=` says what ends one, if that is something else.
            control: put after the document's start, in front of each prompt and text.

        Raises:
            InputError: if the address is none or holds a user, a password or a query, or the model has to be named.
        """
        url, self.name, options = split_address(address)
        self.url, self.control = url, control
        start = options.get("start", DOCUMENT_START)
        # What begins a document ends the one before it, unless a control token belongs to the beginning.
        end = DOCUMENT_START if not start or start.startswith(DOCUMENT_START) else start
        self.prefix, self.end = start + (control or ""), options.get("end", end)
        self.client = OpenAIClient(url, "a model behind a server")
        self.name = self.name or self._only_model()
        self._unknown: set[str] = set()  # fields that the server turned out not to know
        self._unknown_lock = threading.Lock()
        self._echoed = 0  # max_tokens beside echo; 1 where the server refuses 0
        self._echoes = False  # whether it has given log-probabilities of a prompt: then one that fails may come back

    def fingerprint(self) -> str:
        """Return the server's address and model: its weights cannot be known from here."""
        return f"openai:{self.url}#{self.name}"

    def generate(
        self, prompts: Sequence[str], sampling: Sampling, on_progress: Callable[[int], None] | None = None
    ) -> list[Completion]:
        """Continue each prompt: see `LanguageModel.generate`. `sampling.batch` requests are under way at a time.

        Raises:
            InputError: if the server is down, refuses the key, or answers with an error or in chat form.
        """
        if sampling.guidance is not None:
            raise InputError(
                f"{self.url}: a server cannot be guided, since guidance needs all logits of two conditions at every token; "
                "load the model from its folder"
            )

        if sampling.count_prompt:
            raise InputError(
                f"{self.url}: count_prompt needs the tokens of each prompt, which a server does not report; set max_tokens to "
                "the tokens of a sample alone, or load the model from its folder"
            )

        def complete(job: tuple[int, str]) -> Completion:
            index, prompt = job
            # Each sample is a request with a seed of its own: servers give one seed the same text, prompt by prompt.
            choice = self._complete(self.prefix + prompt, sampling, seed=(sampling.seed * 1_000_003 + index) % 2**31)
            text = self._text(choice)
            for token in (DOCUMENT_START, *CONTROL_TOKENS):
                text = text.replace(token, "")
            return Completion(text, _FINISHED.get(str(choice.get("finish_reason"))))

        completions = self.client.map(complete, list(enumerate(prompts)), sampling.batch, on_progress)
        if len(completions) > 8 and len(set(prompts)) == 1 and len(set(completions)) == 1:
            log.warning("%s: all %d samples are the same text; the server seems not to sample", self.url, len(completions))
        return completions

    def logprobs(self, texts: Sequence[str]) -> np.ndarray:
        """Return the natural-log probability of each text, as the server's tokenizer cuts it: (N,) float64.

        Raises:
            InputError: as `generate`, and if the server gives no log-probabilities of a prompt.
        """
        return np.array([likelihood.nats for likelihood in self.likelihoods(texts)], np.float64)

    def likelihoods(
        self,
        texts: Sequence[str],
        contexts: Sequence[str] | None = None,
        ended: Sequence[bool] | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Likelihood]:
        """Return how probable each text is after its context, as the server's tokenizer cuts them: see `LanguageModel`.

        Raises:
            InputError: as `logprobs`, and if a document's end is asked for and is not one token there.
        """
        jobs = zip(contexts or [""] * len(texts), texts, ended or [False] * len(texts), strict=True)
        return self.client.map(self._likelihood, list(jobs), _LOGPROBS_AT_ONCE, on_progress)

    def _complete(self, prompt: str, sampling: Sampling, seed: int) -> Mapping[str, Any]:
        """Return the server's choice, asked without the fields that it turns out not to know."""
        body = {
            "model": self.name, "prompt": prompt, "temperature": sampling.temperature, "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens, "seed": seed, "min_tokens": sampling.min_tokens,
        }  # fmt: skip
        if not sampling.min_tokens:
            del body["min_tokens"]
        while True:
            asked = {name: value for name, value in body.items() if name not in self._unknown}
            try:
                choice: Mapping[str, Any] = self.client.post("/completions", asked)
                return choice
            except ServerError as error:
                refused = [name for name in _OPTIONAL if name in asked and name in error.said]
                if not error.is_refusal or not refused:
                    raise
                self._go_without(refused[0])

    def _go_without(self, field: str) -> None:
        with self._unknown_lock:
            if field not in self._unknown:
                self._unknown.add(field)
                log.warning("%s: does not know %s; %s", self.url, field, _OPTIONAL[field])

    def _text(self, choice: Mapping[str, Any]) -> str:
        """Return a sample's text.

        Raises:
            ServerError: if the answer is in chat form, or holds no text.
        """
        text = choice.get("text")
        if isinstance(text, str):
            return text
        if "message" in choice or "delta" in choice:
            raise ServerError(
                f"{self.url}: answers /completions in chat form (a message, no text), so what it writes continues no document; "
                "use a server with OpenAI's completions endpoint, such as vLLM, or load the model with hf:"
            )
        raise ServerError(f"{self.url}: answers /completions with a choice whose text is {text!r}; expected a string")

    def _likelihood(self, job: tuple[str, str, bool]) -> Likelihood:
        context, text, ended = job
        if not text and not ended:
            return Likelihood(0.0, 0, True)
        begin = len(self.prefix) + len(context)
        prompt = self.prefix + context + text + self.end * ended
        logprobs = self._prompt_logprobs(prompt)
        offsets = [*logprobs["text_offset"], len(prompt)]
        charged = [
            position
            for position, (offset, end) in enumerate(itertools.pairwise(offsets))
            if (offset >= begin or end > begin) and offset < len(prompt)
        ]
        nats = [logprobs["token_logprobs"][position] for position in charged]
        if not nats or None in nats:
            raise InputError(
                f"{self.url}: {self.name} gives no probability for a text's first token, so nothing stands before it; "
                "name what begins a document at the end of the address: #model?start=..."
            )
        if ended and sum(offsets[position] >= len(prompt) - len(self.end) for position in charged) != 1:
            raise InputError(
                f"{self.url}: {self.name} reads {self.end!r} as several tokens, so it is no document's end there; name what is "
                "at the end of the address: #model?start=...&end=..."
            )
        return Likelihood(float(sum(nats)), len(nats), _are_likeliest(logprobs, charged))

    def _prompt_logprobs(self, prompt: str) -> Mapping[str, Any]:
        """Return the `logprobs` object of a prompt's own tokens.

        A server that refuses `max_tokens: 0` is asked for one token more, which stands behind the prompt and is dropped.
        """
        body = {"model": self.name, "prompt": prompt, "echo": True, "logprobs": 1, "temperature": 0, "max_tokens": self._echoed}
        try:
            choice = self.client.post("/completions", body, retry_failures=self._echoes)
        except ServerError as error:
            if error.is_refusal and body["max_tokens"] == 0:
                self._echoed = 1
                return self._prompt_logprobs(prompt)
            if error.is_refusal or (error.status or 0) >= 500:
                raise self._without_logprobs(f" ({error.said[:300]})") from None
            raise
        logprobs = choice.get("logprobs")
        if not isinstance(logprobs, dict):
            raise self._without_logprobs("")
        nats, offsets = logprobs.get("token_logprobs"), logprobs.get("text_offset")
        if not isinstance(nats, list) or not nats or not isinstance(offsets, list) or len(nats) != len(offsets):
            raise self._without_logprobs("")
        self._echoes = True
        own = sum(offset < len(prompt) for offset in offsets)
        return {name: values[:own] for name, values in logprobs.items() if isinstance(values, list)}

    def _without_logprobs(self, why: str) -> InputError:
        return InputError(
            f"{self.url}: {self.name} gives no log-probabilities of a prompt{why}: fields echo and logprobs of the completions "
            "endpoint; use a server that does, such as vLLM, or load the model with hf:"
        )

    def _only_model(self) -> str:
        names = self.client.models()
        if len(names) != 1:
            raise InputError(f"{self.url}: name the model, as {self.url}#model (it has: {', '.join(names) or 'none'})")
        return names[0]


def _are_likeliest(logprobs: Mapping[str, Any], positions: Sequence[int]) -> bool | None:
    """Return whether each of these tokens is the most probable one; None if the server does not say which is."""
    tops = logprobs.get("top_logprobs") or []
    nats = logprobs["token_logprobs"]
    if len(tops) < len(nats) or not all(tops[position] for position in positions):
        return None
    return all(nats[position] >= max(tops[position].values()) for position in positions)
