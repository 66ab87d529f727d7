"""Keys and values of many texts in flight, in buffers that are written in place.

Legend: R rows, C columns. Every row is aligned on the right: the last token of all rows stands in the same column, a row's
first token in its own. So one forward pass serves rows of any age, and a text enters at any time. A step writes one column of
keys and values into a buffer and copies nothing else.
"""

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

SLACK = 16
"""Spare columns of a new buffer. Few, since memory without gaps is read fastest and moving is rare."""


class Columns:
    """The columns of the cache that are in use: [low, high)."""

    def __init__(self) -> None:
        self.low = 0
        self.high = 0


class Layer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values of one attention layer in one buffer each, (R, heads, C, width)."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, columns: Columns, like: Any) -> None:
        """Begin with empty buffers.

        Args:
            columns: those in use, shared by all layers.
            like: a layer with keys and values of the same shapes and dtype.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.columns, self.dtype, self.device = columns, like.keys.dtype, like.keys.device
        self.keys, self.values = (part.new_empty((0, part.shape[1], 0, part.shape[3])) for part in (like.keys, like.values))
        self.is_initialized = True

    def move(self, rows: int, low: int, high: int, to: int, shape: tuple[int, int]) -> None:
        """Move columns [low, high) of the first rows into new buffers of `shape` rows and columns, so that they end at `to`."""
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_zeros((shape[0], old.shape[1], shape[1], old.shape[3]))
            new[:rows, :, to - (high - low) : to] = old[:rows, :, low:high]
            setattr(self, name, new)

    def put(self, row: int, filled: Any) -> None:
        """Copy the keys and values of another layer to the rows from `row` on and the last columns in use."""
        rows, _, width, _ = filled.keys.shape
        high = self.columns.high
        self.keys[row : row + rows, :, high - width : high] = filled.keys
        self.values[row : row + rows, :, high - width : high] = filled.values

    def replace(self, row: int, by: int, count: int, first: int) -> None:
        """Overwrite `count` rows with those that begin at row `by`, from column `first` on."""
        used = slice(first, self.columns.high)
        for part in (self.keys, self.values):
            part[row : row + count, :, used] = part[by : by + count, :, used]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the next column, as a model does, and return all columns in use including it."""
        rows, low, high = len(key_states), self.columns.low, self.columns.high
        self.keys[:rows, :, high] = key_states[:, :, 0]
        self.values[:rows, :, high] = value_states[:, :, 0]
        return self.keys[:rows, :, low : high + 1], self.values[:rows, :, low : high + 1]

    def get_seq_length(self) -> int:
        """Count the columns in use."""
        return self.columns.high - self.columns.low
