"""What attacks and the sandbox cost: programs graded a second, what a hanging one costs the others, and a round of red-teaming.

    python benchmarks/attack.py [--json]

Grading: 3,280 different programs (164 problems x 20), each right, in sandboxed processes, two at a time, against the start of a
fresh Python for each, without sandbox or test. A round: a GPT-2 shape of 2M parameters with random weights, vocabulary 1,024; 20
prompts of three words, 64 continuations each of 64 tokens, scored by the pii scorer.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from phf.evaluate.humaneval import Problem, grade

PROBLEMS, SAMPLES, WORKERS = 164, 20, 2


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for benchmarks/run.py")
    options = parser.parse_args()
    for row in [*grading(), attacking()]:
        row = {"benchmark": "attack", **row}
        if options.json:
            print(json.dumps(row), flush=True)
        else:
            print(
                f"{row['measure']}: {row['value']:.4g} {row['unit']} (against {row['against']}; reach {row['reach']})", flush=True
            )


def grading() -> list[dict[str, Any]]:
    test = "def check(candidate):\n" + "".join(f"    assert candidate([{n}, 2]) == [{2 * n}, 4]\n" for n in range(7))
    problems = [Problem(f"task/{number}", "def double(values):\n", "double", test) for number in range(PROBLEMS)]
    right = [(p, f"    return [2 * value for value in values]  # {n}\n") for p in problems for n in range(SAMPLES)]
    start = time.perf_counter()
    assert set(grade(right, 10.0, workers=WORKERS)) == {"passed"}
    ours = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(20):
        subprocess.run([sys.executable, "-I", "-c", "pass"], check=True)
    fresh = (time.perf_counter() - start) / 20 * len(right) / WORKERS
    hanging = [(problems[0], f"    while True: {n}\n") for n in range(4)]
    start = time.perf_counter()
    assert list(grade(hanging, 1.0, workers=WORKERS)) == ["timed out"] * 4
    hung = time.perf_counter() - start
    return [
        {"measure": f"programs graded a second, {PROBLEMS} x {SAMPLES} ({ours:.1f} s)", "value": len(right) / ours, "unit": "1/s",
         "against": f"a fresh Python each, not sandboxed, no test ({len(right) / fresh:.0f}/s)", "reach": "-"},
        {"measure": "4 hanging programs of 1 s each, 2 at a time", "value": hung, "unit": "s", "against": "2 s", "reach": "<= 3"},
    ]  # fmt: skip


def attacking() -> dict[str, Any]:
    from transformers import GPT2Config, GPT2LMHeadModel

    from phf import lm, scorers
    from phf.evaluate.protocol import EvalContext
    from phf.evaluate.redteam import RedTeam
    from phf.segmenters import Whole
    from phf.tokens.tokenizer import train_tokenizer

    words = [f"word{a}{b}" for a in "abcdefghij" for b in "abcdefghij"]
    tokenizer = train_tokenizer([" ".join(words)] * 20, 1024)
    torch.manual_seed(0)
    config = GPT2Config(n_embd=192, n_layer=4, n_head=6, n_positions=256, vocab_size=1024, bos_token_id=0, eos_token_id=0,
                        activation_function="gelu_pytorch_tanh")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        GPT2LMHeadModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        model = lm.load(f"hf:{folder}")
        plan = RedTeam(prompts=[" ".join(words[n : n + 3]) for n in range(0, 90, 3)], trials=1, rounds=2, start=20)
        setting = EvalContext("bench", 0, "redteam", Path(folder), scorers.load("pii"), Whole(), 0, list)
        start = time.perf_counter()
        list(plan.measure(model, setting))
        took = time.perf_counter() - start
    # Two rounds, the first pool (a round's worth) and the ten worst again (half of one).
    return {"measure": "10 trials x 10 rounds x 20 prompts x 64 texts, by 3.5 rounds' worth", "value": took / 3.5 * 105 / 60,
            "unit": "minutes", "against": f"{torch.get_num_threads()} threads", "reach": "minutes"}  # fmt: skip


if __name__ == "__main__":
    main()
