"""The records of a run, and what each evaluation's records were made from."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phf import artifacts, checksums
from phf.errors import InputError
from phf.layout import RunFolder
from phf.records import Record, read_records, write_records

log = logging.getLogger("phf")


class Journal:
    """`records.jsonl` of a run, and `evaluations.json`: what the records of each evaluation were made from."""

    def __init__(self, out: Path, run: str, step: int) -> None:
        self.folder, self.records = RunFolder(out), RunFolder(out).records
        self.run, self.step = run, step

    def find(self, name: str, made_from: dict[str, Any]) -> list[Record] | None:
        """Return the records of an evaluation; None if it is to be made: it was not, or otherwise, or its files are missing.

        Raises:
            Damaged: if a file of it is not what was written.
        """
        noted = self._notes().get(self._key(name)) if self.records.exists() else None
        if noted is None:
            return None
        if "measure" in noted:  # as phf 0.1 called it
            noted = {"evaluation" if key == "measure" else key: value for key, value in noted.items()}
        found = [record for record in read_records(self.records) if self._is_of(record, name)]
        if found and noted != made_from:
            try:
                artifacts.check_unchanged(self.records, noted, made_from)
            except InputError as change:
                reason = str(change).removeprefix(f"{self.records}: already made from something else: ").split(". Choose")[0]
                log.info("%s of %s at step %d is made again: %s", name, self.run, self.step, reason)
            return None
        for path in (self.folder.samples_of(name, self.step), self.folder.per_example_of(name, self.step)):
            if not path.exists() and path.name in checksums.read(path.parent):
                log.warning("%s of %s at step %d is made again: %s is missing", name, self.run, self.step, path)
                return None
            checksums.verify(path)  # what is left alone is whole
        return found or None

    def add(self, name: str, made_from: dict[str, Any], records: Sequence[Record]) -> None:
        """Write the records of an evaluation in the place of those it had, then what they were made from."""
        old = list(read_records(self.records)) if self.records.exists() else []
        first = next((place for place, record in enumerate(old) if self._is_of(record, name)), None)
        if first is None:
            write_records(self.records, records)
        else:
            rest = [record for record in old[first:] if not self._is_of(record, name)]
            with artifacts.whole_file(self.records, grows=True) as temporary:
                write_records(temporary, [*old[:first], *records, *rest])
        checksums.record(self.records, grows=True)
        artifacts.write_json(self.folder.evaluations, self._notes() | {self._key(name): made_from}, recorded=True)

    def _notes(self) -> dict[str, Any]:
        path = self.folder.find_evaluations()
        return artifacts.read_object(path) if path else {}

    def _key(self, name: str) -> str:
        return f"{self.run} step {self.step} {name}"

    def _is_of(self, record: Record, name: str) -> bool:
        return (record.run, record.step, record.evaluation) == (self.run, self.step, name)
