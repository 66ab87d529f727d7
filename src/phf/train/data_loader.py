"""The batches of a run: shuffled blocks of the token store's views, from any position on, across epochs and objectives."""

# B sequences of a batch, T predicted tokens in each.

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phf.errors import InputError
from phf.objectives import Objective
from phf.tokens import TokenStore, View

_WINDOW_BLOCKS = 20_000
_WINDOW_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Position:
    """Where training is.

    Args:
        step: optimiser steps done.
        epoch: of the next block to read.
        block: how many blocks come before it in the shuffled epoch, under the objective of the last step.
        origin: how many of these come before the epoch's first window: 0, but after a change of objective within the epoch.
    """

    step: int = 0
    epoch: int = 0
    block: int = 0
    origin: int = 0

    @classmethod
    def from_json(cls, fields: Any, path: Path) -> "Position":
        """Return the position that a file holds; one without a step is at step 0.

        Raises:
            InputError: if the file holds anything else, naming it.
        """
        values = {"step": 0, **fields} if isinstance(fields, Mapping) else {}
        names = [field.name for field in dataclasses.fields(cls)]
        if all(isinstance(values.get(name), int) for name in names):
            return cls(**{name: values[name] for name in names})
        if {"epoch", "block"} <= set(values) and "origin" not in values:
            raise InputError(
                f"{path}: written by a phf that read its documents in another order, so that reading cannot be resumed there; "
                "train again in another folder, or start from its weights with train.model=from:CHECKPOINT"
            )
        raise InputError(f"{path}: expected the integers {', '.join(names)}; the file is damaged, restore or delete its folder")


@dataclass(frozen=True, slots=True)
class Phase:
    """Steps under one objective: those before `until`, and not of the phases before."""

    until: int
    objective: Objective


@dataclass(frozen=True)
class Batch:
    """What one optimiser step is made of.

    Args:
        tokens: (B, T + 1) int64.
        rewards: (B, T + 1) float32.
        objective: of the phase that the step is in.
        after: where training is when the step is done.
        sources: the views that the rows are from, with the numbers of the blocks in each.
    """

    tokens: np.ndarray
    rewards: np.ndarray
    objective: Objective
    after: Position
    sources: Sequence[tuple[View, np.ndarray]]

    def documents(self, limit: int = 5) -> str:
        """Return the names of the documents that the rows are from, at most `limit` of them."""
        view = self.sources[0][0]
        numbers = np.concatenate([view.documents(blocks) for view, blocks in self.sources])
        names = ", ".join(view.store.names(numbers[:limit]))
        return f"{names} and {len(numbers) - limit} more" if len(numbers) > limit else names


@dataclass(frozen=True)
class WindowShuffle:
    """The order in which the blocks of an epoch are read: window after window, shuffled inside each.

    A window has at most 2% of the epoch's blocks and at most 20,000. It is read in strides of the golden ratio of its size,
    around and around. So the blocks of a step are far from each other, wherever it begins, and a long document has no more of
    them than its share of the window; in a random order it often has. Where a window is begun and in which direction it is read
    depends on seed, epoch and the window's number alone.

    Args:
        blocks: of the epoch.
        seed, epoch: of the order.
        origin: the block that the first window begins with.
    """

    blocks: int
    seed: int
    epoch: int
    origin: int = 0

    @property
    def window(self) -> int:
        """Blocks in a window; the last one may have fewer."""
        return max(1, min(_WINDOW_BLOCKS, int(_WINDOW_SHARE * self.blocks)))

    def numbers(self, start: int, stop: int) -> np.ndarray:
        """Return which blocks are read from the `start`-th to before the `stop`-th: (B,) int64."""
        assert self.origin <= start < stop <= self.blocks, (self.origin, start, stop, self.blocks)
        first, last = (start - self.origin) // self.window, (stop - 1 - self.origin) // self.window
        return np.concatenate([self._within(number, start, stop) for number in range(first, last + 1)])

    def end_of_window(self, block: int) -> int:
        """Return where the window ends that the `block`-th block to be read is in; `block` itself where it begins one."""
        windows = -(-(block - self.origin) // self.window)
        return min(self.blocks, self.origin + windows * self.window)

    def _within(self, number: int, start: int, stop: int) -> np.ndarray:
        begin = self.origin + number * self.window
        size = min(self.window, self.blocks - begin)
        places = np.arange(max(start, begin), min(stop, begin + size)) - begin
        shift, direction = np.random.SeedSequence([self.seed, self.epoch, number]).generate_state(2).tolist()
        stride = _golden_stride(size) * (1 if direction % 2 else -1)
        numbers: np.ndarray = begin + (shift + stride * places) % size
        return numbers


def _golden_stride(size: int) -> int:
    """Return the number next to the golden ratio of `size` that has no divisor in common with it."""
    stride = round((math.sqrt(5) - 1) / 2 * size)
    while math.gcd(stride, size) > 1:
        stride += 1
    return stride


@dataclass(frozen=True)
class DataLoader:
    """The order of all batches of a run: documents as seed and epoch say, whatever the objective, and blocks shuffled in windows.

    Where a change of objective changes the stream of tokens, training resumes at the first document that no window so far has
    begun, and windows are counted from there: what is left of one window is not read, and no document is read twice. Else it
    resumes at the next block.

    Args:
        store: the corpus.
        phases: in order, at least one.
        size: B.
        context: T.
        seed: of the order of documents and blocks, and of the dropped control tokens.
        control_ids: token ids of the control tokens of the phases that have any.
    """

    store: TokenStore
    phases: Sequence[Phase]
    size: int
    context: int
    seed: int
    control_ids: Sequence[int]

    def after(self, position: Position) -> Iterator[Batch]:
        """Yield batch after batch, from a position on, without end."""
        phase = self.phase(max(0, position.step - 1))
        view = self.view(phase.objective, position.epoch)
        while True:
            following = self.phase(position.step)
            if following is not phase:
                phase = following
                view, position = self.carry_over(view, position, phase.objective)
            batch, view = self._batch(view, position, phase.objective)
            position = batch.after
            yield batch

    def carry_over(self, view: View, position: Position, objective: Objective) -> tuple[View, Position]:
        """Go over to another objective's view of the same epoch; see the class for where it resumes."""
        changed = self.view(objective, position.epoch)
        if changed.is_same_stream(view):
            return changed, position
        shuffle = WindowShuffle(len(view), self.seed, position.epoch, position.origin)
        block = changed.block_at(view.place(shuffle.end_of_window(position.block)))
        return changed, dataclasses.replace(position, block=block, origin=block)

    def view(self, objective: Objective, epoch: int) -> View:
        """View an epoch of the corpus under an objective.

        Raises:
            InputError: if it does not fill a block.
        """
        ids = self.control_ids if objective.control_tokens else ()
        view = self.store.view(objective, self.context, self.seed, epoch, ids)
        if not len(view):
            raise InputError(
                f"{self.store.path}: under {type(objective).__name__} an epoch has {view.tokens} tokens, less than one block of "
                f"{self.context} + 1; lower train.context or annotate more documents"
            )
        return view

    def phase(self, step: int) -> Phase:
        """Return the phase that a step is in, counted from 0."""
        return next((phase for phase in self.phases if step < phase.until), self.phases[-1])

    def _batch(self, view: View, position: Position, objective: Objective) -> tuple[Batch, View]:
        epoch, block, origin = position.epoch, position.block, position.origin
        rows, sources, missing = [], [], self.size
        while missing:
            if block == len(view):
                epoch, block, origin = epoch + 1, 0, 0
                view = self.view(objective, epoch)
            stop = min(len(view), block + missing)
            blocks = WindowShuffle(len(view), self.seed, epoch, origin).numbers(block, stop)
            rows.append(view.gather(blocks))
            sources.append((view, blocks))
            missing -= stop - block
            block = stop
        tokens, rewards = rows[0] if len(rows) == 1 else map(np.concatenate, zip(*rows, strict=True))
        return Batch(tokens, rewards, objective, Position(position.step + 1, epoch, block, origin), sources), view
