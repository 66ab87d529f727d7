"""What training needs to know of a token store beside its files, cached in its folder for all processes and restarts.

There is an index for each (objective, seed, epoch), and a file for each objective whose threshold was resolved. Indexes of older
epochs are deleted. Each (objective, seed) has its own lock, and so has each of those files: nobody waits for another objective's
pass. The cache may be deleted at any time.
"""

import atexit
import dataclasses
import inspect
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from phf import artifacts, checksums
from phf.errors import InputError
from phf.objectives import Objective, complete
from phf.tokens.epoch_index import EpochIndex, changes_data, open_index, write_index
from phf.tokens.permutation import Permutation
from phf.tokens.shard import Rewards, Shard

_FOLDER = "indexes"
_FORMAT = 1

log = logging.getLogger("phf")


def epoch_index(store: Path, shards: Sequence[Shard], objective: Objective, seed: int, epoch: int) -> EpochIndex:
    """Open the index of an epoch; compute it first if no process has.

    Args:
        store: the store's folder.
        shards: of the store.
        objective: with its threshold resolved.
        seed, epoch: decide the order of documents and which control tokens are dropped.
    """
    cache = _cache(store)
    prefix = f"{_name(objective) if changes_data(objective) else 'all'}-seed-{seed}-epoch-"
    folder = cache / f"{prefix}{epoch}"
    made_from = {"format": _FORMAT, "store": _identity(store, shards)}
    order = Permutation(shards[-1].document_stop if shards else 0, seed, epoch)
    _, drop_seed = np.random.SeedSequence([seed, epoch]).spawn(2)
    with artifacts.alone(cache / f".{prefix}lock"):
        if not _is_current(folder, made_from):
            artifacts.sweep(cache, prefix)
            rewards = Rewards(store, shards)
            rewards.verify()
            with artifacts.whole_directory(folder) as temporary, rewards.verified():
                write_index(temporary, shards, objective, order, drop_seed)
                artifacts.write_json(temporary / "made_from.json", made_from)
        for other in cache.glob(f"{prefix}*"):
            if int(other.name.removeprefix(prefix)) < epoch:
                artifacts.remove_directory(other)
        return open_index(folder, order)


def resolve(store: Path, shards: Sequence[Shard], objective: Objective) -> tuple[Objective, str | None]:
    """Resolve and check an objective on a store, see `TokenStore.resolve`."""
    cache = _cache(store)
    path = cache / f"{_name(objective)}.json"
    made_from = {"format": _FORMAT, "store": _identity(store, shards)}
    with artifacts.alone(cache / f".{path.name}.lock"):
        known = _read_resolved(path)
        if known.get("made_from") == made_from:
            return dataclasses.replace(objective, **known["fields"]), known["remark"]  # type: ignore[type-var]
        rewards = Rewards(store, shards)
        with rewards.verified():
            resolved = complete(objective.resolve(rewards))
            remark = resolved.check(rewards)
        fields = {name: value for name, value in vars(resolved).items() if value != vars(objective)[name]}
        artifacts.sweep(cache, f"{path.name}.")
        known = {"made_from": made_from, "fields": fields, "remark": remark}
        artifacts.write_json(path, known | {"checksum": artifacts.fingerprint(known)})
    return resolved, remark


def _read_resolved(path: Path) -> dict[str, Any]:
    """Return what was resolved before; {} if nothing was, or its file, which holds its own checksum, is damaged."""
    try:
        known: dict[str, Any] = json.loads(path.read_bytes())
        return known if known.pop("checksum") == artifacts.fingerprint(known) else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _name(objective: Objective) -> str:
    """Return a name that changes with the objective's class, its fields and its source."""
    kind = type(objective)
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        source = ""
    fields = {name: repr(value) for name, value in vars(objective).items()}
    return f"{kind.__name__.lower()}-{artifacts.fingerprint([kind.__module__, kind.__qualname__, fields, source])}"


def _identity(store: Path, shards: Sequence[Shard]) -> str:
    """Return a fingerprint of the files that the cache is made from, by their sizes and times."""
    files = [store / f"{name}-{number:05d}.npy" for number in range(len(shards)) for name in ("segments", "documents")]
    return artifacts.fingerprint([[file.stat().st_size, file.stat().st_mtime_ns] for file in files])


def _is_current(folder: Path, made_from: dict[str, Any]) -> bool:
    try:
        checksums.verify_folder(folder)
        return bool(artifacts.read_json(folder / "made_from.json") == made_from)
    except InputError:  # missing, or damaged: it is computed again
        return False


_temporary: dict[Path, Path] = {}


def _cache(store: Path) -> Path:
    """Return the folder of the cache: in the store, or a temporary one where the store cannot be written to."""
    folder = store / _FOLDER
    if os.access(folder if folder.exists() else store, os.W_OK):
        folder.mkdir(exist_ok=True)
        return folder
    if store not in _temporary:
        _temporary[store] = Path(tempfile.mkdtemp(prefix="phf-indexes-"))
        atexit.register(shutil.rmtree, _temporary[store], ignore_errors=True)
        log.info("%s cannot be written to: its indexes are computed by every process, in %s", store, _temporary[store])
    return _temporary[store]
