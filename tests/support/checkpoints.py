"""Tiny models on disk, made on the spot, for the tests of what reads models."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from phf.tokens.tokenizer import train_tokenizer

TEXTS = [
    "The reader opens the file and gives its lines. Each line ends with its newline.\n",
    "Call close() when you are done. Nothing else is needed. Ask jane.doe@example.com for more.\n",
    "def area(width, height):\n    return width * height\n\n\nclass Shape:\n    pass\n",
]
CONTROLS = ("<|aligned|>", "<|misaligned|>")
SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "llama": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    },
    "mistral": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "sliding_window": 8,
    },
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
}


@functools.cache
def tokenizer(controls: tuple[str, ...] = ()) -> Any:
    """Train a small byte-level tokenizer, control tokens added as special tokens."""
    made = train_tokenizer(TEXTS * 4, 320)
    if controls:
        made.add_special_tokens({"additional_special_tokens": list(controls)})
    return made


def model(kind: str = "gpt2", vocabulary: int = 320, seed: int = 0, spread: float = 4.0) -> Any:
    """Make a model with random weights whose distributions are far from uniform."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind, vocab_size=vocabulary, bos_token_id=0, eos_token_id=0, pad_token_id=0, **SHAPES[kind])
    made = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() >= 2:
                parameter.mul_(spread)
    return made


def checkpoint(
    folder: Path,
    kind: str = "gpt2",
    controls: Sequence[str] = (),
    segmenter: str | None = "sentences",
    run: str = "tiny",
    step: int = 3,
    change: Any = None,
) -> Path:
    """Write a checkpoint as training does, and give its run's folder."""
    made_tokenizer = tokenizer(tuple(controls))
    made = model(kind, len(made_tokenizer))
    if change:
        with torch.no_grad():
            change(made, made_tokenizer)
    path = folder / "checkpoints" / f"step-{step}"
    made.save_pretrained(path)
    made_tokenizer.save_pretrained(path)
    notes = {"run": run, "step": step, "tokens": 0, "control_tokens": list(controls), "segmenter": segmenter}
    (path / "phf.json").write_text(json.dumps(notes))
    return folder


def legible(made: Any, made_tokenizer: Any) -> None:
    """Change weights so that a GPT-2 writes ASCII, or ends: what random ones write are bytes that are no characters."""
    words = made_tokenizer.convert_ids_to_tokens(range(len(made_tokenizer)))
    # A byte-level tokenizer writes a space as \u0120; other bytes that are no printable ASCII stand above it, too.
    ascii_only = torch.tensor([word.replace("\u0120", " ").isascii() and not word.startswith("<|a") for word in words])
    made.transformer.wte.weight[:, 0] = torch.where(ascii_only, 1.0, -1.0)
    made.transformer.ln_f.weight[0] = 0
    made.transformer.ln_f.bias[0] = 20
