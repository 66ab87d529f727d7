"""Scores that were published with their data, taken as they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from phf import config, plugins
from phf.scorers import ScorerUnusable


@dataclass(frozen=True)
class Published:
    """The scores that come with published data: columns `texts`, a list of segments, and `scores`, one for each.

    Segments and rewards (-score) are those of the data; nothing is segmented and nothing scored. `annotate.segmenter` says
    how the data was segmented, for what a model trained on it writes.

    Args:
        samples: the scorer of other texts, such as a model's samples: a name, or `{name: classifier, model: ...}`. Without
            it, evaluations that score samples are refused.
    """

    samples: str | dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.samples is not None:
            component = config.Component.model_validate(self.samples)
            plugins.check_fields(plugins.find("scorers", component.name), component.fields, "published.samples")

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Refuse: there is no score but for the published texts.

        Raises:
            ScorerUnusable: always.
        """
        raise ScorerUnusable(
            "the scorer 'published' has rewards for the published texts alone. Name the scorer of other texts beside it: "
            "{name: published, samples: {name: classifier, model: ...}}"
        )
