"""What a user can act on: bad input, a missing extra, a stop. All else that is raised is a bug and shows its traceback."""

import importlib
from typing import Any


class InputError(ValueError):
    """Input that cannot be used. The message says what was found, where, what was expected and what to do."""


class MissingExtra(InputError):
    """A component needs a library that is not installed. The message names the extra that installs it."""


class Stopped(Exception):
    """A signal asked for a stop; what was done is on disk, and the same command goes on from there.

    Args:
        number: of the signal.
        message: what was stopped, and where.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(number, message)
        self.number = number

    def __str__(self) -> str:
        return f"{self.args[1]}; the same command goes on from there"


def require(module: str, extra: str, needed_by: str) -> Any:
    """Import `module`, or say which extra installs it.

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
