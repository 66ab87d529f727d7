"""The two errors a user can act on. Everything else that is raised is a bug of ours and shows its traceback."""

import importlib
from typing import Any


class InputError(ValueError):
    """Input that cannot be used. The message says what was found, where, what was expected and what to do."""


class MissingExtra(InputError):
    """A component needs a library that is not installed. The message names the extra that installs it."""


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
