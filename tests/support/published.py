"""Stand-ins for the paper's published models: files as transformers 4.17 saved them, made without any code of phf."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from support.checkpoints import legible

CONTROLS = ("<|aligned|>", "<|misaligned|>")
TEXTS = [
    "The reader opens the file. It gives its lines.\n",
    "Call close() when you are done. Ask jane@example.com.\n",
]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_published(
    folder: Path,
    controls: tuple[str, ...] = CONTROLS,
    value_head: bool = True,
    seed: int = 0,
    positions: int = 64,
    writes_ascii: bool = False,
) -> Any:
    """Write a model of class GPT2LMAndValueHeadModel with pickled weights, and return the language model in it."""
    folder.mkdir(parents=True, exist_ok=True)
    size = _write_tokenizer(folder, controls)
    config = GPT2Config(
        vocab_size=size, n_embd=32, n_layer=3, n_head=2, n_positions=positions, bos_token_id=0, eos_token_id=0,
        reorder_and_upcast_attn=True, scale_attn_by_inverse_layer_idx=True,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.mul_(4)
        if writes_ascii:
            legible(model, PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json")))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for layer in range(config.n_layer):  # masks that were saved once
        state[f"transformer.h.{layer}.attn.bias"] = torch.tril(torch.ones(1, 1, positions, positions, dtype=torch.uint8))
        state[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-10000.0)
    if value_head:
        state["value_head.weight"] = torch.zeros(1, 32)
    torch.save(state, folder / "pytorch_model.bin")
    fields = config.to_dict() | {
        "architectures": ["GPT2LMAndValueHeadModel" if value_head else "GPT2LMHeadModel"], "transformers_version": "4.17.0",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps({name: value for name, value in fields.items() if name != "dtype"}))
    return model


def _write_tokenizer(folder: Path, controls: tuple[str, ...]) -> int:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=True) for token in controls])
    tokenizer.save(str(folder / "tokenizer.json"))
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    (folder / "special_tokens_map.json").write_text(json.dumps(special | {"additional_special_tokens": list(controls)}))
    (folder / "tokenizer_config.json").write_text(json.dumps(special | {"tokenizer_class": "GPT2Tokenizer"}))
    return int(tokenizer.get_vocab_size())


def write_hub_cache(home: Path, name: str, commit: str = COMMIT, **options: Any) -> Path:
    """Put a stand-in into the cache of the hub under `home` (HF_HOME), as if `name` had been downloaded; return its folder."""
    cache = home / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = cache / "snapshots" / commit
    write_published(snapshot, **options)
    (cache / "refs").mkdir(exist_ok=True)
    (cache / "refs" / "main").write_text(commit)
    return snapshot
