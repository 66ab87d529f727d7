"""Progress of a stage, passed to a callback: the command line shows it, tests collect it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of one stage at one moment.

    Args:
        stage: what is running, such as "annotate" or "train conditional".
        done: how much is finished, in `unit`.
        total: how much there is, in `unit`; None while it is not known.
        unit: such as "documents" or "tokens".
        facts: further numbers, in the order to show them, such as {"loss": 3.21, "tokens/s": 41000.0}.
    """

    stage: str
    done: float
    total: float | None
    unit: str
    facts: Mapping[str, float | str] = field(default_factory=dict)


Listener = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Ignore progress."""
