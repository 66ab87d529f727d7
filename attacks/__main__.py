"""python -m attacks [PART ...] [--seed N] [--count N]: attack phf, list what did not hold, count what was tried.

Parts: recipes, corpora, kills, damage, together, breakouts; all of them by default.
Ctrl-C ends a part and keeps what it has tried.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

from attacks import breakouts, inputs, stages

PARTS = {
    "recipes": inputs.recipes,
    "corpora": inputs.corpora,
    "kills": stages.kills,
    "damage": stages.damage,
    "together": stages.together,
    "breakouts": breakouts.breakouts,
}
PROJECT = Path(__file__).parents[1]
RESULTS, PAGE = PROJECT / "results" / "reliability.jsonl", PROJECT / "docs" / "reliability.md"
MEANINGS = {
    "recipes": "recipes of the repository with one to three mutations: read, or refused in one line",
    "corpora": "small corpora of each format with one to four mutations, likewise",
    "kills": "stages killed at moments spread over their duration, then run again: the undisturbed result, no process left",
    "damage": "files of every output damaged in one of seven ways: named with exit 2, or the undisturbed result",
    "together": "each stage started twice on one folder: one works, the other exits with 2",
    "breakouts": "all escape probes in the sandbox at once",
}
START, END = "<!-- table -->\n", "<!-- /table -->"


def main() -> None:
    """Run the parts asked for, keep a row of each, and exit 1 if anything did not hold."""
    parser = argparse.ArgumentParser(prog="python -m attacks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="what to attack with")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, help="attempts, where a part takes a count")
    options = parser.parse_args()
    from phf.records import stamp

    begun = dataclasses.asdict(stamp())  # before the rows of this call are changes of their own
    failures = 0
    for name in options.parts or PARTS:
        extra = {"count": options.count} if options.count and name != "breakouts" else {}
        print(f"== {name}, seed {options.seed}", flush=True)
        tried, failed = 0, []
        with tempfile.TemporaryDirectory(prefix="phf-attack-") as folder, contextlib.suppress(KeyboardInterrupt):
            for what, _, failure in PARTS[name](options.seed, Path(folder), **extra):
                tried += 1
                if failure:
                    failed.append(f"{what}: {failure}")
                    print(f"   FAILED {failed[-1]}", flush=True)
        failures += len(failed)
        print(f"   {tried - len(failed)} of {tried} held", flush=True)
        count = f" --count {options.count}" if extra else ""
        command = f"python -m attacks {name} --seed {options.seed}{count}"
        row = {"attack": name, "seed": options.seed, "tried": tried, "held": tried - len(failed), "failures": failed}
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row | {"stamp": begun | {"command": command}}, ensure_ascii=False) + "\n")
    write_table()
    sys.exit(1 if failures else 0)


def write_table() -> None:
    """Write the newest row of each part into docs/reliability.md."""
    rows = {row["attack"]: row for row in map(json.loads, RESULTS.read_text(encoding="utf-8").splitlines())}
    lines = ["| attack | what was tried | tried | held | seed | commit |", "|---|---|---:|---:|---:|---|"]
    for name, meaning in MEANINGS.items():
        if row := rows.get(name):
            commit = row["stamp"]["commit"] or "?"
            lines.append(f"| `{name}` | {meaning} | {row['tried']} | {row['held']} | {row['seed']} | `{commit}` |")
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(START)
    PAGE.write_text(before + START + "\n" + "\n".join(lines) + "\n\n" + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
