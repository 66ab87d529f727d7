"""What a judge answered: text, numbers, labels and their probabilities. What cannot be understood is unknown, never a guess."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?![\w.]*\d)")
_OUT_OF = re.compile(r"\s*(?:/|out of)\s*\d+(?:\.\d+)?")


def fingerprint(question: Any) -> str:
    """Return 32 hex digits of a question and how its answer is read."""
    text = json.dumps(question, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def content(choice: Mapping[str, Any]) -> str:
    """Return the text of a chat answer; "" if it has none."""
    message = choice.get("message")
    text = message.get("content") if isinstance(message, Mapping) else None
    return text.strip() if isinstance(text, str) else ""


def usage(answer: Any) -> tuple[int, int] | None:
    """Return the tokens of question and answer that a server counted; None if it does not say."""
    counted = answer.get("usage") if isinstance(answer, Mapping) else None
    if not isinstance(counted, Mapping):
        return None
    tokens = counted.get("prompt_tokens"), counted.get("completion_tokens")
    return (tokens[0], tokens[1]) if all(isinstance(each, int) and each >= 0 for each in tokens) else None  # type: ignore[return-value]


def number(text: str) -> float | None:
    """Return the only number of an answer ("7", "7/10", "**7**", "Score: 7"); None if there are none or several."""
    numbers = set(map(float, _NUMBER.findall(_OUT_OF.sub("", text))))
    return numbers.pop() if len(numbers) == 1 else None


def label_reward(text: str, labels: Mapping[str, float]) -> float:
    """Return the reward of the label that an answer is, or the only one it names, whatever the case; NaN if unclear."""
    folded = text.casefold()
    named = {name for name in labels if re.search(rf"(?<!\w){re.escape(name.casefold())}(?!\w)", folded)}
    longest = {name for name in named if not any(name != other and name.casefold() in other.casefold() for other in named)}
    return labels[longest.pop()] if len(longest) == 1 else math.nan


def expected_reward(choice: Mapping[str, Any], labels: Mapping[str, float]) -> float:
    """Return the mean reward of labels, weighted by the probabilities of their first tokens; NaN if none is listed."""
    try:
        listed = [(str(each["token"]), float(each["logprob"])) for each in choice["logprobs"]["content"][0]["top_logprobs"]]
    except (KeyError, IndexError, TypeError, ValueError):
        return math.nan
    weights = dict.fromkeys(labels, 0.0)
    for token, logprob in listed:
        start = token.strip().casefold()
        matching = [name for name in labels if start and name.casefold().startswith(start)]
        if len(matching) == 1:
            weights[matching[0]] += math.exp(logprob)
    total = sum(weights.values())
    return sum(weights[name] * labels[name] for name in labels) / total if total > 0 else math.nan
