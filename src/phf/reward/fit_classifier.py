"""Finetune a Hugging Face model to one output for each text, as the `classifier` scorer reads it.

AdamW with a linear warm-up and decay, bf16 on a GPU.

B examples in a step, K texts in an example (two in a pair, else one)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from phf.auto_tokenizer import load_auto_tokenizer
from phf.errors import InputError
from phf.progress import Listener, Progress
from phf.reward.options import TrainOptions
from phf.scorers.classifier import reads, without_surrogates

_WARM_UP = 0.06  # of the steps
_LOG_EVERY = 10


@dataclass(frozen=True)
class Examples:
    """What a model is finetuned to.

    Args:
        loss: "classification": cross-entropy of a probability with the target; "regression": squared difference of the output
            and the target; "pairs": -log P(the first text is better), by the difference of outputs (Bradley and Terry 1952).
        texts: (N, K); what is longer than the model reads is cut.
        targets: (N,); unused for pairs.
        importance: (N,) how much each counts in the loss.
    """

    loss: Literal["classification", "regression", "pairs"]
    texts: Sequence[tuple[str, ...]]
    targets: np.ndarray
    importance: np.ndarray


def finetune(examples: Examples, options: TrainOptions, out: Path, on_progress: Listener) -> None:
    """Finetune `options.base` and write it, with its tokenizer, as a plain Hugging Face folder.

    Raises:
        InputError: if the base cannot be loaded, or the loss is no longer a number.
    """
    import torch

    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, tokenizer = _load(options, examples.loss)
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.rate, weight_decay=0.01)
    per_epoch = -(-len(examples.texts) // options.batch)
    steps = options.epochs * per_epoch
    warm = max(1, int(_WARM_UP * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / warm, (steps - step) / steps))
    order = np.random.default_rng(options.seed)
    for epoch in range(options.epochs):
        shuffled = order.permutation(len(examples.texts))
        for number in range(per_epoch):
            rows = shuffled[number * options.batch : (number + 1) * options.batch]
            loss = _loss(model, tokenizer, examples, rows, device)
            step = epoch * per_epoch + number + 1
            if not torch.isfinite(loss):
                raise InputError(f"finetuning {options.base!r}: the loss is {loss.item()} at step {step}; lower the rate")
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if step % _LOG_EVERY == 0 or step == steps:
                on_progress(Progress("reward train", step, steps, "steps", {"loss": loss.item()}))
    model.eval().save_pretrained(out)
    tokenizer.save_pretrained(out)


def _load(options: TrainOptions, loss: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForSequenceClassification

    base = options.base or ""
    label = options.label if loss == "classification" else "reward"
    try:
        tokenizer = load_auto_tokenizer(base)
        model = AutoModelForSequenceClassification.from_pretrained(
            base,
            num_labels=1,
            id2label={0: label},
            label2id={label: 0},
            problem_type="multi_label_classification" if loss == "classification" else "regression",
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
            trust_remote_code=False,
        )
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"base: {base!r} cannot be loaded: {str(error).strip().splitlines()[0]}") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    # What the `classifier` scorer makes of the output: by default a probability, which one label means; else the output itself.
    model.config.function_to_apply = None if loss == "classification" else "none"
    tokenizer.model_max_length = reads(model, tokenizer)
    return model, tokenizer


def _loss(model: Any, tokenizer: Any, examples: Examples, rows: np.ndarray, device: Any) -> Any:
    import torch
    from torch.nn import functional

    texts = [without_surrogates(text) for row in rows for text in examples.texts[row]]
    inputs = tokenizer(texts, return_tensors="pt", truncation=True, padding=True).to(device)
    columns = (examples.targets[rows], examples.importance[rows])
    targets, weight = (torch.tensor(column, dtype=torch.float32, device=device) for column in columns)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        outputs = model(**inputs).logits[:, 0].float().view(len(rows), -1)  # (B, K)
    losses: dict[str, Callable[[], Any]] = {
        "classification": lambda: functional.binary_cross_entropy_with_logits(outputs[:, 0], targets, reduction="none"),
        "regression": lambda: (outputs[:, 0] - targets).square(),
        "pairs": lambda: -functional.logsigmoid(outputs[:, 0] - outputs[:, 1]),
    }
    return (losses[examples.loss]() * weight).mean()
