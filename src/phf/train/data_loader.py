"""The batches of a run: rows of the token store's views, from wherever training is, across epochs and changes of objective."""

# B sequences of a batch, T predicted tokens in each.

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from phf.errors import InputError
from phf.objectives import Objective
from phf.tokens import TokenStore, View


@dataclass(frozen=True, slots=True)
class Position:
    """Where training is.

    Args:
        step: optimiser steps done.
        epoch, block: of the next block to read, in the view of the objective that the last step was under.
    """

    step: int = 0
    epoch: int = 0
    block: int = 0


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
        spans: the views and blocks that the rows are from.
    """

    tokens: np.ndarray
    rewards: np.ndarray
    objective: Objective
    after: Position
    spans: Sequence[tuple[View, int, int]]

    def documents(self, limit: int = 5) -> str:
        """Name the documents that the rows are from, at most `limit` of them."""
        view = self.spans[0][0]
        numbers = np.concatenate([view.documents(start, stop) for view, start, stop in self.spans])
        shown = ", ".join(view.store.names(numbers[:limit]))
        return f"{shown} and {len(numbers) - limit} more" if len(numbers) > limit else shown


@dataclass(frozen=True)
class DataLoader:
    """The order of all batches of a run: documents as seed and epoch say, whatever the objective.

    Where a change of objective changes the stream of tokens, training goes on with the first document that it has not begun: at
    most the rest of a document and of a block are passed over. Else it goes on with the next block.

    Args:
        store: the corpus.
        phases: in order, at least one.
        size: B.
        context: T.
        seed: of the order of documents and the dropped control tokens.
        control_ids: token ids of the control tokens of the phases that have any.
    """

    store: TokenStore
    phases: Sequence[Phase]
    size: int
    context: int
    seed: int
    control_ids: Sequence[int]

    def after(self, position: Position) -> Iterator[Batch]:
        """Give batch after batch, from a position on, without end."""
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
        """Go over to another objective's view of the same epoch; see the class for where it goes on."""
        changed = self.view(objective, position.epoch)
        if changed.is_same_stream(view):
            return changed, position
        return changed, dataclasses.replace(position, block=changed.block_at(view.place(position.block)))

    def view(self, objective: Objective, epoch: int) -> View:
        """Look at an epoch of the corpus under an objective.

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
        """Give the phase that a step is in, counted from 0."""
        return next((phase for phase in self.phases if step < phase.until), self.phases[-1])

    def _batch(self, view: View, position: Position, objective: Objective) -> tuple[Batch, View]:
        epoch, block = position.epoch, position.block
        read, spans, missing = [], [], self.size
        while missing:
            if block == len(view):
                epoch, block = epoch + 1, 0
                view = self.view(objective, epoch)
            stop = min(len(view), block + missing)
            read.append(view.read(block, stop))
            spans.append((view, block, stop))
            missing -= stop - block
            block = stop
        tokens, rewards = (np.concatenate(arrays) for arrays in zip(*read, strict=True))
        return Batch(tokens, rewards, objective, Position(position.step + 1, epoch, block), spans), view
