"""How a stage says where it is, without knowing who listens: the command line draws it, tests collect it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Progress:
    """One moment of one stage.

    Args:
        stage: what is running, such as "annotate" or "train conditional".
        done: how much is finished, in `unit`.
        total: how much there is, in `unit`; None while it is not known.
        unit: such as "documents" or "tokens".
        facts: what else is worth a look, in the order to show it, such as {"loss": 3.21, "tokens/s": 41000.0}.
    """

    stage: str
    done: float
    total: float | None
    unit: str
    facts: Mapping[str, float | str] = field(default_factory=dict)


Listener = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Listen to nothing."""
