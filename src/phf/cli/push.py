"""The command that uploads a checkpoint or an annotated corpus to the Hugging Face hub, with a card."""

from pathlib import Path
from typing import Annotated

import typer

from phf.cli.options import AsJson, say, say_json


def push(
    source: Annotated[str, typer.Argument(help="A run's folder, RUN@STEP, or a folder that annotate wrote.")],
    name: Annotated[str, typer.Argument(help="OWNER/NAME on the hub; made if it does not exist.")],
    revision: Annotated[str | None, typer.Option(help="Branch to push to, made if it does not exist.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make it private; an existing public one is refused.")] = False,
    data_license: Annotated[
        str | None, typer.Option(help="Licence of the data, such as cc-by-4.0, or any text; stands in the card as given.")
    ] = None,
    card: Annotated[Path | None, typer.Option(help="Push this card instead of the generated one.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the folder to --out; upload nothing, ask nothing.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for --dry-run; hub/OWNER--NAME by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Upload a run's checkpoint or an annotated corpus to the Hugging Face hub, with a card.

        phf push work/runs/conditional me/conditional --dry-run

        phf push work/runs/conditional me/conditional --private --data-license cc-by-4.0

        phf push work/annotated me/annotated

    The card says what it was trained on, how to use the control tokens, what was measured with intervals, and limits. The token
    is huggingface_hub's: `hf auth login`, or HF_TOKEN.
    """
    from phf.cli import terminal
    from phf.push import Destination, prepare, upload, write_folder

    repository = prepare(source, Destination(name, revision), data_license, card)
    rows = [[file, f"{repository.size(file):,}"] for file in sorted(repository.files)]
    where = f"{repository.kind} {repository.url}, branch {revision or 'main'}"
    total = f"{len(rows)} files, {sum(map(repository.size, repository.files)):,} bytes"
    if dry_run:
        folder = out or Path("hub") / name.replace("/", "--")
        write_folder(repository, folder)
        if as_json:
            files = {file: repository.size(file) for file in sorted(repository.files)}
            say_json({"kind": repository.kind, "url": repository.url, "folder": folder, "files": files})
            return
        say(f"To upload to {where}{', private' if private else ''}:")
        terminal.table("", ["file", "bytes"], rows)
        say(f"Wrote: {folder}: {total}. Dry run: nothing was uploaded")
        say(f"Next: read {folder}/README.md; push an edited one with --card {folder}/README.md")
        return
    if not as_json:
        say(f"Uploading {total} to {where}")
    address, deleted = upload(repository, private)
    if as_json:
        say_json({"kind": repository.kind, "url": address, "deleted": deleted})
        return
    if deleted:
        say(f"Deleted there, left by an earlier push: {', '.join(deleted)}")
    say(f"Pushed: {address}")
