"""Any Hugging Face sequence classifier as a scorer. The default is the model behind Detoxify's "unbiased".

Texts are sorted by length and run in batches of about as many tokens each, padded to the longest in the batch, so that little is
computed in vain. A text longer than the model reads is split, and counts as its worst part.
"""

import functools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from phf import plugins
from phf.auto_tokenizer import load_auto_tokenizer
from phf.errors import InputError

_log = logging.getLogger("phf")
_AT_ONCE = 8192  # texts tokenised and sorted together
_UNSET = 1_000_000  # tokenizers that were given no limit say something above it


@dataclass(frozen=True)
class Classifier:
    """Reward = -P(label), from -1 to 0; of a reward model (activation "none"), its output, higher is better.

    NaN where the model returns no finite number, or its tokenizer no token.

    Args:
        model: a folder, or a name on the Hugging Face hub.
        label: the label whose probability is the reward's size, by its name in the model's config in any case (of a guard model,
            "unsafe" or the like); by default "toxicity", or the only label of a model that has one.
        activation: what makes probabilities of the model's outputs. "auto" is what its config says: `function_to_apply` if there,
            else by `problem_type` (multi_label_classification: sigmoid, single_label_classification: softmax), else softmax, or
            sigmoid for a model with one label. A multi-label model whose config says neither needs "sigmoid" here. "none" takes
            the output as it is: for reward models with one output.
        max_length: tokens a part may have, with the special ones; by default as many as the model reads.
        batch: tokens in a batch, padding included; by default 1,024 (what a processor's cache holds), and 16,384 on a GPU.
        device: "auto" for a GPU if there is one; else as PyTorch names it.
        precision: "auto" for bf16 on a GPU and fp32 elsewhere.
        compile: compile the model with torch.compile; by default on a GPU only.

    Raises:
        InputError: at the first text, for a model that cannot be had or is not a finished classifier, or an unknown label.
    """

    model: str = "unitary/unbiased-toxic-roberta"
    label: str | None = None
    activation: Literal["auto", "sigmoid", "softmax", "none"] = "auto"
    max_length: int | None = None
    batch: int | None = None
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool | None = None

    def __post_init__(self) -> None:
        for name in ("max_length", "batch"):
            value = getattr(self, name)
            if value is not None and value < 8:
                raise InputError(f"classifier.{name}: expected at least 8 tokens, found {value}")

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return the reward of each text, that of its worst part if it is long: (N,) float32."""
        different = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        queue = list(different)
        scores = [self._score(queue[start : start + _AT_ONCE]) for start in range(0, len(queue), _AT_ONCE)]
        rewards = np.concatenate(scores) if scores else np.zeros(0, np.float32)
        return rewards[[different[text] for text in texts]] if len(texts) else rewards

    def _score(self, texts: Sequence[str]) -> np.ndarray:
        import torch

        loaded = _load(self)
        encoded = loaded.tokenizer(
            [without_surrogates(text) for text in texts],
            truncation=True,
            max_length=loaded.max_length,
            return_overflowing_tokens=True,
            return_attention_mask=False,
        )
        parts: list[list[int]] = encoded["input_ids"]
        worst = np.full(len(texts), np.inf)
        for group in _batches([len(part) for part in parts], loaded.batch):
            inputs = loaded.tokenizer.pad(
                {name: [encoded[name][part] for part in group] for name in loaded.inputs if name in encoded},
                return_tensors="pt",
                pad_to_multiple_of=loaded.multiple,
            ).to(loaded.device)
            with torch.inference_mode():
                logits = loaded.model(**inputs).logits.float()
                rewards = _rewards(logits, loaded.activation)[:, loaded.index].cpu().numpy()
            np.minimum.at(worst, [encoded["overflow_to_sample_mapping"][part] for part in group], rewards)
        return np.where(np.isfinite(worst), worst, np.nan).astype(np.float32)


@dataclass(frozen=True)
class _Loaded:
    """A model on its device, and how it is run."""

    model: Any
    tokenizer: Any
    device: Any
    index: int
    activation: str
    max_length: int
    batch: int
    multiple: int | None
    inputs: Sequence[str]


@functools.lru_cache(maxsize=2)
def _load(wanted: Classifier) -> _Loaded:
    import torch
    from transformers import AutoModelForSequenceClassification

    name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name if wanted.device == "auto" else wanted.device)
    gpu = device.type == "cuda"
    dtype = torch.bfloat16 if wanted.precision == "bf16" or (wanted.precision == "auto" and gpu) else torch.float32
    try:
        tokenizer = load_auto_tokenizer(wanted.model)
        model, report = AutoModelForSequenceClassification.from_pretrained(
            wanted.model, dtype=dtype, output_loading_info=True, trust_remote_code=False
        )
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"classifier.model: {wanted.model!r} cannot be loaded: {str(error).strip().splitlines()[0]}") from None
    lacking = sorted(report["missing_keys"]) + sorted(name for name, *_ in report["mismatched_keys"])
    if lacking:
        raise InputError(
            f"classifier.model: {wanted.model!r} lacks trained weights for {', '.join(lacking[:3])}; "
            "expected a finetuned sequence classifier"
        )
    if not tokenizer.is_fast:
        raise InputError(
            f"classifier.model: {wanted.model!r} has a tokenizer without a fast version, which splitting texts needs"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if model.config.pad_token_id is None:  # by which models that read from left to right find the end of a text
        model.config.pad_token_id = tokenizer.pad_token_id
    model = model.eval().to(device)
    limit = reads(model, tokenizer)
    if wanted.max_length is not None and wanted.max_length > limit:
        raise InputError(f"classifier.max_length: {wanted.max_length} tokens, but {wanted.model!r} reads at most {limit}")
    index, activation = _index(wanted, model.config), _activation(wanted, model.config)
    if gpu if wanted.compile is None else wanted.compile:
        model = torch.compile(model, dynamic=True)
    return _Loaded(
        model,
        tokenizer,
        device,
        index,
        activation,
        max_length=wanted.max_length or limit,
        batch=wanted.batch or (16_384 if gpu else 1024),
        multiple=8 if gpu and limit % 8 == 0 else None,  # lengths that tensor cores like
        inputs=tokenizer.model_input_names,
    )


def _index(wanted: Classifier, config: Any) -> int:
    labels = {str(name): int(index) for index, name in config.id2label.items()}
    label = wanted.label or (next(iter(labels)) if len(labels) == 1 else "toxicity")
    matching = [name for name in labels if name == label] or [name for name in labels if name.casefold() == label.casefold()]
    if len(matching) != 1:
        raise InputError(f"classifier.label: {wanted.model!r} has no label {label!r}{plugins.suggestion(label, labels)}")
    return labels[matching[0]]


def _rewards(logits: Any, activation: str) -> Any:
    """Return the rewards of all labels from a model's outputs, both (batch, labels)."""
    if activation == "none":
        return logits
    return -(logits.sigmoid() if activation == "sigmoid" else logits.softmax(-1))


def _activation(wanted: Classifier, config: Any) -> str:
    if wanted.activation != "auto":
        return wanted.activation
    stated = getattr(config, "function_to_apply", None) or {
        "multi_label_classification": "sigmoid",
        "single_label_classification": "softmax",
    }.get(config.problem_type, config.problem_type)
    if stated is None:
        return "sigmoid" if config.num_labels == 1 else "softmax"
    if stated not in ("sigmoid", "softmax", "none"):
        raise InputError(
            f"classifier.model: {wanted.model!r} is for {stated!r}, not for probabilities; for a reward model, whose output is "
            "the reward, set activation to none"
        )
    return str(stated)


def reads(model: Any, tokenizer: Any) -> int:
    """Return how many tokens a model reads. RoBERTa's kind loses the positions up to the number of its padding token."""
    positions = getattr(model.config, "max_position_embeddings", None) or _UNSET
    table = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    if padding is not None:
        positions -= padding + 1
    return int(min(positions, tokenizer.model_max_length))


def _batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Group parts by their numbers, longest first, so that parts times the longest is at most the budget (or it is one part).

    A part without tokens is in no group: there is nothing to score.
    """
    group: list[int] = []
    for part in sorted((part for part in range(len(lengths)) if lengths[part]), key=lambda part: -lengths[part]):
        if group and (len(group) + 1) * lengths[group[0]] > budget:
            yield group
            group = []
        group.append(part)
    if group:
        yield group


def without_surrogates(text: str) -> str:
    """Replace halves of surrogate pairs, which no tokenizer takes, by U+FFFD, and join pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
