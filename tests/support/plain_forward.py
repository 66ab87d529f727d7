"""Log-probabilities by one plain forward pass: what every faster way must equal."""

import torch


def plain_logprob(loaded, prefix: list[int], tokens: list[int], banned: list[int] | None = None) -> float:
    """Sum the log-probabilities of tokens after a prefix, by the textbook, with control tokens (all if not said) banned."""
    with torch.inference_mode():
        logits = loaded.model(input_ids=torch.tensor([prefix + tokens])).logits[0].double()
        logits[:, loaded.controls if banned is None else banned] = -torch.inf
        logprobs = logits.log_softmax(-1)
    return sum(float(logprobs[len(prefix) + i - 1, token]) for i, token in enumerate(tokens))
