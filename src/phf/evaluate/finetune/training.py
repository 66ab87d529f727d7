"""Finetune a causal language model as a sequence classifier, or, with one output, for a regression. Imports torch: opened late.

A row is read as a document: document start, the control token of a conditional model, the sentence (or two, one a line),
document end. The head reads the hidden state of the last token. AdamW, linear warm-up and decay, bf16 on a GPU. Batches hold
rows of similar lengths to keep padding small.

Legend: N rows, C classes.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, mse_loss

from phf.errors import InputError
from phf.evaluate.finetune import glue
from phf.evaluate.finetune.options import TrainingOptions
from phf.hub import quiet_transformers
from phf.length_batches import by_length
from phf.lm import LocalWeights
from phf.tokens import encode

_BATCHES_PER_POOL = 16  # rows are sorted by length within a pool of so many batches
_MAX_GRAD_NORM = 1.0
_INFERENCE_BATCH = 128  # rows


def finetune(
    base: LocalWeights,
    task: glue.Task,
    train: Sequence[glue.Row],
    stop: Sequence[glue.Row],
    dev: Mapping[str, Sequence[glue.Row]],
    options: TrainingOptions,
    seed: int,
    on_progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Finetune on `train` until the score on `stop` no longer rises, and evaluate the best epoch's weights on `dev`.

    Returns:
        `metrics` on dev by name and suffix of the dev rows; `predictions`, for each suffix one of each row; `epoch`, the best
        one, from 1; and `epochs`, each with its mean loss and its score on `stop`.

    Raises:
        InputError: if the model cannot classify, or the loss is not finite.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, pad = _classifier(base, len(task.classes) or 1)
        rows = {split: _encode(base, texts, options.max_length) for split, texts in (("train", train), ("stop", stop))}
        labels = {
            split: np.array([row.label for row in texts], np.int64 if task.classes else np.float32)
            for split, texts in (("train", train), ("stop", stop))
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
        predictions = {
            suffix: _predict(model, pad, _encode(base, split, options.max_length)).tolist() for suffix, split in dev.items()
        }
    return {"metrics": _judge(task, predictions, dev), "predictions": predictions, "epoch": chosen + 1, "epochs": epochs}


def _judge(task: glue.Task, predictions: Mapping[str, list[float]], dev: Mapping[str, Sequence[glue.Row]]) -> dict[str, float]:
    """Return the metrics of each split of the dev rows, by name and suffix."""
    metrics: dict[str, float] = {}
    for suffix, split in dev.items():
        measured = glue.measure(task.metrics, np.array(predictions[suffix]), np.array([row.label for row in split]))
        metrics |= {f"{metric}{suffix}": value for metric, value in measured.items()}
    return metrics


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
    logits, wanted = _logits(model, pad, [rows[row] for row in batch]), torch.tensor(labels[batch], device=model.device)
    loss = mse_loss(logits.squeeze(1), wanted) if wanted.is_floating_point() else cross_entropy(logits, wanted)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), _MAX_GRAD_NORM)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    return float(loss.detach())


@torch.inference_mode()
def _predict(model: Any, pad: int, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the most probable class of each row, or its score where the model has one output: (N,)."""
    model.eval()
    outputs = np.zeros((len(rows), model.config.num_labels), np.float32)
    for batch in by_length([len(row) for row in rows], rows=_INFERENCE_BATCH):
        outputs[batch] = _logits(model, pad, [rows[row] for row in batch]).cpu().numpy()
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs.argmax(axis=1)


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
