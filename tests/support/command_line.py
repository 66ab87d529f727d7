"""The phf command run in this process, as the shell runs it."""

import contextlib
import io
import sys

import pytest

from phf.cli import main


def phf(*arguments, cwd, code=0, stdin="", columns=200):
    """Run the command; give what it wrote to standard output and error."""
    said, warned = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(warned),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("COLUMNS", str(columns))
        patch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as exited:
            main([str(argument) for argument in arguments])
            sys.exit(0)
    assert (exited.value.code or 0) == code, f"exit {exited.value.code}\n{said.getvalue()}\n{warned.getvalue()}"
    return said.getvalue(), warned.getvalue()
