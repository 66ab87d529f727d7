"""Requests to an OpenAI-compatible server: retries, waiting as the server asks, and errors that say what to do.

Knows nothing of models or scorers: a body goes out, a JSON object comes back. Whatever else a server sends with status 200
(a page of HTML, an error, an answer without choices) is an error here, too.

For keys and addresses see `phf.credentials`. A key is taken out of what a server says, should it repeat it.
"""

import email.utils
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar

from phf.credentials import api_key, check_url
from phf.errors import InputError, require

log = logging.getLogger("phf")

Item = TypeVar("Item")
Result = TypeVar("Result")

WAITS = (2.0, 4.0, 8.0, 16.0, 32.0)
"""Seconds between tries of a request, after the client's own quick ones, while a server is overloaded or away."""
_LONGEST_WAIT = 300.0
"""Seconds that a server may ask to wait, at most."""
_OVERLOADED = {408, 409, 429}
_SHOWN = 300
"""Characters of what a server said that a message repeats, at most."""


class ServerError(InputError):
    """What a server refused or could not do.

    Args:
        message: for the user.
        said: what the server said, all of it.
        status: the HTTP status, or the one inside an error object; None for an answer that cannot be understood.
    """

    def __init__(self, message: str, said: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.said, self.status = said, status

    @property
    def is_refusal(self) -> bool:
        """Whether the server does not accept a field of the request."""
        return self.status in (400, 422)


class AnswerError(ServerError):
    """An answer that cannot be understood, or did not come in time. The next one may be better."""


class _Overloaded(Exception):
    """An answer to wait for: the request may be sent again."""

    def __init__(self, error: ServerError, wait: float) -> None:
        super().__init__(str(error))
        self.error, self.wait = error, wait


class OpenAIClient:
    """A client of one server. Safe to use from several threads."""

    def __init__(self, url: str, needed_by: str, extra: str = "eval", quick_retries: int = 2, timeout: float = 600.0) -> None:
        """Prepare; nothing is asked yet.

        Args:
            url: `http://host:port/v1`.
            needed_by: what asks, for the message if the library `openai` is not installed.
            extra: which extra of phf installs it.
            quick_retries: of a request, at once, before the long waits. With 0 a request that is answered is one request.
            timeout: seconds that an answer may take.

        Raises:
            InputError: as `check_url` and `api_key`.
            MissingExtra: if `openai` is not installed.
        """
        openai = require("openai", extra, needed_by)
        self.url, self._key = check_url(url), api_key()
        self._client = openai.OpenAI(base_url=url, api_key=self._key, max_retries=quick_retries, timeout=timeout)
        self._answered = threading.Event()  # set when the server has answered once: then one that is away may come back

    def models(self) -> list[str]:
        """Return the names of the models that the server has.

        Raises:
            ServerError: as `post`.
        """
        answer = self._once("GET", "/models", None)
        rows = answer.get("data") if isinstance(answer, dict) else answer
        if not isinstance(rows, list) or not all(isinstance(row, dict) and isinstance(row.get("id"), str) for row in rows):
            raise ServerError(f"{self.url}/models: found {_short(answer)}, expected a list of models, each with an id")
        return [row["id"] for row in rows]

    def post(
        self,
        path: Literal["/completions", "/chat/completions"],
        body: Mapping[str, Any],
        *,
        retry_failures: bool = True,
        on_request: Callable[[], None] | None = None,
        on_answer: Callable[[Any], None] | None = None,
    ) -> Any:
        """Send a request and return the first of the answer's choices, a dict.

        While the server limits the rate, fails, or is away after it had answered, the request is sent again: after `WAITS`,
        or later where the server says so (Retry-After).

        Args:
            path: the endpoint.
            body: what is sent, as JSON.
            retry_failures: False to take a status of 500 and above for the answer; rate limits are waited for all the same.
            on_request: called before each try; an exception that it raises ends them. Without quick retries of the client, a try
                is one request.
            on_answer: called with what the server answered, all of it.

        Raises:
            ServerError: if the server is down, refuses the key or a field, or answers with an error or something else.
        """
        for wait in (*WAITS, None):
            if on_request:
                on_request()
            try:
                answer = self._once("POST", path, body)
                if on_answer:
                    on_answer(answer)
                return self._first_choice(path, answer)
            except _Overloaded as overloaded:
                failed = (overloaded.error.status or 0) >= 500
                if wait is None or (failed and not retry_failures):
                    raise overloaded.error from None
                seconds = min(max(wait, overloaded.wait), _LONGEST_WAIT)
                log.info("%s: %s; trying again in %.0f s", self.url, overloaded.error.said[:_SHOWN] or "no answer", seconds)
                time.sleep(seconds)
        raise AssertionError

    def map(
        self,
        ask: Callable[[Item], Result],
        items: Sequence[Item],
        at_once: int,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Result]:
        """Call `ask` with every item, `at_once` of them at a time, and return the results in order; the first error ends it."""
        with ThreadPoolExecutor(max_workers=at_once) as pool:
            try:
                results = []
                for result in pool.map(ask, items):
                    results.append(result)
                    if on_progress:
                        on_progress(len(results))
                return results
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        """Send one request and return what its answer holds as JSON."""
        import httpx
        import openai

        try:
            if method == "GET":
                response = self._client.get(path, cast_to=httpx.Response)
            else:
                response = self._client.post(path, body=dict(body or {}), cast_to=httpx.Response)
        except openai.APITimeoutError:
            raise self._bad_answer("no answer in time; see what the server is doing, or ask for smaller batches") from None
        except openai.APIConnectionError as error:
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            failure = self._failure(f"no server answers there{cause}; start it, or correct the address")
            raise (_Overloaded(failure, 0.0) if self._answered.is_set() and method == "POST" else failure) from None
        except openai.APIStatusError as error:
            raise self._status_error(error.response, str((body or {}).get("model", "")), method) from None
        except openai.OpenAIError as error:
            raise self._failure(f"cannot be understood ({error}); expected an OpenAI-compatible server") from None
        self._answered.set()
        try:
            return response.json()
        except ValueError:
            raise self._bad_answer(
                f"answers {method} {path} with something else than JSON ({_short(response.text)}); expected an OpenAI-compatible "
                "server, whose address usually ends with /v1"
            ) from None

    def _first_choice(self, path: str, answer: Any) -> Any:
        """Return the first choice of an answer, or raise what the answer says instead."""
        if isinstance(answer, dict) and answer.get("error"):
            error = answer["error"]
            details = error if isinstance(error, dict) else {"message": error}
            said, status = str(details.get("message") or details), _status_inside(details)
            failure = self._failure("answers with an error inside status 200", said, status)
            if status is not None and (status in _OVERLOADED or status >= 500):
                raise _Overloaded(failure, 0.0)
            raise failure
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            wrong = "no choices" if isinstance(answer, dict) else f"a {type(answer).__name__}"
            raise self._bad_answer(f"answers {path} with {wrong} ({_short(answer)}); expected choices with at least one in it")
        return choices[0]

    def _status_error(self, response: Any, model: str, method: str) -> Exception:
        status, said = int(response.status_code), _said(response)
        if status in (401, 403):
            remedy = "set OPENAI_API_KEY, or the file that OPENAI_API_KEY_FILE names, to one it accepts"
            return self._failure(f"refuses the key; {remedy}", said, status)
        if status == 404:
            return self._failure(f"has no model {model!r} or no such endpoint", said, status)
        failure = self._failure(f"answers with error {status}", said, status)
        again = method == "POST" and (status in _OVERLOADED or status >= 500)
        return _Overloaded(failure, _retry_after(response.headers)) if again else failure

    def _bad_answer(self, problem: str) -> AnswerError:
        failure = self._failure(problem)
        return AnswerError(str(failure), failure.said)

    def _failure(self, problem: str, said: str = "", status: int | None = None) -> ServerError:
        said = self._redacted(said.strip())
        shown = f" ({said[:_SHOWN]})" if said else ""
        what, separator, remedy = self._redacted(problem).partition("; ")
        return ServerError(f"{self.url}: {what}{shown}{separator}{remedy}", said, status)

    def _redacted(self, text: str) -> str:
        """Return a text without the key, should a server repeat it."""
        return text if self._key == "none" else text.replace(self._key, "***")


def _said(response: Any) -> str:
    """Return what the server said went wrong: OpenAI's `error.message`, FastAPI's `detail`, or its whole answer."""
    try:
        answer = response.json()
        said = answer.get("detail") or answer["error"]["message"]
    except (ValueError, AttributeError, KeyError, TypeError):
        said = response.text
    return str(said)


def _short(answer: Any) -> str:
    text = answer if isinstance(answer, str) else json.dumps(answer)
    text = " ".join(text.split())
    return repr(text[:80] + "..." * (len(text) > 80))


def _status_inside(error: Mapping[str, Any]) -> int | None:
    """Return the HTTP status that an error object stands for; None if it does not say."""
    for value in (error.get("code"), error.get("status"), error.get("status_code")):
        text = str(value)
        if text.isdigit() and 400 <= int(text) < 600:
            return int(text)
    kind = f"{error.get('type')} {error.get('code')}".lower()
    return 429 if "rate" in kind else 400 if "invalid" in kind else None


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return how many seconds a server asks to wait: a number, or until a date; 0 if it does not say."""
    value = headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0
