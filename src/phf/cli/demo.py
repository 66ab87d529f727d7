"""The command that runs the demo: a recipe that comes with phf, on a corpus that is on this machine already."""

from pathlib import Path
from typing import Annotated

import typer

from phf.cli import stages
from phf.cli.options import AsJson, Overrides, Quiet

RECIPE, FEW = "pii-demo", ["mle", "conditional"]


def demo(
    changes: Overrides = None,
    everything: Annotated[bool, typer.Option("--all", help="All objectives, not only mle and conditional.")] = False,
    out: Annotated[str | None, typer.Option("--out", "-o", help="Folder or address of all outputs.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Try phf: train two small models on this machine's documentation, with and without feedback, and compare them.

        phf demo

        phf demo --all --out work/demo

        phf demo train.tokens=500k

    It is `phf run pii-demo`; nothing is downloaded. Needs the extras pii, sentences and report.
    """
    stages.run(Path(RECIPE), changes, out, None if everything else FEW, dry_run=False, as_json=as_json, quiet=quiet)
