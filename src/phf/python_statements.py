"""Where a program that was cut off after some line can end."""

import ast
import codeop
import io
import tokenize
import warnings
from collections.abc import Iterator

_MAY_GO_ON = ast.PyCF_ONLY_AST | codeop.PyCF_ALLOW_INCOMPLETE_INPUT | codeop.PyCF_DONT_IMPLY_DEDENT  # type: ignore[attr-defined]
"""Flags under which the parser says "incomplete input" of what is no program yet, and anything else of what cannot become one."""


def whole_statements(text: str) -> str:
    """Return the beginning of a program that is whole: without the statement that it stops in, and without blank lines behind.

    A program stops in a statement if it ends within brackets or a string of several lines, after a backslash, or where a block
    has its first line and no body yet. One with an error before its end keeps what it has: more lines would not mend it.

    Args:
        text: the first lines of a program, the last one whole.
    """
    if _is_incomplete(text):
        lines = text.split("\n")
        parts = ("\n".join(lines[:row]) + "\n" for row in reversed(list(_statement_ends(text))))
        text = next((part for part in parts if not _is_incomplete(part)), "")
    kept = text.rstrip()
    return kept + text[len(kept) :].partition("\n")[0] + "\n" if kept else ""


def _is_incomplete(text: str) -> bool:
    """Return whether lines that follow could make a program of a text that is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as invalid escapes
            compile(text, "<sample>", "exec", _MAY_GO_ON, dont_inherit=True)
    except SyntaxError as error:
        return "incomplete input" in str(error)
    except (ValueError, OverflowError, RecursionError, MemoryError):
        pass  # no program, whatever follows
    return False


def _statement_ends(text: str) -> Iterator[int]:
    """Yield the row, from 1, of each line that ends a statement or begins a block, as far as tokens can be read."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NEWLINE:
                yield token.start[0]
    except (tokenize.TokenError, SyntaxError):
        return
