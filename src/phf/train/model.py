"""Models to train: presets, any Hugging Face configuration, or a checkpoint; and the embeddings of control tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from phf import checksums
from phf.errors import InputError, out_of_memory
from phf.hub import needs_trust
from phf.layout import RunFolder
from phf.plugins import suggestion

PRESETS: dict[str, dict[str, Any]] = {
    "gpt2-tiny": {"n_layer": 2, "n_embd": 64, "n_head": 2},
    "gpt2-1m": {"n_layer": 4, "n_embd": 128, "n_head": 4},
    "gpt2-2m": {"n_layer": 4, "n_embd": 192, "n_head": 6},
    "gpt2-4m": {"n_layer": 5, "n_embd": 256, "n_head": 8},
    "gpt2-small": {"n_layer": 12, "n_embd": 768, "n_head": 12},
    "gpt2-medium": {"n_layer": 24, "n_embd": 1024, "n_head": 16},
    "gpt2-large": {"n_layer": 36, "n_embd": 1280, "n_head": 20},
    "llama-1m": {"num_hidden_layers": 4, "hidden_size": 128, "intermediate_size": 352, "num_attention_heads": 4},
    "llama-2m": {"num_hidden_layers": 4, "hidden_size": 192, "intermediate_size": 512, "num_attention_heads": 6},
}
"""Shapes of GPT-2 and Llama by name; parameters are counted without embeddings."""
_FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {
        "model_type": "gpt2",
        "activation_function": "gelu_pytorch_tanh",  # GPT-2's own function, in one pass over memory
        "resid_pdrop": 0.0,  # no dropout: every token is seen about once
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    },
    "llama": {"model_type": "llama", "tie_word_embeddings": True},
}


def build_model(
    spec: str | Mapping[str, Any], vocab_size: int, context: int, document_start: int, seed: int, attention: str = "auto",
    trust_remote_code: bool = False,
) -> Any:  # fmt: skip
    """Return the model to train, in float32, its weights initialised from the seed.

    Args:
        spec: a preset's name; `from:FOLDER` or `from:HUB-NAME` for a checkpoint to initialise from; or the fields of a Hugging
            Face configuration, `model_type` among them, or a `preset` to change some fields of.
        vocab_size: entries of the tokenizer, without control tokens.
        context: longest sequence that will be trained on.
        document_start: token id that starts and ends a document.
        seed: of the initial weights.
        attention: which implementation, by its name in transformers; auto for its choice.
        trust_remote_code: run Python that comes with a checkpoint.

    Raises:
        InputError: for an unknown preset, model type, field or attention, a checkpoint that cannot be loaded, or one with another
            vocabulary or too few positions.
    """
    if isinstance(spec, str) and spec.startswith("from:"):
        return _from_checkpoint(spec.removeprefix("from:"), vocab_size, context, attention, trust_remote_code)
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = dict(spec) if isinstance(spec, Mapping) else {"preset": spec}
    preset = fields.pop("preset", None)
    if preset is not None:
        if preset not in PRESETS:
            raise InputError(f"train.model: unknown preset {preset!r}{suggestion(str(preset), PRESETS)}")
        family = _FAMILIES[preset.split("-")[0]]
        positions = "n_positions" if family["model_type"] == "gpt2" else "max_position_embeddings"
        fields = {**family, positions: context, **PRESETS[preset], **fields}
    if "model_type" not in fields:
        raise InputError("train.model: no model_type; expected a preset's name, from:CHECKPOINT, or a config with model_type")
    model_type = fields.pop("model_type")
    fields |= {"bos_token_id": document_start, "eos_token_id": document_start, "pad_token_id": document_start}
    try:
        config = AutoConfig.for_model(model_type, vocab_size=vocab_size, **fields)
    except (ValueError, KeyError, TypeError) as error:
        if out_of_memory(error) is not None:
            raise
        raise InputError(f"train.model: model_type {model_type!r} cannot be configured so: {_first_line(error)}") from None
    known = type(config)().to_dict()
    unknown = [name for name in fields if name not in known and name not in getattr(config, "attribute_map", {})]
    if unknown:
        raise InputError(f"train.model.{unknown[0]}: unknown key{suggestion(unknown[0], known)}")
    _check_positions(config, context, f"train.model ({model_type})")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return AutoModelForCausalLM.from_config(config, dtype=torch.float32, **_attention(attention))  # type: ignore[no-untyped-call]
        except (ValueError, ImportError) as error:
            if out_of_memory(error) is not None:
                raise
            raise InputError(f"train.model: model_type {model_type!r}: {_first_line(error)}") from None


def add_control_tokens(model: Any, tokenizer: Any, tokens: Sequence[str], seed: int) -> list[int]:
    """Add control tokens to the tokenizer and their embeddings to the model, in place.

    A new embedding is the mean of the old ones + 0.01 N(0, 1) (Korbak et al., 2023, appendix), at the input and, where it is not
    tied, at the output. Tokens that the tokenizer has already (of a conditionally trained model) are left as they are.

    Returns:
        The ids of `tokens`.
    """
    new = [token for token in tokens if token not in tokenizer.get_vocab()]
    if not new:
        return [int(tokenizer.convert_tokens_to_ids(token)) for token in tokens]
    tokenizer.add_special_tokens({"additional_special_tokens": list(tokens)})
    ids = [int(tokenizer.convert_tokens_to_ids(token)) for token in tokens]
    rows = [i for i, token in zip(ids, tokens, strict=True) if token in new]
    old = [i for i in range(max(ids) + 1) if i not in rows]
    if max(ids) >= model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    generator = torch.Generator().manual_seed(seed)
    weights: dict[int, torch.Tensor] = {
        id(layer.weight): layer.weight for layer in (model.get_input_embeddings(), model.get_output_embeddings())
    }
    with torch.no_grad():
        for weight in weights.values():
            noise = 0.01 * torch.randn(len(rows), weight.shape[1], generator=generator)
            weight[rows] = weight[old].mean(0) + noise.to(weight)
        bias: torch.Tensor | None = getattr(model.get_output_embeddings(), "bias", None)
        if bias is not None:
            bias[rows] = bias[old].mean()
    return ids


def _attention(name: str) -> dict[str, str]:
    return {} if name == "auto" else {"attn_implementation": name}


def _from_checkpoint(name: str, vocab_size: int, context: int, attention: str, trust_remote_code: bool) -> Any:
    from transformers import AutoModelForCausalLM

    checksums.verify_folder(Path(name))
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            name, dtype=torch.float32, trust_remote_code=trust_remote_code, **_attention(attention)
        )
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, ImportError, SafetensorError, UnpicklingError) as error:
        if out_of_memory(error) is not None:
            raise
        if needs_trust(error):
            raise InputError(
                f"train.model from:{name}: comes with Python of its own, which is not run; if you trust who wrote it, set "
                "train.trust_remote_code to true"
            ) from None
        run = RunFolder(Path(name)).checkpoint_folder
        expected = f"expected one of the checkpoints in {run}" if run.is_dir() else "expected a folder or hub name"
        raise InputError(f"train.model from:{name}: cannot be loaded ({_first_line(error)}); {expected}") from None
    rows = model.get_input_embeddings().weight.shape[0]
    if rows < vocab_size:
        raise InputError(
            f"train.model from:{name}: has {rows} embeddings, but the corpus was tokenised with {vocab_size} entries. "
            f"Tokenise it with the checkpoint's own tokenizer: tokenize.tokenizer={name if Path(name).exists() else repr(name)}"
        )
    _check_positions(model.config, context, f"train.model from:{name}")
    return model


def _check_positions(config: Any, context: int, where: str) -> None:
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and positions < context:
        raise InputError(f"{where}: has {positions} positions, fewer than train.context, which is {context}; lower train.context")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
