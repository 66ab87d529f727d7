"""Finetune a causal language model as a sequence classifier. Imports torch, so the `finetune` evaluation imports it lazily.

A row is read as a document: document start, the control token of a conditional model, the sentence (or two, one a line),
document end. The head reads the hidden state of the last token. AdamW, linear warm-up and decay, bf16 on a GPU. Batches hold
rows of similar lengths to keep padding small.

Legend: N rows, C classes.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from phf.errors import InputError
from phf.evaluate.finetune import glue
from phf.hub import quiet_transformers
from phf.length_batches import by_length
from phf.lm import LocalWeights
from phf.tokens import encode

_BATCHES_PER_POOL = 16  # rows are sorted by length within a pool of so many batches
_MAX_GRAD_NORM = 1.0
_INFERENCE_BATCH = 128  # rows


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """Hyperparameters of finetuning one task with one seed.

    Args:
        epochs: most passes over the rows.
        patience: epochs without a better score after which finetuning stops.
        lr: peak learning rate.
        batch: rows a step.
        warmup: share of the steps over which the learning rate rises.
        weight_decay: of AdamW.
        max_length: tokens of a row at most.
    """

    epochs: int
    patience: int
    lr: float
    batch: int
    warmup: float
    weight_decay: float
    max_length: int


def finetune(
    base: LocalWeights,
    task: glue.Task,
    train: Sequence[glue.Row],
    stop: Sequence[glue.Row],
    dev: Sequence[glue.Row],
    options: TrainingOptions,
    seed: int,
    on_progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Finetune on `train` until the score on `stop` no longer rises, and evaluate the best epoch's weights on `dev`.

    Returns:
        `metrics` on dev by name; `epoch`, the best one, from 1; and `epochs`, each with its mean loss and its score on `stop`.

    Raises:
        InputError: if the model cannot classify, or the loss is not finite.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, pad = _classifier(base, len(task.classes))
        rows = {
            split: _encode(base, texts, options.max_length) for split, texts in (("train", train), ("stop", stop), ("dev", dev))
        }
        labels = {
            split: np.array([row.label for row in texts]) for split, texts in (("train", train), ("stop", stop), ("dev", dev))
        }
        optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=options.weight_decay)
        per_epoch = -(-len(train) // options.batch)
        steps = options.epochs * per_epoch
        warm = max(1, round(options.warmup * steps))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / warm, (steps - step) / steps))
        rng = np.random.default_rng(seed)
        epochs: list[dict[str, float]] = []
        best: dict[str, torch.Tensor] = {}
        for epoch in range(options.epochs):
            losses = []
            for number, batch in enumerate(_batches(rows["train"], options.batch, rng)):
                loss = _learn(model, pad, rows["train"], labels["train"], batch, optimizer, schedule)
                if not np.isfinite(loss):
                    raise InputError(
                        f"{base.checkpoint}: finetuning: the loss is {loss} at step {epoch * per_epoch + number}; lower lr"
                    )
                losses.append(loss)
                on_progress(epoch * per_epoch + number + 1, steps)
            score = task.score(glue.measure(task.metrics, _predict(model, pad, rows["stop"]), labels["stop"]))
            if not epochs or score > max(past["score"] for past in epochs):
                best = copy.deepcopy(model.state_dict())
            epochs.append({"loss": float(np.mean(losses)), "score": score})
            chosen = int(np.argmax([past["score"] for past in epochs]))
            if epoch - chosen >= options.patience:
                break
        model.load_state_dict(best)
        metrics = glue.measure(task.metrics, _predict(model, pad, rows["dev"]), labels["dev"])
    return {"metrics": metrics, "epoch": chosen + 1, "epochs": epochs}


def _classifier(base: LocalWeights, classes: int) -> tuple[Any, int]:
    """Return the model with a new head, and the token for padding.

    The head reads a row's last token that is not padding. Rows end in the document's end, so padding is any other token.
    """
    from transformers import AutoModelForSequenceClassification

    folder = base.checkpoint.folder
    pad = base.tokenizer.pad_token_id
    if pad is None or pad == base.start:
        pad = int(base.start == 0)
    try:
        with quiet_transformers(errors_only=True):  # it warns that the head is newly initialised
            model: Any = AutoModelForSequenceClassification.from_pretrained(
                folder, num_labels=classes, pad_token_id=pad, dtype=torch.float32, ignore_mismatched_sizes=True,
                trust_remote_code=base.checkpoint.trust_remote_code,
            )  # fmt: skip
    except (OSError, ValueError, KeyError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"{base.checkpoint}: cannot be finetuned to classify ({reason})") from None
    model.config.pad_token_id = pad
    return model.to(base.model.device), pad


def _encode(base: LocalWeights, rows: Sequence[glue.Row], max_length: int) -> list[list[int]]:
    """Return each row's tokens, cut to `max_length` or the model's context, the longest sentence first."""
    prefix = [base.start] if base.control_id is None else [base.start, base.control_id]
    limit = min(max_length, base.context or max_length) - len(prefix) - 1
    texts = [text if index == 0 else "\n" + text for row in rows for index, text in enumerate(row.texts)]
    tokens = iter(encode(base.tokenizer, texts))
    encoded = []
    for row in rows:
        sentences = [next(tokens) for _ in row.texts]
        while (over := sum(map(len, sentences)) - limit) > 0:
            longest = max(range(len(sentences)), key=lambda index: len(sentences[index]))
            others = max((len(sentence) for index, sentence in enumerate(sentences) if index != longest), default=0)
            cut = min(over, max(1, len(sentences[longest]) - others))
            sentences[longest] = sentences[longest][: len(sentences[longest]) - cut]
        encoded.append([*prefix, *(token for sentence in sentences for token in sentence), base.start])
    return encoded


def _batches(rows: Sequence[Sequence[int]], size: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Yield each row's index once, in shuffled batches of rows of similar lengths."""
    order = rng.permutation(len(rows))
    pool_size = size * _BATCHES_PER_POOL
    batches = []
    for first in range(0, len(order), pool_size):
        pool = order[first : first + pool_size].tolist()
        batches += [[pool[index] for index in batch] for batch in by_length([len(rows[row]) for row in pool], rows=size)]
    for index in rng.permutation(len(batches)):
        yield batches[index]


def _learn(
    model: Any, pad: int, rows: Sequence[Sequence[int]], labels: np.ndarray, batch: Sequence[int], optimizer: Any, schedule: Any
) -> float:
    """Take one optimiser step. Return the loss before it."""
    model.train()
    loss = cross_entropy(_logits(model, pad, [rows[row] for row in batch]), torch.tensor(labels[batch], device=model.device))
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), _MAX_GRAD_NORM)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    return float(loss.detach())


@torch.inference_mode()
def _predict(model: Any, pad: int, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the most probable class of each row: (N,)."""
    model.eval()
    predicted = np.zeros(len(rows), np.int64)
    for batch in by_length([len(row) for row in rows], rows=_INFERENCE_BATCH):
        predicted[batch] = _logits(model, pad, [rows[row] for row in batch]).argmax(dim=-1).cpu().numpy()
    return predicted


def _logits(model: Any, pad: int, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the logits of rows, padded on the right: (N, C) float32."""
    width = max(map(len, rows))
    tokens = torch.full((len(rows), width), pad)
    mask = torch.zeros_like(tokens)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    tokens, mask = tokens.to(model.device), mask.to(model.device)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=model.device.type == "cuda"):
        logits: torch.Tensor = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
    return logits.float()
