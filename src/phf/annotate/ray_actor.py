"""The actor that scores parts on a node of a Ray cluster, and writes them to the output."""

import json
import socket
import tempfile
from dataclasses import asdict
from pathlib import Path

from phf import config, object_store
from phf.annotate.resources import memory_per_worker
from phf.annotate.supervisor import WorkerSupervisor
from phf.corpora import Row
from phf.errors import InputError
from phf.machine import usable_cores
from phf.ray_cluster import adopt


class ScoringActor:
    """Scores parts in one process, so that the model is loaded once."""

    def __init__(self, options: config.Annotate, folder: str, path: list[str]) -> None:
        adopt(folder, path)
        self._supervisor = WorkerSupervisor(options, options.memory or memory_per_worker(usable_cores()))

    def ready(self) -> None:
        """Return once the actor is up."""

    def score(self, target: str, *portions: list[Row]) -> tuple[str, str, str]:
        """Score a part and write it to a path or address; return its summary as JSON, an InputError's message, and the host."""
        rows = [row for portion in portions for row in portion]
        try:
            if object_store.is_address(target):
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / target.rpartition("/")[2]
                    part = self._supervisor.score_part(path, rows)
                    object_store.upload_file(path, target)
            else:
                part = self._supervisor.score_part(Path(target), rows)
        except InputError as error:
            return "", str(error), socket.gethostname()
        return json.dumps(asdict(part)), "", socket.gethostname()
