"""How a document or a prompt becomes tokens: its start, the control token where it belongs, each segment tokenised apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from phf import plugins
from phf.errors import InputError
from phf.lm.protocol import Placement
from phf.lm.resolve import Checkpoint
from phf.segmenters import recorded_fields
from phf.tokens import document_start, encode


@dataclass(frozen=True, slots=True)
class Stream:
    """The tokens of a document without its prefix.

    Args:
        tokens: the segments' tokens, control tokens between them where there are any.
        owners: for each token the number of its segment; -1 for a control token that is conditioned on.
    """

    tokens: list[int]
    owners: list[int]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the model reads it.

    Args:
        tokens: its tokens, document start and control token among them.
        removed: how many tokens it lost on its left to fit the context.
        limit: tokens that may follow it.
    """

    tokens: list[int]
    removed: int
    limit: int


class DocumentEncoder:
    """Encodes texts for one checkpoint and one control token, as its training documents were encoded."""

    def __init__(self, checkpoint: Checkpoint, tokenizer: Any, control: str | None, context: int | None) -> None:
        """Look up the control tokens.

        Args:
            checkpoint: whose control tokens and segmenter to use.
            tokenizer: its tokenizer.
            control: the control token conditioned on; None for none, and then all of them are banned.
            context: tokens that the model reads at most; None for no limit.

        Raises:
            InputError: if the tokenizer lacks a control token of the checkpoint, or has no token that begins a document.
        """
        self.checkpoint, self.tokenizer, self.context = checkpoint, tokenizer, context
        self.start = _document_start(checkpoint, tokenizer)
        vocabulary = tokenizer.get_vocab()
        for token in checkpoint.control_tokens:
            if token not in vocabulary:
                raise InputError(f"{checkpoint}: its tokenizer lacks the control token {token}, which it is said to have")
        self.controls: list[int] = [vocabulary[token] for token in checkpoint.control_tokens]
        self.control_id: int | None = None if control is None else vocabulary[control]

    def segments(self, text: str) -> list[str]:
        """Cut a text as the training documents were cut; one segment if it is not known how."""
        name = self.checkpoint.segmenter
        if not text:
            return []
        if name is None or name not in plugins.available("segmenters"):
            return [text]
        fields = recorded_fields(name, self.checkpoint.segmenter_fields)
        segments: list[str] = plugins.build("segmenters", name, fields).segment(text)
        return segments

    def banned(self, placement: Placement) -> list[int]:
        """Return the control tokens that the model may not write: all at "start", all but its own at "every"."""
        return [token for token in self.controls if placement == "start" or token != self.control_id]

    def prefix(self, placement: Placement) -> list[int]:
        """Return what every window of a document begins with: the document start, and at "start" the control token."""
        if self.control_id is None or placement == "every":
            return [self.start]
        return [self.start, self.control_id]

    def documents(self, documents: Sequence[Sequence[str]], placement: Placement) -> list[Stream]:
        """Tokenise documents, each in segments, all in one call of the tokenizer."""
        tokens = iter(encode(self.tokenizer, [segment for document in documents for segment in document]))
        return [self._join([next(tokens) for _ in document], placement) for document in documents]

    def prompt(self, text: str, placement: Placement, max_tokens: int, count_prompt: bool = False) -> Prompt:
        """Tokenise a prompt, cut on its left if the context cannot hold all of it and what may follow.

        Args:
            text: the prompt.
            placement: where the control token stands.
            max_tokens: tokens that may follow.
            count_prompt: whether `max_tokens` counts those of the prompt too, control tokens in it among them.

        Raises:
            InputError: if the context cannot hold `max_tokens` alone.
        """
        (stream,) = self.documents([self.segments(text)], placement)
        body = stream.tokens
        writes_control = placement == "every" and self.control_id is not None
        if not body and writes_control and self.control_id is not None:
            body = [self.control_id]
        prefix = self.prefix(placement)
        limit = max(1, max_tokens - len(stream.tokens)) if count_prompt else max_tokens
        if self.context is None:
            return Prompt(prefix + body, 0, limit)
        least = len(prefix) + writes_control
        if least + max_tokens > self.context:
            raise InputError(
                f"{self.checkpoint}: max_tokens is {max_tokens}, but the model reads {self.context} tokens at most; "
                f"set it to {self.context - least} or less"
            )
        removed = max(0, len(body) - (self.context - limit - len(prefix)))
        return Prompt(prefix + body[removed:], removed, limit)

    def tokens_left(self, text: str, placement: Placement) -> int | None:
        """Return how many tokens the context holds behind a prompt, 0 or less if it is too long; None for no limit."""
        if self.context is None:
            return None
        prompt = self.prompt(text, placement, 1)
        return self.context - len(prompt.tokens) - prompt.removed

    def decode(self, prompt: Sequence[int], tokens: Sequence[int]) -> str:
        """Return the text of what follows the prompt. Decoded with it, since some tokenizers drop a text's first space."""
        special = {self.start, *self.controls, *self.tokenizer.all_special_ids}
        before = [token for token in prompt if token not in special]
        after = [token for token in tokens if token not in special]
        head, whole = self._text(before), self._text(before + after)
        return whole[len(head) :] if whole.startswith(head) else self._text(after)

    def _join(self, segments: Sequence[Sequence[int]], placement: Placement) -> Stream:
        """Join the segments of a document, at "every" with the control token in front of each; the first has no owner."""
        tokens: list[int] = []
        owners: list[int] = []
        for number, segment in enumerate(segments):
            if placement == "every" and segment and self.control_id is not None:
                owners.append(number if tokens else -1)
                tokens.append(self.control_id)
            tokens += segment
            owners += [number] * len(segment)
        return Stream(tokens, owners)

    def _text(self, tokens: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text


def _document_start(checkpoint: Checkpoint, tokenizer: Any) -> int:
    """Return the token that documents begin with: what training noted or the user says, else that of the tokenizer."""
    start = checkpoint.document_start
    if start is None:
        return document_start(tokenizer)
    vocabulary = tokenizer.get_vocab()
    token = start if isinstance(start, int) else {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id}.get(start)
    token = vocabulary.get(start) if token is None else token
    if token is None or token not in vocabulary.values():
        raise InputError(f"{checkpoint}: its documents are said to begin with {start!r}, which its tokenizer does not have")
    return int(token)
