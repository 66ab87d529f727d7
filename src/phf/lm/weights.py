"""A causal model's weights, loaded for inference."""

from typing import Any

import torch

from phf.errors import InputError
from phf.hub import quiet_transformers


def load_causal_model(folder: str) -> Any:
    """Load a causal model for inference: in float32 on a CPU, as it was saved on a GPU.

    Raises:
        InputError: if it cannot be loaded.
    """
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        with quiet_transformers():
            model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto" if device == "cuda" else torch.float32)
    except (OSError, ValueError, KeyError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"{folder}: not a causal language model that can be loaded ({reason})") from None
    return model.to(device).eval()


def end_tokens(model: Any) -> list[int]:
    """Return the tokens that the model's own settings say end a text."""
    ends = model.generation_config.eos_token_id
    return list(ends) if isinstance(ends, list | tuple) else [] if ends is None else [int(ends)]
