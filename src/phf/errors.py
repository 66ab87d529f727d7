"""Errors that a user can act on: bad input, a missing extra, a stop. Any other exception is a bug and keeps its traceback."""

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
