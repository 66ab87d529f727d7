"""Errors that a user can act on: bad input, a missing extra, a stop. Any other exception is a bug and keeps its traceback."""

import errno
import importlib
from typing import Any


class InputError(ValueError):
    """Input that cannot be used. The message says what was found, where, what was expected and what to do."""


class MissingExtra(InputError):
    """A component needs a library that is not installed. The message names the extra that installs it."""


class Stopped(Exception):
    """A signal asked for a stop; finished work is on disk, and the same command resumes from it.

    Args:
        number: of the signal.
        message: what was stopped, and where.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(number, message)
        self.number = number

    def __str__(self) -> str:
        return f"{self.args[1]}; the same command resumes from there"


def out_of_memory(error: BaseException) -> str | None:
    """Return the first line of what says that memory ran out, in an error or in one that led to it; None if nothing does.

    A library whose files could not be mapped fails as an import that is missing.
    """
    seen: BaseException | None = error
    found = None
    while seen is not None:  # the last is where it began: what was made of it may say that a whole file is damaged
        text = str(seen)
        lacks = isinstance(seen, MemoryError) or getattr(seen, "errno", None) == errno.ENOMEM
        if lacks or any(sign in text for sign in _OF_MEMORY):
            found = next(iter(text.strip().splitlines()), "") or type(seen).__name__
        seen = seen.__cause__ or seen.__context__
    return found


_OF_MEMORY = (
    "failed to map segment from shared object", "cannot allocate memory", "Cannot allocate memory", "not enough memory",
    "CUDA out of memory", "std::bad_alloc", "bad allocation", "memory allocation of", "can't start new thread",
    "Failed to launch worker thread",
)  # fmt: skip
"""What libraries say when memory runs out: the dynamic linker, the C library, PyTorch, C++, Rust, Python and Arrow."""


def require(module: str, extra: str, needed_by: str) -> Any:
    """Import `module`, or raise an error that names the extra which installs it.

    Raises:
        MissingExtra: if `module` is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or module.split(".")[0] != error.name.split(".")[0]:
            raise
        raise MissingExtra(
            f"{needed_by} needs {module.split('.')[0]}, which is not installed. Install it with: pip install 'phf[{extra}]'"
        ) from None
