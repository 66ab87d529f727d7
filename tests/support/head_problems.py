"""Small problems for the head: objectives, logits that are scaled or capped, random hidden states."""

import math

import torch

from phf.head import Logits
from phf.objectives import AWR, MLE, RWR, Conditional, Filtering, Unlikelihood, UnlikelihoodBlend

OBJECTIVES = [
    MLE(),
    Filtering(threshold=0.0),
    Conditional(threshold=0.0),
    Unlikelihood(threshold=-0.5, alpha=0.7),
    RWR(beta=0.5),
    AWR(alpha=0.3, beta=0.5),
    UnlikelihoodBlend(alpha=0.7),
]
BENDS = [Logits(), Logits(scale=0.25), Logits(softcap=3.0), Logits(scale=2.0, softcap=1.5)]


def problem(n=13, d=6, v=17, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()

    targets = torch.randint(v, (n,), generator=generator)
    reward = -torch.rand(n, generator=generator, dtype=dtype)
    reward[::5] = math.nan
    return normal(n, d), normal(v, d), normal(v), targets, reward, normal(n)
