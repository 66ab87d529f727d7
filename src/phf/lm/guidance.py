"""Guided decoding: one model read under two control tokens, and the distribution beyond the one it is asked under.

    logits = other + gamma * (own - other)

`own` is what the model says under the control token it is conditioned on, `other` what it says of the same text under the
opposite one. gamma = 1 is plain conditional sampling, 0 the opposite condition, and above 1 what tells them apart is
exaggerated. Classifier-free guidance for language models (Sanchez et al. 2023, arXiv 2306.17806), with the opposite condition
in the place of none; DExperts (Liu et al. 2021, arXiv 2105.03023) does the same with three models.

Raw logits serve as well as log-probabilities: they differ by a constant a text, which no softmax sees.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Guidance:
    """From which condition to which, and how far.

    The two texts differ in their control tokens alone: wherever one has `own`, in front of the text or of a later segment, the
    other has `other`. So each is a text as the model saw them in training, and "a segment begins here, in my own mode" is one
    choice, which goes by the name `own` in the mixture.

    Args:
        gamma: how far.
        own: the control token conditioned on.
        other: its opposite.
    """

    gamma: float
    own: int
    other: int

    def swap(self, tokens: Sequence[int]) -> list[int]:
        """Give the text of the other condition."""
        return [self.other if token == self.own else token for token in tokens]

    def mix(self, own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Give the guided logits.

        Args:
            own, other: (..., V) finite logits under each condition; `other` is overwritten.

        Returns:
            (..., V), with nothing for `other`, which never follows. Equal to `own` to the last bit at gamma = 1, and to `other`,
            its control token renamed, at 0.
        """
        other[..., self.own] = other[..., self.other]
        mixed = torch.lerp(other, own, self.gamma)
        mixed[..., self.other] = -torch.inf
        return mixed
