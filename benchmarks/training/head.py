"""The head: loss and last layer, forward and backward, against materialised logits."""

import json
import resource
import subprocess
import sys
import time

V, D, ROWS = 50_257, 768, 8 * 1023


def head() -> list[dict]:
    """Loss and head, forward and backward, each way in a process of its own: time, and peak memory above the inputs'."""
    ways = {way: [_measure_head(way) for _ in range(3)] for way in ("full", "fused")}
    seconds = {way: min(run["seconds"] for run in runs) for way, runs in ways.items()}
    memory = {way: min(run["bytes"] for run in runs) for way, runs in ways.items()}
    against = f"logits and log-softmax materialised ({seconds['full']:.2f} s, {memory['full'] / 1e9:.2f} GB)"
    return [
        {
            "measure": "head: time",
            "value": seconds["fused"] / seconds["full"],
            "unit": "x",
            "against": against,
            "reach": "<= 0.6",
        },
        {
            "measure": "head: peak memory",
            "value": memory["fused"] / memory["full"],
            "unit": "x",
            "against": against,
            "reach": "<= 1/12",
        },
        {"measure": "head: fused time", "value": seconds["fused"], "unit": "s", "against": "itself"},
        {"measure": "head: fused memory", "value": memory["fused"] / 1e9, "unit": "GB", "against": "itself"},
    ]


def _measure_head(way: str) -> dict:
    done = subprocess.run([sys.executable, __file__, way], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _head_once(way: str) -> dict:
    import torch

    from phf.head import linear_token_loss
    from phf.objectives import MLE

    torch.manual_seed(0)
    hidden = torch.randn(ROWS, D, requires_grad=True)
    weight = (0.02 * torch.randn(V, D)).requires_grad_()
    targets = torch.randint(V, (ROWS,))
    first = torch.randn(256, 256, requires_grad=True)  # what a first product allocates is not the head's
    (first @ first).sum().backward()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    if way == "fused":
        loss = linear_token_loss(hidden, weight, targets, MLE().token_loss, torch.zeros(ROWS))
    else:
        logprob = (hidden @ weight.T).log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)
        loss = MLE().token_loss(logprob, torch.zeros(ROWS)).mean()
    loss.backward()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "bytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024}


if __name__ == "__main__":
    print(json.dumps(_head_once(sys.argv[1])))
