"""Evaluation against what it replaces: Self-BLEU against nltk, sampling against transformers' `model.generate`.

    python benchmarks/evaluate.py [--json] [--repeats N] [--samples N] [--batch N]

Both sides of a ratio run in turn, several times over, and the best time of each counts: what else the machine does only
ever makes a run slower. Sampling: a GPT-2 shape of 2M parameters with random weights, vocabulary 1,024, 128 tokens at most,
no prompt, temperature 0.7, top-p 0.9; `model.generate` is called batch by batch with the same settings.
"""

import argparse
import json
import random
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from phf.evaluate.diversity import self_bleu
from phf.lm.protocol import Sampling
from phf.lm.sampler import generate

TEXTS, WORDS = 4096, 100


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for benchmarks/run.py")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    rows = [bleu()]
    for ends, what in ((1, "one in ten"), (6, "half")):
        rows.append(sampling(ends, what, options))
    for row in rows:
        if options.json:
            print(json.dumps(row))
        else:
            print(f"{row['measure']}: {row['value']:.4g} {row['unit']} (against {row['against']}; reach {row['reach']})")


def bleu() -> dict[str, Any]:
    """Time Self-BLEU-5 of 4,096 texts of 100 words, and nltk on two of them."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    draw = random.Random(0)
    vocabulary = [f"word{number}" for number in range(5000)]
    weights = [1 / (number + 1) for number in range(5000)]
    texts = [" ".join(draw.choices(vocabulary, weights, k=WORDS)) for _ in range(TEXTS)]
    ours = best(lambda: self_bleu(texts), 3)
    split = [text.split() for text in texts]
    smoothing = SmoothingFunction().method1
    one = best(lambda: sentence_bleu(split[1:], split[0], (0.2,) * 5, smoothing), 2)
    return {
        "benchmark": "evaluate",
        "measure": f"Self-BLEU-5 of {TEXTS} samples of {WORDS} words ({ours:.2f} s)",
        "value": one * TEXTS / ours,
        "unit": "times as fast",
        "against": f"nltk's sentence_bleu on one sample, times {TEXTS}",
        "reach": 1000,
    }


def sampling(ends: int, what: str, options: argparse.Namespace) -> dict[str, Any]:
    """Time sampling where `ends` of the tokens end a sample, which leaves about `what` of the samples to end by themselves."""
    torch.manual_seed(0)
    shape = {
        "n_embd": 192,
        "n_layer": 4,
        "n_head": 6,
        "n_positions": 256,
        "vocab_size": 1024,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    model = GPT2LMHeadModel(GPT2Config(**shape, activation_function="gelu_pytorch_tanh")).eval()
    settings = Sampling(min_tokens=10, max_tokens=128, batch=options.batch)
    found: list[Any] = []

    def plainly() -> None:
        start = torch.full((options.batch, 1), 1000)
        with torch.inference_mode():
            for _ in range(options.samples // options.batch):
                model.generate(
                    start, attention_mask=torch.ones_like(start), do_sample=True, temperature=0.7, top_p=0.9, top_k=0,
                    min_new_tokens=10, max_new_tokens=128, eos_token_id=list(range(ends)), pad_token_id=0,
                )  # fmt: skip

    def ours() -> None:
        found[:] = generate(model, [[1000]] * options.samples, settings, list(range(ends)))

    times = {run: float("inf") for run in (plainly, ours)}
    for _ in range(options.repeats):
        for run in times:
            times[run] = min(times[run], best(run, 1))
    ended = sum(sample.finished for sample in found) / len(found)
    return {
        "benchmark": "evaluate",
        "measure": f"samples/s, batch {options.batch}, {what} end early ({ended:.0%}; {options.samples / times[ours]:.1f}/s)",
        "value": times[plainly] / times[ours],
        "unit": "times as many",
        "against": f"model.generate in batches ({options.samples / times[plainly]:.1f}/s), {torch.get_num_threads()} threads",
        "reach": 1.5,
    }


def best(run: Callable[[], Any], repeats: int) -> float:
    """Give the shortest of several times, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
