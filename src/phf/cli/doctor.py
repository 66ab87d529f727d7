"""The command that looks at this machine: versions, extras, processor, GPU, memory, disk and the sandbox."""

import os
import platform
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from phf.cli.options import AsJson, say_json

_EXTRAS = {
    "sentences": "the segmenter sentences",
    "pep8": "the scorers pep8 and pep8-ruff",
    "pii": "the scorer pii",
    "toxicity": "phf reward train",
    "judge": "the scorer judge",
    "data": "hf: data sets, fsspec addresses, .zst files",
    "ray": "annotate.engine=ray",
    "eval": "zeroshot, GLUE from the hub, models behind a server",
    "report": "phf report and its figures",
    "s3": "inputs and outputs at s3:// addresses",
    "second": "the scorers profanity and presidio",
    "trackers": "train.trackers: TensorBoard, Weights & Biases",
    "mlflow": "train.trackers: MLflow",
    "triton": "train.kernel=triton, on GPUs",
}
"""The extras that users install, and what needs each; `all` is most of them together, the others are for developers."""
_CORE = ("torch", "transformers", "tokenizers", "numpy", "pyarrow")
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "sve", "asimd")
_GB = 10**9


def doctor(as_json: AsJson = False) -> None:
    """Look at this machine: what is installed, what each missing extra is for, and what phf has to work with.

    phf doctor

    Nothing is installed, downloaded or asked of a network. What is missing stands beside the command that installs it.
    """
    from phf.cli import terminal

    versions, extras, machine = _versions(), [_extra(name) for name in _EXTRAS], _machine()
    if as_json:
        say_json({"versions": versions, "extras": extras, "machine": machine})
        return
    terminal.table("Versions", ["what", "version"], [[name, str(version)] for name, version in versions.items()])
    rows = [[extra["extra"], extra["state"], extra["for"], extra["command"] or ""] for extra in extras]
    terminal.table("Extras", ["extra", "state", "needed by", "command"], rows)
    terminal.table("Machine", ["what", "found"], [[name, _written(value)] for name, value in machine.items()])


def _versions() -> dict[str, str | None]:
    """Return the versions of phf, of Python and of the libraries that numbers depend on; None for what is not installed."""
    from phf import __version__

    found: dict[str, str | None] = {"phf": __version__, "python": platform.python_version(), "system": platform.platform()}
    return found | {name: _version(name) for name in _CORE}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _extra(name: str) -> dict[str, Any]:
    """Describe an extra: whether its libraries are there and recent enough, and the command that installs it if not."""
    from packaging.requirements import Requirement

    faults = []
    for text in metadata.requires("phf") or ():
        wanted = Requirement(text)
        if wanted.marker is None or not wanted.marker.evaluate({"extra": name}) or wanted.marker.evaluate({"extra": ""}):
            continue
        found = _version(wanted.name)
        if found is None:
            faults.append(f"no {wanted.name}")
        elif not wanted.specifier.contains(found, prereleases=True):
            faults.append(f"{wanted.name} {found} is not {wanted.specifier}")
    return {
        "extra": name,
        "state": ", ".join(faults) or "installed",
        "for": _EXTRAS[name],
        "installed": not faults,
        "command": f"pip install 'phf[{name}]'" if faults else None,
    }


def _machine() -> dict[str, Any]:
    """Return what there is to work with; sizes in bytes."""
    from phf.machine import total_memory, usable_cores

    return {
        "cores": usable_cores(),
        "instruction sets": _instruction_sets(),
        "memory": total_memory(),
        "disk free here": shutil.disk_usage(Path.cwd()).free,
        "gpu": _gpus(),
        "sandbox": _sandbox(),
        "spaCy model en_core_web_sm": _version("en_core_web_sm") or "not installed; python -m spacy download en_core_web_sm",
        "hub": "offline: HF_HUB_OFFLINE is set" if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
        else "asked for what is not in its cache",
    }  # fmt: skip


def _instruction_sets() -> str:
    """Return what PyTorch multiplies with, and the processor's own vector extensions where the system says them."""
    import torch

    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        cpuinfo = ""
    listed = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    flags = listed[1].split() if listed else []
    named = [flag for flag in _FLAGS if flag in flags]
    return f"PyTorch uses {torch.backends.cpu.get_cpu_capability()}" + (
        f"; the processor has {', '.join(named)}" if named else ""
    )


def _gpus() -> list[str]:
    """Return the GPUs that PyTorch can use, with their memory."""
    import torch

    if not torch.cuda.is_available():
        return []
    devices = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [f"{device.name}, {device.total_memory / _GB:.0f} GB" for device in devices]


def _sandbox() -> str:
    """Return whether programs that a model wrote can be run here; if not, why."""
    from phf import sandbox
    from phf.errors import InputError

    try:
        sandbox.check()
    except InputError as error:
        return f"cannot be used: {error}"
    return "holds: programs that a model wrote can be run (humaneval)"


def _written(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(value) or "none: PyTorch sees no GPU, so models are trained on the processor"
    return f"{value / _GB:.1f} GB" if isinstance(value, int) and value > _GB else str(value)
