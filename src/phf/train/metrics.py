"""What a training run says of itself: lines of metrics, loss spikes, and how many operations it takes of the device's peak."""

import collections
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phf import artifacts

PEAK_FLOPS = {
    "B200": 2250e12,
    "H200": 989.4e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989.4e12,
    "A100": 312e12,
    "A10G": 70e12,
    "A10": 125e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Dense bf16 floating-point operations a second by a part of the device's name, longer names first; from data sheets."""


def peak(device: str) -> float | None:
    """Give the dense bf16 operations a second that a device can do, None where that is not known."""
    return next((operations for name, operations in PEAK_FLOPS.items() if name in device), None)


def flops_per_token(model: Any, context: int) -> float:
    """Count the floating-point operations of training on one token: 6 N + 12 L D T (Chowdhery et al., 2022, appendix B).

    Args:
        model: of transformers; N are its parameters without embeddings that are only looked up.
        context: T, tokens of a sequence.
    """
    config = model.config.get_text_config()
    looked_up = model.get_input_embeddings().weight
    output = model.get_output_embeddings()
    tied = output is not None and output.weight is looked_up
    counted = sum(parameter.numel() for parameter in model.parameters()) - (0 if tied else looked_up.numel())
    positions = getattr(model.base_model, "wpe", None)
    if positions is not None:
        counted -= positions.weight.numel()
    layers, width = getattr(config, "num_hidden_layers", 0), getattr(config, "hidden_size", 0)
    return float(6 * counted + 12 * layers * width * context)


class Spikes:
    """Tells a loss that stands out of those before it.

    Args:
        window: how many losses are looked back at.
        deviations: how many standard deviations above their mean a spike is.
    """

    def __init__(self, window: int = 100, deviations: float = 6.0) -> None:
        self._seen: collections.deque[float] = collections.deque(maxlen=window)
        self._deviations = deviations
        self._quiet = 0

    def see(self, loss: float) -> str | None:
        """Take in a loss; describe it if it is a spike. After one, the next are taken in silently until the window is new."""
        seen, self._quiet = self._seen, max(0, self._quiet - 1)
        found = None
        if len(seen) >= 20 and not self._quiet:
            mean = sum(seen) / len(seen)
            deviation = math.sqrt(sum((past - mean) ** 2 for past in seen) / (len(seen) - 1))
            if loss > mean + self._deviations * deviation and loss - mean > 0.01 * abs(mean):
                found = f"{loss:.4g}, where the {len(seen)} before it had {mean:.4g} with a standard deviation of {deviation:.2g}"
                self._quiet = seen.maxlen or 0
        seen.append(loss)
        return found


class Logbook:
    """metrics.jsonl of a run, cut back to the step that training goes on from.

    Args:
        path: the file.
        step: that training goes on from.
    """

    def __init__(self, path: Path, step: int) -> None:
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                if json.loads(line)["step"] > step:
                    break
            except json.JSONDecodeError:  # the torn end of a killed process
                break
            kept.append(line)
        self._seconds: float = json.loads(kept[-1])["seconds"] if kept else 0.0
        with artifacts.whole_file(path) as temporary:
            temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self._path = path

    def write(self, line: Mapping[str, Any], seconds: float) -> None:
        """Append a line, with the seconds spent in training so far; a number that is not finite becomes null."""
        self._seconds += seconds
        finite = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in line.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite | {"seconds": round(self._seconds, 3)}) + "\n")


def mean_of(steps: list[dict[str, float]]) -> dict[str, float]:
    """Average what was measured in each of some steps; a fact that only some of them have is averaged over these."""
    sums: dict[str, float] = collections.defaultdict(float)
    counts: dict[str, int] = collections.defaultdict(int)
    for facts in steps:
        for key, value in facts.items():
            sums[key] += value
            counts[key] += 1
    return {key: sums[key] / counts[key] for key in sums}
