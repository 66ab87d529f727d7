"""What `phf run --dry-run` prints: what is done and left, how much it is, and what it needs. Nothing is started or downloaded."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phf.formatting import duration, percent

if TYPE_CHECKING:
    from phf.config import Recipe
    from phf.pipeline import Estimate, Item, Need

_STATES = {True: "on this machine", None: "used when it is asked for", False: "NOT on this machine"}


def show_plan(recipe: "Recipe", out: Path, only: Sequence[str], as_json: bool) -> None:
    """Print the stages and runs of a recipe, what each amounts to, and what it needs from the hub, from servers and of files.

    Args:
        recipe: the whole job.
        out: folder of its outputs.
        only: names of runs; all if empty.
        as_json: print JSON instead of tables.

    Raises:
        InputError: as running the recipe would, for what can be known before anything is started.
    """
    from phf.cli import terminal
    from phf.cli.options import say_json
    from phf.pipeline import estimate, find_needs, jobs_at_once, select

    expanded = recipe.expanded()
    names = select(expanded, only)
    at_once = jobs_at_once(expanded, len(names))
    found = estimate(recipe, out, only, at_once)
    needs = find_needs(expanded.model_copy(update={"runs": {name: expanded.runs[name] for name in names}}))
    if as_json:
        say_json(_as_json(recipe.name, out, found, needs))
        return
    stages = [[item.stage, _done(item.done), "", "", _requests([item]), _size(item.disk), _time(item)]
              for item in found.items if item.run is None]  # fmt: skip
    for name in names:
        for stage in ("train", "evaluate"):
            items = [item for item in found.items if (item.run, item.stage) == (name, stage)]
            if items:
                stages.append([f"{stage} {name}", *_row(items)])
    terminal.table("Stages and runs", ["", "done", "tokens", "samples", "requests", "disk", "time left"], stages)
    rows = [[need.kind, need.name, need.key, need.command or _STATES[need.here]] for need in needs]
    if rows:
        terminal.table("Needed from elsewhere", ["kind", "name", "key", "where it is, or the command that downloads it"], rows)
    for note in found.notes:
        terminal.say(f"Note: {note}.")
    unknown = f", and {found.unknown} of {len(found.items)} items whose time is not known" if found.unknown else ""
    terminal.say(f"Left: {duration(found.seconds)} on this machine, {found.at_once} runs at a time{unknown}.")
    terminal.say("Training and sampling were measured for some seconds; --json says for each item what its time stands on.")
    terminal.say("Dry run: nothing was started.")


def _row(items: Sequence["Item"]) -> list[str]:
    done = sum(item.done for item in items) / len(items)
    tokens, samples = (sum(getattr(item, key) for item in items) for key in ("tokens", "samples"))
    known = [item.seconds for item in items if item.seconds is not None]
    time = duration(sum(known)) if known else "not known"
    if known and len(known) < len(items):
        time = f"{time} + {len(items) - len(known)} not known"
    counts = [f"{count:,}" if count else "" for count in (tokens, samples)]
    return [_done(done), *counts, _requests(items), _size(sum(item.disk for item in items)), time]


def _requests(items: Sequence["Item"]) -> str:
    count = sum(sum(item.requests.values()) for item in items)
    return f"{count:,} at most" if count else ""


def _time(item: "Item") -> str:
    return "not known" if item.seconds is None else duration(item.seconds)


def _done(share: float) -> str:
    return "all" if share == 1 else percent(share) if share else ""


def _size(size: float) -> str:
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size:.0f} B" if size else ""


def _as_json(name: str, out: Path, found: "Estimate", needs: Sequence["Need"]) -> dict[str, Any]:
    def whole(item: "Item") -> Iterator[tuple[str, Any]]:
        for key, value in dataclasses.asdict(item).items():
            yield key, round(value) if key == "disk" else value

    return {
        "name": name,
        "out": str(out),
        "items": [dict(whole(item)) for item in found.items],
        "at_once": found.at_once,
        "seconds": found.seconds,
        "unknown": found.unknown,
        "notes": list(found.notes),
        "needs": [{**dataclasses.asdict(need), "command": need.command} for need in needs],
    }
