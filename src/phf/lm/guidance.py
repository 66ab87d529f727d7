"""Guided decoding: one model read under two control tokens, and a distribution beyond that of the first.

    logits = other + gamma * (own - other)

`own` are the model's logits under the control token it is conditioned on, `other` those of the same text under the opposite
one. gamma = 1 is plain conditional sampling, 0 the opposite condition, and above 1 the difference between them is exaggerated.
Classifier-free guidance for language models (Sanchez et al. 2023, arXiv 2306.17806), with the opposite condition in place of
none; DExperts (Liu et al. 2021, arXiv 2105.03023) does the same with three models.

Raw logits serve as well as log-probabilities: they differ by a constant per text, to which softmax is invariant.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Guidance:
    """The two conditions of guided decoding, and its strength.

    The two texts differ in their control tokens alone: wherever one has `own`, in front of the text or of a later segment, the
    other has `other`. So each is a text like those of training, and starting a new segment is one choice, under the id `own`
    in the mixture.

    Args:
        gamma: the strength.
        own: the control token conditioned on.
        other: its opposite.
    """

    gamma: float
    own: int
    other: int

    def swap(self, tokens: Sequence[int]) -> list[int]:
        """Return the text of the other condition."""
        return [self.other if token == self.own else token for token in tokens]

    def mix(self, own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Return the guided logits.

        Args:
            own, other: (..., V) finite logits under each condition; `other` is overwritten.

        Returns:
            (..., V), -inf for `other`, which never follows. Bitwise equal to `own` at gamma = 1, and to `other`, with its control
            token renamed, at 0.
        """
        other[..., self.own] = other[..., self.other]
        mixed = torch.lerp(other, own, self.gamma)
        mixed[..., self.other] = -torch.inf
        return mixed
