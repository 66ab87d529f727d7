"""A language model behind an OpenAI-compatible server (vLLM, SGLang, `transformers serve`, hosted): its completions endpoint."""

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import parse_qs

import numpy as np

from phf.errors import InputError, require
from phf.lm.protocol import CONTROL_TOKENS, Completion, Likelihood, Sampling
from phf.tokens.tokenizer import DOCUMENT_START

log = logging.getLogger("phf")

Item = TypeVar("Item")
Result = TypeVar("Result")

_LOGPROBS_AT_ONCE = 16
_WAITS = (2.0, 4.0, 8.0, 16.0, 32.0)
"""Seconds between tries of a sample, after the client's own quick ones, while a server is overloaded or away."""


class OpenAIModel:
    """A model that a server serves. The key is taken from OPENAI_API_KEY.

    What it cannot do from here: ban control tokens (they are only taken out of the text), and, where the server does not know
    the field `min_tokens`, forbid an early end.
    """

    def __init__(self, address: str, control: str | None = None) -> None:
        """Name the model; the server is first asked when the model is used, but for its only model's name where none is given.

        Args:
            address: `http://host:port/v1#model`, or without `#model` where the server has one only. `?start=` and a text at
                the end says what begins a document there, `<|endoftext|>` if not given; nothing, where the server itself
                puts a token before each prompt. `&end=` says what ends one, if that is something else.
            control: put after the document's start, in front of each prompt and text.

        Raises:
            InputError: if the address is none, or the model has to be named.
        """
        openai = require("openai", "eval", "a model behind a server")
        url, _, name = address.partition("#")
        name, _, options = name.partition("?")
        if not url.startswith(("http://", "https://")):
            raise InputError(f"openai:{address}: expected openai:http://host:port/v1#model")
        self.url, self.control = url, control
        said = parse_qs(options, keep_blank_values=True)
        start = said.get("start", [DOCUMENT_START])[0]
        usual = (
            DOCUMENT_START if not start or start.startswith(DOCUMENT_START) else start
        )  # what begins one document ends the last
        self.prefix, self.end = start + (control or ""), said.get("end", [usual])[0]
        self.client = openai.OpenAI(base_url=url, api_key=os.environ.get("OPENAI_API_KEY") or "none", max_retries=2, timeout=600)
        self.name = name or self._only_model()
        self._answered = threading.Event()  # set when the server has answered once: then one that is away may come back
        self._minimum = threading.Event()  # set when the server turned out not to know min_tokens

    def generate(
        self, prompts: Sequence[str], sampling: Sampling, listen: Callable[[int], None] | None = None
    ) -> list[Completion]:
        """Continue each prompt: see `LanguageModel.generate`. `sampling.batch` requests are under way at a time.

        Raises:
            InputError: if the server is down, refuses the key, or answers with an error.
        """

        if sampling.guidance is not None:
            raise InputError(
                f"{self.url}: a server cannot be guided, since guidance needs all logits of two conditions at every token; "
                "load the model from its folder"
            )

        def complete(job: tuple[int, str]) -> Completion:
            index, prompt = job
            # Each sample is a request with a seed of its own: servers give one seed the same text, prompt by prompt.
            seed = (sampling.seed * 1_000_003 + index) % 2**31
            choice = self._complete(self.prefix + prompt, sampling, seed)
            text = choice.text or ""
            for token in (DOCUMENT_START, *CONTROL_TOKENS):
                text = text.replace(token, "")
            return Completion(text, choice.finish_reason == "stop")

        found = self._all(complete, list(enumerate(prompts)), sampling.batch, listen)
        if len(found) > 8 and len(set(prompts)) == 1 and len(set(found)) == 1:
            log.warning("%s: all %d samples are the same text; the server seems not to sample", self.url, len(found))
        return found

    def logprobs(self, texts: Sequence[str]) -> np.ndarray:
        """Give the natural-log probability of each text, as the server's tokenizer cuts it: (N,) float64.

        Raises:
            InputError: as `generate`, and if the server gives no log-probabilities of a prompt.
        """
        return np.array([found.nats for found in self.likelihoods(texts)], np.float64)

    def likelihoods(
        self,
        texts: Sequence[str],
        contexts: Sequence[str] | None = None,
        ended: Sequence[bool] | None = None,
        listen: Callable[[int], None] | None = None,
    ) -> list[Likelihood]:
        """Say how probable each text is after its context, as the server's tokenizer cuts them: see `LanguageModel.likelihoods`.

        Raises:
            InputError: as `logprobs`, and if a document's end is asked for and is not one token there.
        """
        jobs = zip(contexts or [""] * len(texts), texts, ended or [False] * len(texts), strict=True)
        return self._all(self._likelihood, list(jobs), _LOGPROBS_AT_ONCE, listen)

    def _complete(self, prompt: str, sampling: Sampling, seed: int) -> Any:
        import openai

        wanted = {
            "model": self.name,
            "prompt": prompt,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": seed,
        }
        with self._explained():
            if sampling.min_tokens and not self._minimum.is_set():
                try:
                    return self._patiently({**wanted, "extra_body": {"min_tokens": sampling.min_tokens}})
                except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                    if "min_tokens" not in error.response.text:
                        raise
                    if not self._minimum.is_set():
                        self._minimum.set()
                        log.warning("%s: does not know min_tokens; samples may be shorter than %d", self.url, sampling.min_tokens)
            return self._patiently(wanted)

    def _patiently(self, wanted: dict[str, Any]) -> Any:
        """Ask for a sample; wait longer and longer while the server limits the rate, fails, or is away after it had answered."""
        import openai

        for wait in (*_WAITS, None):
            try:
                answer = self.client.completions.create(**wanted)
                self._answered.set()
                return answer.choices[0]
            except (openai.RateLimitError, openai.InternalServerError, openai.APIConnectionError) as error:
                away = isinstance(error, openai.APIConnectionError)
                if wait is None or (away and not self._answered.is_set()):
                    raise
                log.info("%s: %s; trying again in %.0f s", self.url, "no answer" if away else _said(error), wait)
                time.sleep(wait)
        raise AssertionError

    def _likelihood(self, job: tuple[str, str, bool]) -> Likelihood:
        context, text, ended = job
        if not text and not ended:
            return Likelihood(0.0, 0, True)
        import openai

        begin = len(self.prefix) + len(context)
        prompt = self.prefix + context + text + self.end * ended
        with self._explained():
            try:
                answer = self.client.completions.create(
                    model=self.name, prompt=prompt, max_tokens=0, echo=True, logprobs=1, temperature=0
                )
            except (openai.BadRequestError, openai.UnprocessableEntityError, openai.InternalServerError) as error:
                raise self._without_logprobs(f" ({_said(error)})") from None
        found = answer.choices[0].logprobs
        if found is None or not found.token_logprobs or not found.text_offset:
            raise self._without_logprobs("")
        offsets = [*found.text_offset, len(prompt)]
        charged = [
            place
            for place, (offset, end) in enumerate(itertools.pairwise(offsets))
            if (offset >= begin or end > begin) and offset < len(prompt)
        ]
        nats = [found.token_logprobs[place] for place in charged]
        if not nats or None in nats:
            raise InputError(
                f"{self.url}: {self.name} gives no probability for a text's first token, so nothing stands before it; "
                "name what begins a document at the end of the address: #model?start=..."
            )
        if ended and sum(offsets[place] >= len(prompt) - len(self.end) for place in charged) != 1:
            raise InputError(
                f"{self.url}: {self.name} reads {self.end!r} as several tokens, so it is no document's end there; name what is "
                "at the end of the address: #model?start=...&end=..."
            )
        return Likelihood(float(sum(nats)), len(nats), _are_likeliest(found, charged))

    def _without_logprobs(self, why: str) -> InputError:
        return InputError(
            f"{self.url}: {self.name} gives no log-probabilities of a prompt{why}: fields echo and logprobs of the completions "
            "endpoint; use a server that does, such as vLLM, or load the model with hf:"
        )

    def _all(
        self,
        ask: Callable[[Item], Result],
        items: Sequence[Item],
        at_once: int,
        listen: Callable[[int], None] | None,
    ) -> list[Result]:
        """Ask for every item, several at a time; the first error ends it."""
        with ThreadPoolExecutor(max_workers=at_once) as pool:
            try:
                found = []
                for result in pool.map(ask, items):
                    found.append(result)
                    if listen:
                        listen(len(found))
                return found
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _only_model(self) -> str:
        with self._explained():
            names = [model.id for model in self.client.models.list()]
        if len(names) != 1:
            raise InputError(f"{self.url}: name the model, as {self.url}#model (it has: {', '.join(names) or 'none'})")
        return str(names[0])

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what can go wrong with a server into what the user can do about it."""
        import openai

        try:
            yield
        except openai.APITimeoutError:
            raise InputError(f"{self.url}: no answer in time; see what the server is doing, or ask for smaller batches") from None
        except openai.APIConnectionError as error:
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            raise InputError(f"{self.url}: no server answers there{cause}; start it, or correct the address") from None
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise InputError(f"{self.url}: refuses the key ({_said(error)}); set OPENAI_API_KEY to one it accepts") from None
        except openai.NotFoundError as error:
            raise InputError(f"{self.url}: has no model {self.name!r} or no completions endpoint ({_said(error)})") from None
        except openai.APIStatusError as error:
            raise InputError(f"{self.url}: answers with error {error.status_code}: {_said(error)}") from None
        except openai.APIError as error:
            raise InputError(
                f"{self.url}: cannot be understood ({error.message}); expected an OpenAI-compatible server"
            ) from None


def _said(error: Any) -> str:
    """Give what the server said went wrong: OpenAI's `error.message`, FastAPI's `detail`, or its whole answer, shortened."""
    try:
        answer = error.response.json()
        said = answer.get("detail") or answer["error"]["message"]
    except (ValueError, AttributeError, KeyError, TypeError):
        said = error.response.text
    return str(said).strip()[:300]


def _are_likeliest(found: Any, places: Sequence[int]) -> bool | None:
    """Tell whether each of these tokens is the most probable one; None if the server does not say which is."""
    tops = found.top_logprobs or []
    if len(tops) < len(found.token_logprobs) or not all(tops[place] for place in places):
        return None
    return all(found.token_logprobs[place] >= max(tops[place].values()) for place in places)
