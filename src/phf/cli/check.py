"""The command that checks outputs against their checksums."""

import json
from pathlib import Path
from typing import Annotated

import typer

from phf import checksums
from phf.cli.options import say
from phf.errors import InputError


def check(
    folder: Annotated[Path, typer.Argument(help="A folder that phf wrote, or one that holds such folders.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print what was checked as JSON.")] = False,
) -> None:
    """Check every file of outputs against the checksums that were recorded when it was written.

        phf check work

    Reads all of it. Exits with 2 if a file is damaged or missing, naming each.
    """
    result = checksums.check_all(folder)
    damaged = {str(path): problem for path, problem in result.damaged.items()}
    unchecked = [str(path) for path in result.unchecked]
    if as_json:
        counts = {"folders": result.folders, "files": result.files, "bytes": result.bytes}
        say(json.dumps(counts | {"damaged": damaged, "unchecked": unchecked}, indent=2))
    else:
        say(f"Checked: {result.files:,} files in {result.folders:,} folders, {result.bytes:,} bytes")
        if unchecked:
            say(f"Not checked: {len(unchecked):,} files without a checksum, such as {unchecked[0]}")
    if damaged:
        first = next(iter(result.damaged))
        others = "".join(f"\n{path}: {problem}" for path, problem in list(damaged.items())[1:])
        raise InputError(checksums.describe(first, result.damaged[first]) + others)
