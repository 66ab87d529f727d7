"""Break-outs from the sandbox for code that a model wrote."""

from collections.abc import Iterator
from pathlib import Path

from attacks.forked import call
from attacks.inputs import Attempt


def breakouts(seed: int, folder: Path) -> Iterator[Attempt]:
    """Try all escape probes in the sandbox that this system allows; one check runs every one of them."""
    from phf import sandbox

    outcome = call(sandbox.check, 60)
    what = f"{len(sandbox.PROBES)} break-outs"
    yield what, outcome, "" if outcome.is_clean else f"status {outcome.status}: {outcome.output[-300:]}"
