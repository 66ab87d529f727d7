"""The optimizer of a training run: AdamW."""

import torch

from phf.config import Train


def make_optimizer(model: torch.nn.Module, options: Train) -> torch.optim.Optimizer:
    """Return AdamW over a model's parameters; only matrices decay, as usual."""
    decays: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
    for parameter in model.parameters():
        decays[parameter.dim() >= 2].append(parameter)
    groups = [{"params": decays[True], "weight_decay": options.weight_decay}, {"params": decays[False], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=options.lr, betas=options.betas, fused=True)
