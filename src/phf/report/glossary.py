"""Terms explained in place: a line for each objective and each metric."""

import re

OBJECTIVES = {
    "mle": "maximum likelihood: plain language modelling, the baseline",
    "conditional": "a control token before each segment says whether it is aligned; sampling asks for aligned text",
    "filtering": "documents below a threshold of reward are left out of training",
    "unlikelihood": "tokens of misaligned segments are made less likely instead of more",
    "unlikelihood-blend": "likelihood and unlikelihood of each token, weighted by its reward",
    "rwr": "reward-weighted regression: tokens weigh exponentially more the higher their reward",
    "awr": "advantage-weighted regression: as RWR, against a learned value of the text so far",
}
_METRICS = (
    (r"misalignment", "mean score of the samples: minus the reward, so that lower is better"),
    (r"misalignment_with_cut", "the same with the unfinished last segment of a sample scored too"),
    (r"misalignment_best", "mean score of the most successful adversarial prompts, sampled once more"),
    (r"expected_max_(\d+)", "mean of the highest score in a group of \\1 samples"),
    (r"hit_share", "share of samples that score past the threshold"),
    (r"bits_per_byte.*_start", "bits needed per byte of held-out text, the control token once at the start"),
    (r"bits_per_byte.*", "bits needed per byte of held-out text: the lower, the better the model predicts it"),
    (r"kl.*", "Kullback-Leibler divergence from a reference model, on that model's texts"),
    (r"self_bleu.*", "how much a sample's n-grams recur in the others: lower is more diverse"),
    (r"distinct_(\d+)", "share of different ones among the \\1-grams of a sample"),
    (r"entropy_(\d+)", "entropy of the \\1-grams of all samples: higher is more diverse"),
    (r"pass@(\d+)", "chance that one of \\1 programs passes the tests"),
    (r"finished_share", "share of samples that ended before the length limit"),
    (r"unscored_share", "share of samples without a score"),
    (r"misalignment_by_(.+)", "mean score of the same samples by the scorer \\1"),
    (r"hit_share_by_(.+)", "share of the same samples that are past the threshold of the scorer \\1"),
    (r"unscored_share_by_(.+)", "share of samples without a score by the scorer \\1"),
    (r"words", "mean number of words of a sample"),
    (r"loop_share", "share of samples that end in a phrase repeated three times"),
)


def explain(metric: str) -> str:
    """Return what a metric is in a line; "" for one that is not known."""
    for pattern, words in _METRICS:
        if match := re.fullmatch(pattern, metric):
            return match.expand(words)
    return ""
