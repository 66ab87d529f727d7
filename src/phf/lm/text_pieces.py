"""The text of samples, handed out while their tokens are sampled."""

from collections.abc import Callable


class TextPieces:
    """Passes samples on as text while their tokens are sampled, in whole characters."""

    def __init__(self, decode: Callable[[int, list[int]], str], on_token: Callable[[int, str], None]) -> None:
        """Prepare.

        Args:
            decode: returns the text of a sample, by its position in the list and its tokens.
            on_token: called with a sample's position in the list and each new piece of its text.
        """
        self.decode, self.on_token = decode, on_token
        self.tokens: dict[int, list[int]] = {}
        self.passed_on: dict[int, int] = {}

    def __call__(self, index: int, token: int | None) -> None:
        """Take the next token of a sample; None when it has ended."""
        tokens = self.tokens.setdefault(index, [])
        if token is not None:
            tokens.append(token)
        text = self.decode(index, tokens)
        length = self.passed_on.get(index, 0)
        # The last character may be the first bytes of one that the next token completes.
        if len(text) > length and (token is None or not text.endswith("\ufffd")):
            self.on_token(index, text[length:])
            self.passed_on[index] = len(text)
