"""What annotation promises, against the plain alternative in the same run: every ratio of docs/annotate.md and docs/scorers/.

    python benchmarks/annotate.py [--json] [--data FOLDER] [PART ...]

FOLDER holds english/, pii/ and toxicity/ (by default ../shared/data); a part that needs what is not there is left out.
"""

import importlib
import json
import sys
from pathlib import Path

DATA = Path(__file__).parents[2] / "shared" / "data"
PARTS = {
    "style": "style.speed",
    "agreement": "style.agreement",
    "pii": "pii.pii",
    "toxicity": "toxicity.toxicity",
    "classifier": "classifier.classifier",
    "workers": "engine.workers",
    "memory": "engine.memory",
    "sentences": "engine.sentences",
    "cluster": "cluster.cluster",
}


def reached(value: float, reach: str) -> str:
    """Describe whether a value is where it should be."""
    if not reach:
        return ""
    relation, goal = reach.split()
    return f"{reach} reached" if (value >= float(goal) if relation == ">=" else value <= float(goal)) else f"{reach} MISSED"


def main(arguments: list[str]) -> None:
    as_json = "--json" in arguments
    names = [argument for argument in arguments if argument != "--json"]
    data = DATA
    if "--data" in names:
        place = names.index("--data")
        data = Path(names[place + 1])
        del names[place : place + 2]
    unknown = set(names) - set(PARTS)
    if unknown:
        sys.exit(f"no part called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    for name in names or PARTS:
        module, function = PARTS[name].split(".")
        try:
            for row in getattr(importlib.import_module(f"annotation.{module}"), function)(data):
                line = f"{row['measure']:80} {row['value']:10.4g} {row['unit']:12} {reached(row['value'], row.get('reach', ''))}"
                print(json.dumps({"benchmark": "annotate", **row}) if as_json else line, flush=True)
        except FileNotFoundError as error:
            print(f"{name}: left out, {error.filename or error} is not there", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
