"""A plain Python function as a scorer."""

import functools
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from phf.errors import InputError


@dataclass(frozen=True)
class PythonFunction:
    """Any function `texts -> rewards`, by its dotted path, such as `mypackage.mymodule.score`.

    Args:
        function: the dotted path, of a module that is installed or in the working folder. The function takes a list of N texts
            and returns N numbers, higher is better, NaN for a text that it could not score.
    """

    function: str

    def __post_init__(self) -> None:
        _find(self.function)

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return the reward of each text: (N,) float32.

        Raises:
            InputError: if the function returns something else than a number for each text.
        """
        returned = _find(self.function)(list(texts))
        try:
            rewards = np.asarray(returned, dtype=np.float32)
        except (TypeError, ValueError):
            raise InputError(
                f"python.function {self.function}: returned {_shown(returned)}; expected {len(texts)} numbers"
            ) from None
        if rewards.shape != (len(texts),):
            raise InputError(
                f"python.function {self.function}: returned shape {rewards.shape} for {len(texts)} texts; expected a number each"
            )
        return rewards


@functools.cache
def _find(path: str) -> Callable[[list[str]], Any]:
    module, dot, name = path.rpartition(".")
    if not dot or not all(part.isidentifier() for part in path.split(".")):
        raise InputError(f"python.function: found {path!r}; expected a dotted path, such as mypackage.mymodule.score")
    if os.getcwd() not in sys.path:  # last, so that no file here takes the place of an installed module
        sys.path.append(os.getcwd())
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise InputError(f"python.function {path}: cannot be imported ({error}); is its folder on PYTHONPATH?") from None
    except AttributeError:
        raise InputError(f"python.function {path}: the module {module} has no {name!r}") from None
    if not callable(found):
        raise InputError(f"python.function {path}: is {_shown(found)}; expected a function")
    function: Callable[[list[str]], Any] = found
    return function


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}... ({type(value).__name__})"
