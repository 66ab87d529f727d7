"""Finetune a causal language model to tell classes apart. Imports torch: opened by the `finetune` measure when it is taken.

A row is read as a document: its start, the control token of a conditional model, the sentence (or two on a line each),
and the document's end, where the head reads what the model made of it. AdamW, linear warm-up and decay, bf16 on a GPU. DataLoader
hold rows of similar lengths, so that little of them is padding.

Legend: N rows, C classes.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from phf.errors import InputError
from phf.evaluate.finetune import glue
from phf.hub import quiet_transformers
from phf.length_batches import by_length
from phf.lm import LocalWeights
from phf.tokens import encode

if TYPE_CHECKING:
    from phf.evaluate.finetune import FineTune

_SORTED_TOGETHER = 16  # batches
_CLIP = 1.0
_READ_AT_ONCE = 128  # rows, when nothing is learned from them


def finetune(
    base: LocalWeights,
    task: glue.Task,
    train: Sequence[glue.Row],
    stop: Sequence[glue.Row],
    dev: Sequence[glue.Row],
    options: "FineTune",
    seed: int,
    on_progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Finetune on `train` until the score on `stop` no longer rises, and judge the best epoch's weights on `dev`.

    Returns:
        `metrics` on dev by name; `epoch`, the best one, from 1; and `epochs`, each with its mean loss and its score on `stop`.

    Raises:
        InputError: if the model cannot classify, or the loss is no longer a number.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, pad = _classifier(base, len(task.classes))
        rows = {
            part: _encode(base, texts, options.max_length) for part, texts in (("train", train), ("stop", stop), ("dev", dev))
        }
        labels = {
            part: np.array([row.label for row in given]) for part, given in (("train", train), ("stop", stop), ("dev", dev))
        }
        optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=options.weight_decay)
        per_epoch = -(-len(train) // options.batch)
        steps = options.epochs * per_epoch
        warm = max(1, round(options.warmup * steps))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / warm, (steps - step) / steps))
        draw = np.random.default_rng(seed)
        epochs: list[dict[str, float]] = []
        best: dict[str, torch.Tensor] = {}
        for epoch in range(options.epochs):
            losses = []
            for number, batch in enumerate(_batches(rows["train"], options.batch, draw)):
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
    """Load the weights with a new head, and choose a token for padding.

    The head reads a row's last token that is not padding. Rows end in the document's end, so padding is any other token.
    """
    from transformers import AutoModelForSequenceClassification

    folder = base.checkpoint.folder
    pad = base.tokenizer.pad_token_id
    if pad is None or pad == base.start:
        pad = int(base.start == 0)
    try:
        with quiet_transformers(errors_only=True):  # that the head is new is intended
            model: Any = AutoModelForSequenceClassification.from_pretrained(
                folder, num_labels=classes, pad_token_id=pad, dtype=torch.float32, ignore_mismatched_sizes=True
            )
    except (OSError, ValueError, KeyError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"{base.checkpoint}: cannot be finetuned to classify ({reason})") from None
    model.config.pad_token_id = pad
    return model.to(base.model.device), pad


def _encode(base: LocalWeights, rows: Sequence[glue.Row], most: int) -> list[list[int]]:
    """Return each row's tokens, `most` or the model's context at most."""
    prefix = [base.start] if base.control_id is None else [base.start, base.control_id]
    limit = min(most, base.context or most) - len(prefix) - 1
    texts = [text if place == 0 else "\n" + text for row in rows for place, text in enumerate(row.texts)]
    tokens = iter(encode(base.tokenizer, texts))
    found = []
    for row in rows:
        parts = [next(tokens) for _ in row.texts]
        while (over := sum(map(len, parts)) - limit) > 0:
            longest = max(range(len(parts)), key=lambda place: len(parts[place]))
            others = max((len(part) for place, part in enumerate(parts) if place != longest), default=0)
            cut = min(over, max(1, len(parts[longest]) - others))
            parts[longest] = parts[longest][: len(parts[longest]) - cut]
        found.append([*prefix, *(token for part in parts for token in part), base.start])
    return found


def _batches(rows: Sequence[Sequence[int]], size: int, draw: np.random.Generator) -> Iterator[list[int]]:
    """Yield each row's number once, in batches of rows drawn at random that are of similar lengths."""
    order = draw.permutation(len(rows))
    together = size * _SORTED_TOGETHER
    batches = []
    for first in range(0, len(order), together):
        pool = order[first : first + together].tolist()
        batches += [[pool[place] for place in batch] for batch in by_length([len(rows[row]) for row in pool], rows=size)]
    for place in draw.permutation(len(batches)):
        yield batches[place]


def _learn(
    model: Any, pad: int, rows: Sequence[Sequence[int]], labels: np.ndarray, batch: Sequence[int], optimizer: Any, schedule: Any
) -> float:
    """Take one step, and give the loss before it."""
    model.train()
    loss = cross_entropy(_logits(model, pad, [rows[row] for row in batch]), torch.tensor(labels[batch], device=model.device))
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    return float(loss.detach())


@torch.inference_mode()
def _predict(model: Any, pad: int, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the most probable class of each row: (N,)."""
    model.eval()
    found = np.zeros(len(rows), np.int64)
    for batch in by_length([len(row) for row in rows], rows=_READ_AT_ONCE):
        found[batch] = _logits(model, pad, [rows[row] for row in batch]).argmax(dim=-1).cpu().numpy()
    return found


def _logits(model: Any, pad: int, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Read rows, padded on the right: (N, C) float32."""
    width = max(map(len, rows))
    tokens = torch.full((len(rows), width), pad)
    mask = torch.zeros_like(tokens)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = 1
    tokens, mask = tokens.to(model.device), mask.to(model.device)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=model.device.type == "cuda"):
        logits: torch.Tensor = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
    return logits.float()
