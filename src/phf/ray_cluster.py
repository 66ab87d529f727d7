"""A Ray cluster: connecting to it, and taking on in its processes what the one that started them has."""

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from phf.errors import InputError, require


@contextlib.contextmanager
def connected(address: str | None, needed_by: str) -> Iterator[Any]:
    """Connect to a Ray cluster, or start Ray on this machine, and leave it afterwards; yield the module `ray`.

    A connection that there is already is used, and left as it is.

    Args:
        address: of the cluster; None for that of RAY_ADDRESS or the one that runs here, else for a new one on this machine.
        needed_by: the key of the recipe that asks for Ray, for errors.

    Raises:
        InputError: if there is no cluster at the address, or Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = require("ray", "ray", needed_by)
    logging.getLogger("ray").setLevel(logging.ERROR)
    started = not ray.is_initialized()
    if started:
        check_address(address)
        try:
            ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"annotate.address={address}: no Ray cluster there: {error}") from None
    try:
        yield ray
    finally:
        if started:
            ray.shutdown()


def check_address(address: str | None) -> None:
    """Probe the address first; Ray retries for minutes if nothing listens.

    Raises:
        InputError: if nothing does.
    """
    host, _, port = (address or "").rpartition("//")[2].rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise InputError(f"annotate.address={address}: no Ray cluster there: {error}") from None


def surroundings() -> tuple[str, list[str]]:
    """Return the working folder and the import path of this process, for `adopt` in another."""
    return str(Path.cwd()), list(sys.path)


def adopt(folder: str, path: list[str]) -> None:
    """Take on the working folder and the import path of the process that started Ray, where they exist here."""
    if Path(folder).is_dir():
        os.chdir(folder)
    sys.path.extend(entry for entry in path if entry not in sys.path)
