"""Where sentences start, exactly as spaCy's tokenizer and sentencizer say, asking spaCy only about words that can matter.

The sentencizer starts a sentence at the first token, neither punctuation nor a stop, that follows a stop ('.', '!', '?'
and their kin) which is a token of its own. The tokenizer cuts every word (a run without white space) without looking at
its neighbours, but where the tokens on both sides of a blank spell an emoticon. So only words that hold a stop, and the
words after them, have to be tokenized, and each of them once. Words of more than 1,000 characters, which spaCy's patterns
take minutes for (their time grows with the square of the length), are taken as one token and the stop at their end.
"""

import functools
import re
from typing import Any

from phf.errors import InputError, require

_VISIBLE = re.compile(r"\S")
_SPACE = re.compile(r"\s")
_REMEMBERED = 100_000  # words
_LONGEST = 1000  # characters
_CLOSING = "\"'”’»)]}"

Walk = tuple[list[int], bool]
"""Where sentences start in a word, in characters of it, and whether the next token starts one."""


def sentence_starts(language: str, text: str) -> list[int]:
    """Find the first visible character of each sentence, but for the first sentence.

    Raises:
        InputError: for a language spaCy does not know; MissingExtra if spaCy is not installed.
    """
    rules = _rules(language)
    if rules.stop is None:
        return _plainly(rules.pipeline, text)
    starts: list[int] = []
    here = 0
    waiting = False  # for the token that starts a sentence
    while True:
        if not waiting:
            stop = rules.stop.search(text, here)
            if stop is None:
                return starts
            first = _word_start(text, here, stop.start())
        else:
            visible = _VISIBLE.search(text, here)
            if visible is None:
                return starts
            first = visible.start()
            if first - here > 1 or (first > here and text[here] != " "):
                starts.append(first)  # white space beyond one blank is a token, and starts the sentence
                waiting = False
                here = first
                continue
        space = _SPACE.search(text, first)
        here = space.start() if space else len(text)
        word = text[first:here]
        if waiting and word.isalnum():
            starts.append(first)
            waiting = False
        else:
            found, waiting = rules.walks(word)[waiting]
            starts.extend(first + offset for offset in found)


def _word_start(text: str, begin: int, end: int) -> int:
    """Find where the word that reaches up to `end` starts, not before `begin`."""
    reach = 64
    while True:
        tail = text[max(begin, end - reach) : end]
        if not tail or tail[-1].isspace():
            return end
        last = tail.rsplit(None, 1)[-1]
        if len(last) < len(tail) or len(tail) == end - begin:
            return end - len(last)
        reach *= 8


def _plainly(pipeline: Any, text: str) -> list[int]:
    """Ask spaCy about the whole text."""
    from spacy.attrs import IDX, SENT_START

    with pipeline.memory_zone():  # else spaCy remembers every word it has ever seen
        document = pipeline.get_pipe("sentencizer")(pipeline.tokenizer(text))
        positions, starts = document.to_array([IDX, SENT_START]).reshape(-1, 2).T
    found = [_VISIBLE.search(text, start) for start in positions[starts == 1].tolist()[1:]]
    return [match.start() for match in found if match]


class _Rules:
    """spaCy's rules for one language, and what they have said of words."""

    def __init__(self, language: str) -> None:
        spacy = require("spacy", "sentences", "the segmenter 'sentences'")
        try:
            self.pipeline = spacy.blank(language)
        except ImportError:
            raise InputError(f"sentences.language: spaCy has no language {language!r}; expected a code such as 'en'") from None
        sentencizer = self.pipeline.add_pipe("sentencizer")
        self._stops: set[str] = sentencizer.punct_chars
        tokenizer = self.pipeline.tokenizer
        # A tokenizer of another kind, or one with rules that reach over white space, has to see the whole text.
        wordwise = type(tokenizer) is spacy.tokenizer.Tokenizer and not any(
            _VISIBLE.search(rule) and _SPACE.search(rule) for rule in tokenizer.rules
        )
        self.stop = re.compile(f"[{re.escape(''.join(self._stops))}]") if wordwise else None
        self.walks = functools.lru_cache(_REMEMBERED)(self._walks)

    def _walks(self, word: str) -> tuple[Walk, Walk]:
        """Walk through the tokens of a word, once as after another word and once as after a stop."""
        if len(word) > _LONGEST:
            ends = word.rstrip(_CLOSING)[-1:] in self._stops
            return ([], ends), ([0], ends)
        with self.pipeline.memory_zone():
            tokens = [(token.idx, token.text in self._stops, token.is_punct) for token in self.pipeline.tokenizer(word)]
        return self._walk(tokens, False), self._walk(tokens, True)

    @staticmethod
    def _walk(tokens: list[tuple[int, bool, bool]], waiting: bool) -> Walk:
        starts = []
        for offset, is_stop, is_punctuation in tokens:
            if waiting and not is_punctuation and not is_stop:
                starts.append(offset)
                waiting = False
            elif is_stop:
                waiting = True
        return starts, waiting


_rules = functools.cache(_Rules)
