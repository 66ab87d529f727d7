"""The check of a token store against its checksums, in the background while a model is trained on it."""

import logging
import threading
from pathlib import Path

from phf import checksums
from phf.checksums import Checksum
from phf.tokens import TokenStore

log = logging.getLogger("phf")

_PAUSE = 3.0
"""Seconds of rest for each second of reading, so that training keeps its speed; none once it waits for the end."""


class StoreCheck:
    """Reads every file of a token store once and compares it with its checksum; indexes are compared when they are opened.

    Args:
        store: the store.
    """

    def __init__(self, store: TokenStore) -> None:
        self._store = store
        self._hurry, self._stop = threading.Event(), threading.Event()
        self._problem = ""
        self._thread = threading.Thread(target=self._run, name="phf store check", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """End early, as training does."""
        self._stop.set()
        self._hurry.set()
        if self._thread.is_alive():
            self._thread.join()

    def problem(self, wait: bool) -> str:
        """Return what is wrong with the store, as far as it was read; "" if nothing is.

        Args:
            wait: read to the end first.
        """
        if wait and self._thread.is_alive():
            self._hurry.set()
            self._thread.join(timeout=1)
            if self._thread.is_alive():
                log.info("%s: checked to its end before the last checkpoint is saved", self._store.path)
                self._thread.join()
        return self._problem

    def _run(self) -> None:
        try:
            for folder in self._store.folders:
                for name, checksum in checksums.read(folder).items():
                    if self._stop.is_set():
                        return
                    self._check(folder / name, checksum)
        except checksums.Damaged as error:
            self._problem = str(error)
        except OSError as error:
            self._problem = f"{error.filename or self._store.path}: cannot be read ({error.strerror or error})"

    def _check(self, path: Path, checksum: Checksum) -> None:
        problem = checksum.problem(path, on_piece=self._rest)
        if problem:
            raise checksums.Damaged(checksums.describe(path, problem))

    def _rest(self, seconds: float) -> None:
        """Wait after a piece that took so many seconds to read."""
        if not self._hurry.is_set():
            self._hurry.wait(_PAUSE * seconds)
