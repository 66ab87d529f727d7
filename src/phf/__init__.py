"""Pretraining language models with human feedback."""

import importlib
from types import ModuleType

__version__ = "0.1.0"

_MODULES = (
    "annotate",
    "config",
    "corpora",
    "documents",
    "evaluate",
    "head",
    "inspection",
    "learner",
    "lm",
    "objectives",
    "pipeline",
    "records",
    "report",
    "reward",
    "scorers",
    "segmenters",
    "shards",
    "tokenize",
    "tokens",
    "train",
)


def __getattr__(name: str) -> ModuleType:
    """Import a public module on first use, so that `import phf` stays instant and free of torch."""
    if name in _MODULES:
        return importlib.import_module(f"phf.{name}")
    raise AttributeError(f"module 'phf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*_MODULES, "__version__"]
