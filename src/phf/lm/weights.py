"""A causal model's weights, loaded for inference: safetensors, or pickle files read as data only."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from phf import checksums
from phf.errors import InputError, out_of_memory
from phf.hub import needs_trust, quiet_transformers
from phf.lm.resolve import Checkpoint

_NOT_NEEDED = ("value_head", "v_head", ".attn.bias", ".attn.masked_bias")
"""Parts of a saved state that a language model has no use for: a value head, and the masks that GPT-2 saved once."""
_CONVERT = (
    'python -c "import torch; from safetensors.torch import save_file; '
    "weights = torch.load('{folder}/pytorch_model.bin', map_location='cpu', weights_only=False); "
    "save_file({{name: value.clone() for name, value in weights.items()}}, "
    "'{folder}/model.safetensors', metadata={{'format': 'pt'}})\""
)


def load_causal_model(checkpoint: Checkpoint) -> Any:
    """Load a causal model for inference: in float32 on a CPU, as it was saved on a GPU. Its own Python is run if it is trusted.

    Raises:
        InputError: if it cannot be loaded, or its files lack some of its weights.
    """
    from transformers import AutoModelForCausalLM

    if checkpoint.hub is None:
        checksums.verify_folder(Path(checkpoint.folder))
    folder = checkpoint.folder if checkpoint.hub is None else str(checkpoint.hub.download(True, checkpoint.trust_remote_code))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        # Warnings are silenced since each of them is an error or intended here.
        with quiet_transformers(errors_only=True):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype="auto" if device == "cuda" else torch.float32, output_loading_info=True,
                trust_remote_code=checkpoint.trust_remote_code,
            )  # fmt: skip
    except UnpicklingError:
        command = _CONVERT.format(folder=folder)
        raise InputError(
            f"{checkpoint}: its pickled weights are damaged, or hold more than tensors and could run any program when they are "
            f"loaded, so they are not. If you trust who made them, convert them: {command}"
        ) from None
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, SafetensorError) as error:
        if out_of_memory(error) is not None:
            raise
        if needs_trust(error):
            raise InputError(
                f"{checkpoint}: comes with Python of its own, which is not run; if you trust who wrote it, name the model as "
                f"{f'hf:{checkpoint.hub}' if checkpoint.hub else folder}?trust_remote_code=true"
            ) from None
        raise InputError(f"{checkpoint}: not a causal language model that can be loaded ({_reason(error)})") from None
    model, report = loaded
    lacking = sorted(report["missing_keys"]) or sorted(str(key) for key, *_ in report["mismatched_keys"])
    if lacking:
        raise InputError(
            f"{checkpoint}: its files lack {len(lacking)} of the model's weights, such as {lacking[0]}, or hold them in another "
            f"shape; download {Path(folder)} again, or correct its config.json"
        )
    unused = sorted(key for key in report["unexpected_keys"] if not any(part in key for part in _NOT_NEEDED))
    if unused:
        raise InputError(
            f"{checkpoint}: its files hold {len(unused)} weights that the model of its config.json does not have, such as "
            f"{unused[0]}; correct config.json"
        )
    return model.to(device).eval()


def end_tokens(model: Any) -> list[int]:
    """Return the tokens that the model's own settings say end a text; one that it does not have, as of a default, never does."""
    ends = model.generation_config.eos_token_id
    listed = list(ends) if isinstance(ends, list | tuple) else [] if ends is None else [int(ends)]
    return [end for end in listed if end < model.config.get_text_config().vocab_size]


def _reason(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
