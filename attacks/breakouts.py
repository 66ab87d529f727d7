"""Break-outs from the sandbox for code that a model wrote."""

from collections.abc import Iterator
from pathlib import Path

from attacks.forked import call
from attacks.inputs import Attempt


def breakouts(seed: int, folder: Path) -> Iterator[Attempt]:
    """Run each escape probe in the sandbox that this system allows."""
    from phf import sandbox

    for name in sandbox.PROBES:
        outcome = call(sandbox.check, 60)
        yield f"break-out: {name}", outcome, "" if outcome.is_clean else f"status {outcome.status}: {outcome.output[-300:]}"
        break  # one check tries every probe
