"""What a scoring process and its supervisor write to each other: JSON, checked by the reader. No code comes with it."""

import dataclasses
import json
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError

from phf.annotate.parts import Part
from phf.corpora import Row

_LONGEST_REASON = 500  # characters


class ProtocolError(Exception):
    """What arrived is no message."""


@dataclass(frozen=True)
class Scored:
    """The segments and rewards of a document.

    Args:
        lengths: (S,) characters of each segment.
        rewards: (C, S) the rewards of each of C scorers; NaN where a segment could not be scored.
    """

    lengths: list[int]
    rewards: list[list[float]]

    def segments(self, text: str) -> list[str]:
        """Cut the document's text into its segments."""
        ends = np.cumsum(self.lengths).tolist()
        return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def columns(self) -> list[np.ndarray]:
        """Return the rewards of each scorer, (S,) float32."""
        return [np.array(column, np.float32) for column in self.rewards]


Outcome = Scored | str
"""What became of a document: its segments and rewards, or why it failed."""


@dataclass
class Request:
    """A part to score and write.

    Args:
        path: of the Parquet file.
        rows: of the part.
        known: what became of rows that another process has scored, by their index in the part.
        alone: indices of rows to score one by one, since one of them brought a process down.
        patient: allow a batch the time of all its documents, since the scorer is slow.
    """

    path: Path
    rows: list[Row]
    known: dict[int, Outcome] = field(default_factory=dict)
    alone: set[int] = field(default_factory=set)
    patient: bool = False


@dataclass(frozen=True)
class Working:
    """The process begins on some rows (none while it loads or writes) and should be heard from within `seconds`."""

    rows: list[int]
    seconds: float
    kind: Literal["working"] = "working"


@dataclass(frozen=True)
class Finished:
    """What became of some rows, by their index in the part."""

    outcomes: dict[int, Outcome]
    kind: Literal["finished"] = "finished"


@dataclass(frozen=True)
class Written:
    """The part is on disk."""

    part: Part
    kind: Literal["written"] = "written"


@dataclass(frozen=True)
class Unusable:
    """A fault that another document would not change."""

    message: str
    kind: Literal["unusable"] = "unusable"


Message = Working | Finished | Written | Unusable

_message: TypeAdapter[Message] = TypeAdapter(Message)


def send(connection: Connection, message: Message | Request | dict[str, Any]) -> None:
    """Write one message."""
    value = message if isinstance(message, dict) else _plain(message)
    connection.send_bytes(json.dumps(value, default=_encoded).encode())


def receive(connection: Connection) -> Message:
    """Read one message of a scoring process.

    Raises:
        ProtocolError: for anything that is none.
    """
    try:
        return _message.validate_json(connection.recv_bytes())
    except ValidationError as error:
        raise ProtocolError(str(error.errors()[0]["msg"])) from None


def receive_request(connection: Connection) -> Request:
    """Read one request of the supervisor."""
    fields = json.loads(connection.recv_bytes())  # not by pydantic, which refuses the surrogates of undecodable file names
    known = {int(row): outcome if isinstance(outcome, str) else Scored(**outcome) for row, outcome in fields["known"].items()}
    rows = [Row(**row) for row in fields["rows"]]
    return Request(Path(fields["path"]), rows, known, set(fields["alone"]), fields["patient"])


def receive_options(connection: Connection) -> Any:
    """Read what the supervisor sends first: the options of annotation, as plain JSON."""
    return json.loads(connection.recv_bytes())


def printable(reason: str) -> str:
    """Return a reason that every file can hold: lone surrogates escaped, at most some hundred characters."""
    text = reason.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 3]}..."


def _plain(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass; those inside it are encoded when they are met."""
    return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}


def _encoded(value: Any) -> Any:
    if isinstance(value, set):
        return sorted(value)
    return str(value) if isinstance(value, Path) else _plain(value)
