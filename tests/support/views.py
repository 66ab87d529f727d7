"""What training reads of a token store, as one stream, for comparison with exports."""

import numpy as np

from phf import config
from phf.tokens import TokenStore, load_tokenizer

CONDITIONAL = config.Component(name="conditional", threshold=0.0, drop=0.0)


def our_view(store, component, seed=0, epoch=0):
    """The stream of our own view, block by block of one token, as training reads it: tokens and rewards, each (N,)."""
    opened = TokenStore.open(store)
    objective, _ = opened.resolve(config.build("objectives", component))
    vocabulary = len(load_tokenizer(store / "tokenizer"))
    ids = [vocabulary + number for number in range(len(objective.control_tokens))]
    view = opened.view(objective, 1, seed, epoch, ids)
    tokens, rewards = view.read(0, len(view))
    return np.append(tokens[:, 0], tokens[-1, 1]), np.append(rewards[:, 0], rewards[-1, 1])
