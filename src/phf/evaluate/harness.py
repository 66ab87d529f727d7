"""lm-evaluation-harness: a language model as it asks for one, its random numbers fixed, and its output kept off the terminal."""

import contextlib
import io
import logging
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from phf.errors import InputError
from phf.evaluate.protocol import EvalContext
from phf.lm import LanguageModel, Sampling

_GREEDY = 1e-6  # top_p that leaves the most probable token alone
_LONGEST = 256  # tokens to generate where a task does not say; the harness's own default


def adapter(model: LanguageModel, batch: int, setting: EvalContext, aloud: Callable[[], Any]) -> Any:
    """Return a language model as the harness's own class, which is imported here, since it is an extra.

    Args:
        model: the model.
        batch: texts written in one forward pass, or requests at a time.
        setting: for the seed and for progress.
        aloud: a context in which phf's own output reaches the terminal; see `quiet`.
    """
    from lm_eval.api.model import LM

    class Adapter(LM):  # type: ignore[misc]
        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            likelihoods = self._ask([request.args[1] for request in requests], [request.args[0] for request in requests])
            if any(likelihood.greedy is None for likelihood in likelihoods):
                raise InputError(
                    "the server does not say which token is the most probable one (top_logprobs), so no task's accuracy"
                )
            return [(likelihood.nats, bool(likelihood.greedy)) for likelihood in likelihoods]

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            return [likelihood.nats for likelihood in self._ask([request.args[0] for request in requests], None)]

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            kinds: dict[str, list[int]] = {}
            for row, request in enumerate(requests):
                kinds.setdefault(repr(sorted(request.args[1].items())), []).append(row)
            texts = [""] * len(requests)
            with aloud():
                for rows in kinds.values():
                    asked = dict(requests[rows[0]].args[1])
                    sampling = _sampling(asked, batch, setting.seed)
                    contexts = [requests[row].args[0] for row in rows]
                    completions = model.generate(contexts, sampling, lambda done: setting.report(done, len(requests), "texts"))
                    for row, text in zip(rows, completions, strict=True):
                        texts[row] = _until(text, asked.get("until"))
            return texts

        def _ask(self, texts: Sequence[str], contexts: Sequence[str] | None) -> Any:
            with aloud():
                return model.likelihoods(texts, contexts, on_progress=lambda done: setting.report(done, len(texts), "texts"))

    return Adapter()


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Fix the global generators that tasks sample from, and put them back."""
    states = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _sampling(asked: Mapping[str, Any], batch: int, seed: int) -> Sampling:
    """Return the sampling that the harness asks for."""
    longest = int(asked.get("max_gen_toks") or asked.get("max_new_tokens") or asked.get("max_tokens") or _LONGEST)
    temperature = float(asked.get("temperature") or 0.0)
    if not asked.get("do_sample", temperature > 0) or temperature == 0:
        return Sampling(1.0, _GREEDY, 0, longest, seed, batch)
    return Sampling(temperature, float(asked.get("top_p") or 1.0), 0, longest, seed, batch)


def _until(text: str, stops: Any) -> str:
    """Return a text up to the first of the strings that end it."""
    for stop in [stops] if isinstance(stops, str) else stops or []:
        if stop:
            text = text.split(stop)[0]
    return str(text)


@contextlib.contextmanager
def quiet() -> Iterator[Callable[[], Any]]:
    """Keep what the harness prints and logs off the terminal; yield a context in which phf's own output reaches it."""
    logger, level = logging.getLogger("lm_eval"), logging.getLogger("lm_eval").level
    logger.setLevel(logging.ERROR)
    out, err = sys.stdout, sys.stderr
    # A pool of processes for a thousand resamples costs more than it saves, and may not be begun from where signals are handled.
    before = os.environ.get("DISABLE_MULTIPROC")
    os.environ["DISABLE_MULTIPROC"] = "1"

    @contextlib.contextmanager
    def aloud() -> Iterator[None]:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield

    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield aloud
    finally:
        logger.setLevel(level)
        if before is None:
            del os.environ["DISABLE_MULTIPROC"]
        else:
            os.environ["DISABLE_MULTIPROC"] = before
