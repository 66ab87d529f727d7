"""What training costs, in one run against the alternative a user has.

    python benchmarks/train.py [--json] [PART ...]

Parts: head (loss and last layer against full logits), objectives (each against MLE), view (blocks of the token store against
tokenising while training), memory (of the data, at 1 to 10 billion tokens), tokenize (against one process and datatrove), trainer
(GPT-2 small against Hugging Face's Trainer), start (time to the first step), gpu (on a GPU).
"""

import importlib
import json
import sys

PARTS = {
    "head": "head", "objectives": "steps", "view": "data", "memory": "memory", "tokenize": "tokenizing", "trainer": "steps",
    "start": "data", "gpu": "gpu",
}  # fmt: skip


def main(arguments: list[str]) -> None:
    names = [argument for argument in arguments if argument != "--json"]
    unknown = set(names) - set(PARTS)
    if unknown:
        sys.exit(f"no part called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    for name in names or PARTS:
        for row in getattr(importlib.import_module(f"training.{PARTS[name]}"), name)():
            line = f"{row['measure']:40} {row['value']:14.4g} {row['unit']:20} {row['against']}"
            print(json.dumps({"benchmark": "train", **row}) if "--json" in arguments else line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
