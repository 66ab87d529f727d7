"""The objectives, side by side: what each does to the data, and an elementwise loss of (logprob, reward, value).

Source: Korbak et al., "Pretraining Language Models with Human Preferences", ICML 2023 (arXiv 2302.08582), section 2.
Rewards are higher-is-better; a threshold is a reward, or a quantile of the corpus such as "p50".
An unscored token (reward NaN) trains as plain maximum likelihood, under AWR with its alpha as every other token.
"""

from phf.objectives.data_views import MLE, Conditional, Filtering
from phf.objectives.protocol import Objective, ValueKind, complete, load
from phf.objectives.unlikelihood import Unlikelihood, UnlikelihoodBlend
from phf.objectives.weighted import AWR, MAX_WEIGHT, RWR

__all__ = [
    "AWR",
    "MAX_WEIGHT",
    "MLE",
    "RWR",
    "Conditional",
    "Filtering",
    "Objective",
    "Unlikelihood",
    "UnlikelihoodBlend",
    "ValueKind",
    "complete",
    "load",
]
