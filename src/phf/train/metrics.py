"""The metrics of a training run: means over steps, lines of metrics.jsonl, loss spikes, and model FLOPs utilisation."""

import collections
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phf import artifacts, checksums
from phf.errors import InputError

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
"""Dense bf16 FLOP/s by a part of the device's name, longer names first; from data sheets."""


def peak_flops(device: str) -> float | None:
    """Return the dense bf16 FLOP/s of a device; None where they are not known."""
    return next((flops for name, flops in PEAK_FLOPS.items() if name in device), None)


def flops_per_token(model: Any, context: int) -> float:
    """Return the floating-point operations of training on one token: 6 N + 12 L D T (Chowdhery et al., 2022, appendix B).

    Args:
        model: of transformers; N are its parameters without embeddings that are only looked up, L its layers, D its width.
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


@dataclass
class RunningMeans:
    """Means of what the steps since the last line of metrics measured; a training state holds them.

    Args:
        steps: how many.
        seconds: that they took, up to the last time the state was saved.
        sums, counts: of each fact; one that only some of the steps have is averaged over these.
    """

    steps: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, facts: Mapping[str, float]) -> None:
        """Count in what a step measured."""
        self.steps += 1
        for key, value in facts.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
            self.counts[key] = self.counts.get(key, 0) + 1

    def means(self) -> dict[str, float]:
        """Return the mean of each fact."""
        return {key: self.sums[key] / self.counts[key] for key in self.sums}


class SpikeDetector:
    """Finds losses that stand out from those before them.

    Args:
        losses: seen before, oldest first.
        window: how many past losses are compared with.
        deviations: how many standard deviations above their mean a spike is.
        quiet: how many further losses are not reported.
    """

    def __init__(self, losses: Iterable[float] = (), window: int = 100, deviations: float = 6.0, quiet: int = 0) -> None:
        self._losses: collections.deque[float] = collections.deque(losses, maxlen=window)
        self._deviations, self._quiet = deviations, quiet

    def update(self, loss: float) -> str | None:
        """Take in a loss and describe it if it is a spike. After one, nothing is reported until the window is new."""
        losses, self._quiet = self._losses, max(0, self._quiet - 1)
        spike = None
        if len(losses) >= 20 and not self._quiet:
            mean = sum(losses) / len(losses)
            deviation = math.sqrt(sum((past - mean) ** 2 for past in losses) / (len(losses) - 1))
            if loss > mean + self._deviations * deviation and loss - mean > 0.01 * abs(mean):
                spread = f"{mean:.4g} with a standard deviation of {deviation:.2g}"
                spike = f"{loss:.4g}, where the {len(losses)} before it had {spread}"
                self._quiet = losses.maxlen or 0
        losses.append(loss)
        return spike

    def state(self) -> dict[str, Any]:
        """Return the arguments that a detector is made from which continues like this one."""
        return {"losses": list(self._losses), "quiet": self._quiet}


class MetricsWriter:
    """Appends lines to a run's metrics.jsonl, which is first cut back to the step that training resumes from.

    Args:
        path: the file.
        step: that training resumes from.

    Raises:
        InputError: if a line of those steps cannot be read, with its number.
    """

    def __init__(self, path: Path, step: int) -> None:
        lines, self._seconds = [], 0.0
        for number, line in enumerate(artifacts.whole_lines(path), start=1):
            try:
                fields = json.loads(line)
                logged, seconds = int(fields["step"]), float(fields["seconds"])
            except (ValueError, KeyError, TypeError):
                raise InputError(
                    f"{path}, line {number}: damaged, not what `phf train` wrote; restore the file from a copy, or delete it"
                ) from None
            if logged > step:
                break
            lines.append(line)
            self._seconds = seconds
        with artifacts.whole_file(path, recorded=True, grows=True) as temporary:
            temporary.write_bytes(b"".join(line + b"\n" for line in lines))
        self._path = path

    def write(self, line: Mapping[str, Any], seconds: float) -> None:
        """Append a line, with the seconds spent in training so far; a number that is not finite becomes null."""
        self._seconds += seconds
        finite = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in line.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite | {"seconds": round(self._seconds, 3)}) + "\n")

    def record(self) -> None:
        """Record the checksum of the lines so far."""
        checksums.record(self._path, grows=True)
