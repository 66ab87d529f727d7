"""The journal of an annotation: one line for each part that is finished, and the list of documents that failed."""

import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from phf import checksums
from phf.annotate.parts import Part, part_from_json, part_name
from phf.artifacts import whole_file, whole_lines
from phf.errors import InputError

JOURNAL = "journal.jsonl"
QUARANTINE = "quarantine.jsonl"


class Journal:
    """The finished parts of an annotated corpus.

    Args:
        out: the folder of the corpus.

    Attributes:
        parts: by number, those whose files are there with their sizes.

    Raises:
        InputError: for a journal that phf did not write.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self.parts: dict[int, Part] = {}
        for index, part in _read(out / JOURNAL):
            if part.is_at(out / part_name(index)):
                self.parts[index] = part
            else:
                self.parts.pop(index, None)

    def is_whole(self, names: Sequence[str]) -> bool:
        """Return whether all of these parts are finished."""
        return {part_name(index) for index in self.parts} >= set(names)

    def add(self, index: int, part: Part) -> None:
        """Note a part that is on disk."""
        line = json.dumps({"part": index, **dataclasses.asdict(part)}, ensure_ascii=False)
        with (self._out / JOURNAL).open("ab") as file:
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.parts[index] = part

    def write_quarantine(self) -> None:
        """List the documents that failed, in the order of the corpus."""
        with whole_file(self._out / QUARANTINE) as temporary, temporary.open("w", encoding="utf-8") as file:
            for index in sorted(self.parts):
                for name, reason in self.parts[index].failures:
                    line = {"id": name, "reason": reason, "part": part_name(index)}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def totals(self) -> dict[str, Any]:
        """Return what the manifest holds of the parts: file names, seconds, and library versions."""
        order = sorted(self.parts)
        return {
            "seconds": sum(part.seconds for part in self.parts.values()),
            "parts": [part_name(index) for index in order],
            "versions": {name: value for index in order for name, value in self.parts[index].versions.items()},
            "journal": JOURNAL,
        }

    def record_checksums(self) -> None:
        """Record the checksums of the finished parts, as their writers took them, and of the journal and the quarantine."""
        parts = {part_name(index): part.checksum for index, part in self.parts.items()}
        checksums.write(self._out, {name: checksum for name, checksum in parts.items() if checksum is not None})
        checksums.record(self._out / JOURNAL, grows=True)
        checksums.record(self._out / QUARANTINE)


def _read(path: Path) -> Iterator[tuple[int, Part]]:
    """Read the parts that earlier runs finished, in order. A line that was never whole is cut off."""
    for number, line in enumerate(whole_lines(path, cut=True), start=1):
        try:
            yield int(json.loads(line)["part"]), part_from_json(line)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{path}, line {number}: not a line that phf wrote ({error!r}); delete {path.parent} and annotate again"
            ) from None
