"""Pretraining language models with human feedback."""

import importlib
from types import ModuleType

__version__ = "0.1.0"

_ROOMS = ("documents", "scorers", "objectives", "head", "learner", "lm", "records", "shards", "evaluate")


def __getattr__(name: str) -> ModuleType:
    """Import a public module on first use, so that `import phf` stays instant and free of torch."""
    if name in _ROOMS:
        return importlib.import_module(f"phf.{name}")
    raise AttributeError(f"module 'phf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*_ROOMS, "__version__"]
