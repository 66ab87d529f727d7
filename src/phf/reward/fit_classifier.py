"""Finetune a Hugging Face model on labelled texts, to one label with a sigmoid, as the `classifier` scorer reads it.

AdamW with a linear warm-up and decay, bf16 on a GPU. The loss is the cross-entropy with the labels, weighted by importance.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from phf.errors import InputError
from phf.scorers.classifier import reads, without_surrogates

_WARM_UP = 0.06  # of the steps
_LOG_EVERY = 10


def finetune(
    base: str,
    out: Path,
    texts: Sequence[str],
    labels: np.ndarray,
    importance: np.ndarray,
    *,
    label: str,
    epochs: int,
    rate: float,
    batch: int,
    seed: int,
    step_done: Callable[[int, int, float], None],
) -> None:
    """Finetune `base` and write it, with its tokenizer, as a plain Hugging Face folder.

    Args:
        base: a folder or hub name of a model of any kind that transformers can classify sequences with.
        out: the folder.
        texts: (N,); what is longer than the model reads is cut.
        labels: (N,) probability that a text is positive.
        importance: (N,) how much it counts in the loss.
        label: the name the model gives the label.
        epochs: times each text is seen.
        rate: the highest learning rate.
        batch: texts a step.
        seed: of the new weights, the dropout and the order of texts.
        step_done: told the step, the number of steps and the loss.

    Raises:
        InputError: if `base` cannot be loaded, or the loss is no longer a number.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        tokenizer = AutoTokenizer.from_pretrained(base)
        model = AutoModelForSequenceClassification.from_pretrained(
            base,
            num_labels=1,
            id2label={0: label},
            label2id={label: 0},
            problem_type="multi_label_classification",
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError) as error:
        raise InputError(f"base: {base!r} cannot be loaded: {str(error).strip().splitlines()[0]}") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
        model.config.pad_token_id = tokenizer.pad_token_id
    model.config.function_to_apply = None  # the base's own, if it was a classifier; one label means a sigmoid
    tokenizer.model_max_length = reads(model, tokenizer)
    model.to(device).train()

    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    per_epoch = -(-len(texts) // batch)
    steps = epochs * per_epoch
    warm = max(1, int(_WARM_UP * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / warm, (steps - step) / steps))
    order = np.random.default_rng(seed)
    for epoch in range(epochs):
        shuffled = order.permutation(len(texts))
        for number in range(per_epoch):
            rows = shuffled[number * batch : (number + 1) * batch]
            inputs = tokenizer(
                [without_surrogates(texts[row]) for row in rows], return_tensors="pt", truncation=True, padding=True
            )
            targets, weight = (torch.tensor(column[rows], dtype=torch.float32, device=device) for column in (labels, importance))
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                logits = model(**inputs.to(device)).logits[:, 0]
            loss = binary_cross_entropy_with_logits(logits.float(), targets, weight)
            if not torch.isfinite(loss):
                raise InputError(
                    f"finetuning {base!r}: the loss is {loss.item()} at step {epoch * per_epoch + number}; lower the rate"
                )
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step = epoch * per_epoch + number + 1
            if step % _LOG_EVERY == 0 or step == steps:
                step_done(step, steps, loss.item())
    model.eval().save_pretrained(out)
    tokenizer.save_pretrained(out)
