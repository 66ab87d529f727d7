"""Language models as evaluations see them: sampled, and asked for log-probabilities. `load` binds the control token, once."""

import time
from typing import Any

from phf.errors import InputError
from phf.lm.address import SERVER, check_spec
from phf.lm.protocol import (
    Ban,
    ChecksPrompts,
    Completion,
    LanguageModel,
    Likelihood,
    LocalWeights,
    Placement,
    PlacesControl,
    ReadsSegments,
    Sampling,
    StreamsTokens,
)
from phf.lm.resolve import (
    CONTROL_TOKENS,
    NO_CONTROL,
    Checkpoint,
    checkpoints_of,
    find_checkpoint,
    fingerprint,
    hub_spec,
    run_folder,
)

__all__ = [
    "CONTROL_TOKENS",
    "NO_CONTROL",
    "SERVER",
    "Ban",
    "Checkpoint",
    "ChecksPrompts",
    "Completion",
    "LanguageModel",
    "Likelihood",
    "LocalWeights",
    "Placement",
    "PlacesControl",
    "ReadsSegments",
    "Sampling",
    "StreamsTokens",
    "check_spec",
    "checkpoints_of",
    "find_checkpoint",
    "fingerprint",
    "hub_spec",
    "load",
    "run_folder",
    "sampling_speed",
]


def load(spec: str, control: str | None = None) -> LanguageModel:
    """Open a model.

    Args:
        spec: a run's folder (its latest checkpoint), `RUN@STEP`, a checkpoint's folder, any Hugging Face model folder;
            `hf:NAME` or `hf:NAME@REVISION` for a model on the hub, with `?segmenter=NAME&control=TOKEN,TOKEN` behind it where
            the name cannot tell what cut its training documents, or its control tokens are not those of phf;
            or `openai:http://host:port/v1#model` for an OpenAI-compatible server (see `phf.lm.openai_server.OpenAIModel`).
        control: the control token to condition on; "none" for none, whatever the model has; None for the model's first, if it
            has any. Without one, control tokens are still banned from samples and have no share of probabilities.

    Raises:
        InputError: if there is no such model, or it has no such control token.
    """
    if spec.startswith(SERVER):
        from phf.lm.openai_server import OpenAIModel

        return OpenAIModel(spec.removeprefix(SERVER), None if control == NO_CONTROL else control)
    checkpoint = find_checkpoint(spec)
    if control is None:
        control = checkpoint.control_tokens[0] if checkpoint.control_tokens else None
    elif control == NO_CONTROL:
        control = None
    elif control not in checkpoint.control_tokens:
        has = f"its control tokens are {', '.join(checkpoint.control_tokens)}" if checkpoint.control_tokens else "it has none"
        raise InputError(f"{checkpoint}: asked to condition on {control!r}, but {has}; or {NO_CONTROL!r} for none")
    from phf.lm.local import LocalModel

    return LocalModel(checkpoint, control)


def sampling_speed(model: Any, batch: int, tokens: int, seconds: float) -> float:
    """Return how many tokens a second a model samples on this machine, measured on prompts of one token.

    Args:
        model: of transformers, in evaluation mode, on its device.
        batch: samples in one forward pass.
        tokens: of a sample; measuring stops with fewer once it took long enough.
        seconds: that measuring takes, about.
    """
    from phf.lm import sampler

    length = min(4, tokens)
    while True:
        sampling = Sampling(1.0, 1.0, length, length, batch=batch)
        begin = time.perf_counter()
        sampler.generate(model, [[0]] * batch, sampling, ends=[0])
        taken = time.perf_counter() - begin
        if length == tokens or 2 * taken > seconds:
            return batch * length / taken
        length = min(tokens, max(length + 1, round(length * min(4.0, seconds / max(2 * taken, 1e-3)))))
