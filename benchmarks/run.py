"""Run every benchmark of this folder and keep its rows in results/benchmarks.jsonl, with commit, machine, versions and command.

    python benchmarks/run.py [NAME ...]

NAME/PART runs one part of a benchmark, such as annotate/pii.

A benchmark is a script here that prints, given --json, one JSON object a line: {"benchmark", "measure", "value", "unit",
"against", "reach"}. Ratios are taken within one run, since the machine's speed is not ours to hold still.
"""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from phf.records import stamp

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "benchmarks.jsonl"


def main(names: list[str]) -> None:
    known = sorted(path.stem for path in HERE.glob("*.py") if path.name != "run.py")
    unknown = {name.partition("/")[0] for name in names} - set(known)
    if unknown:
        sys.exit(f"no benchmark called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    failed, started = [], dataclasses.asdict(stamp())  # before rows change a tracked file
    for name in names or known:
        script, _, part = name.partition("/")
        arguments = [part] if part else []
        command = [sys.executable, str(HERE / f"{script}.py"), "--json", *arguments]
        print(f"== {name}", flush=True)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("{"):
                    _append(json.loads(line), started | {"command": " ".join(["python", f"benchmarks/{script}.py", *arguments])})
        if process.returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _append(row: dict[str, Any], where: dict[str, Any]) -> None:
    """Print a row and append it to the results at once, so that a run cut short leaves what it has measured."""
    print(f"   {row['measure']}: {row['value']:.4g} {row['unit']} (reach {row.get('reach', '-')})", flush=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row | {"stamp": where}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
