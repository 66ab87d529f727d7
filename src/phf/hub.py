"""The Hugging Face hub: models and data sets by name, their files on this machine, and its libraries kept quiet."""

import contextlib
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phf.errors import InputError, require

_PATIENCE = 5.0  # seconds for a connection
_SMALL_FILES = ["*.json", "*.txt", "*.model"]
_WEIGHTS = ["*.safetensors", "pytorch_model*.bin"]


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model on the hub.

    Args:
        name: such as "gpt2" or "tomekkorbak/hungry_saha".
        revision: a branch, a tag or a commit; None for the default branch.
    """

    name: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> "HubModel":
        """Read NAME or NAME@REVISION.

        Raises:
            InputError: if the hub cannot have such a name.
        """
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils._validators import validate_repo_id

        name, at, revision = text.partition("@")
        try:
            validate_repo_id(name)
        except HFValidationError as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"hf:{text}: no name on the hub ({reason}); expected hf:NAME or hf:NAME@REVISION") from None
        if at and not revision:
            raise InputError(f"hf:{text}: no revision after @; expected hf:NAME@REVISION, a branch, a tag or a commit")
        return cls(name, revision or None)

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name

    def download(self, weights: bool, code: bool = False) -> Path:
        """Return the folder of the model's files in the hub's cache, downloaded as far as they are missing.

        Args:
            weights: whether weights are needed, or the configuration and the tokenizer alone.
            code: whether its own Python is needed, too.

        Raises:
            InputError: if there is no such model or revision, or the hub cannot be reached and the files are not on this machine.
        """
        from huggingface_hub import snapshot_download

        patterns = [*_SMALL_FILES, *(_WEIGHTS if weights else []), *(["*.py"] if code else [])]
        try:
            with quiet_transformers(), offline_if_unreachable():
                return Path(snapshot_download(self.name, revision=self.revision, allow_patterns=patterns))
        except (OSError, ValueError) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise InputError(
                f"hf:{self}: cannot be downloaded, and is not in this machine's cache ({reason}); check the name, or download it "
                f"where the hub can be reached: hf download {self.name}{f' --revision {self.revision}' if self.revision else ''}"
            ) from None

    def cached(self, weights: bool = True) -> Path | None:
        """Return the folder of the model in the hub's cache, without asking the hub; None if it is not there.

        Args:
            weights: whether its weights have to be there, or its configuration and tokenizer alone.
        """
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(self.name, revision=self.revision, local_files_only=True))
        except (OSError, ValueError):
            return None
        return folder if any(any(folder.glob(pattern)) for pattern in (_WEIGHTS if weights else _SMALL_FILES)) else None


def needs_trust(error: Exception) -> bool:
    """Return whether an error of transformers says that a model or tokenizer has Python of its own, which was not trusted."""
    return isinstance(error, ValueError) and "trust_remote_code" in str(error)


def load_table(
    address: str, configuration: str | None, split: str, columns: Sequence[str], expected: str
) -> list[dict[str, Any]]:
    """Return columns of a data set of the hub, or of a folder that `datasets` can read, row by row.

    Args:
        address: its name, or the folder.
        configuration: the part of it, where it has several.
        split: such as "train".
        columns: names of the columns.
        expected: what to name instead, for errors.

    Raises:
        InputError: if it cannot be read, or lacks a column.
    """
    datasets = require("datasets", "data", f"the data set {address}")
    where = f"hf:{address}: {f'{configuration}, ' if configuration else ''}{split}"
    try:
        with _quiet_datasets(datasets), offline_if_unreachable():
            # The cache of `datasets` does not notice that the files of a folder have changed.
            loaded = datasets.load_dataset(address, configuration, split=split, streaming=Path(address).exists())
            names = loaded.column_names or list(next(iter(loaded), {}))
            missing = [column for column in columns if column not in names]
            rows = [] if missing else list(loaded.select_columns(list(columns)))
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"{where} cannot be read ({reason}); expected {expected}") from None
    if missing:
        raise InputError(f"{where}: no column {missing[0]!r}; found {', '.join(names)}. Expected {expected}")
    return rows


@contextlib.contextmanager
def _quiet_datasets(datasets: Any) -> Iterator[None]:
    """Keep the progress bars of `datasets` off the terminal."""
    enabled = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if enabled:
            datasets.enable_progress_bars()


@contextlib.contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Have the hub's libraries use their caches alone in the block if the hub cannot be reached, so that a name fails at once.

    They would ask again and again, for up to half a minute a file. Behind a proxy they are left to find out by themselves.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or _is_reachable(constants.ENDPOINT):
        yield
        return
    settings = [constants, *filter(None, [sys.modules.get("datasets.config")])]
    for setting in settings:
        setting.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for setting in settings:
            setting.HF_HUB_OFFLINE = False  # type: ignore[attr-defined]


def _is_reachable(endpoint: str) -> bool:
    """Return whether a connection to a server can be opened, or a proxy is to open it."""
    address = urllib.parse.urlsplit(endpoint)
    if address.hostname is None or urllib.request.getproxies().get(address.scheme):
        return True
    try:
        socket.create_connection((address.hostname, address.port or (80 if address.scheme == "http" else 443)), _PATIENCE).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def quiet_transformers(errors_only: bool = False) -> Iterator[None]:
    """Keep transformers' progress bars off the terminal, since phf shows its own; they come back after the block.

    Args:
        errors_only: silence its warnings too, where what they warn of is intended.
    """
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if errors_only:
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
