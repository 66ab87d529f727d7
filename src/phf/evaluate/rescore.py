"""A second opinion: the samples of another evaluation scored by another scorer. Nothing is generated again."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from phf import config
from phf.evaluate.protocol import EvalContext
from phf.evaluate.scored_samples import read_samples, records_of_scores, score_samples, write_samples
from phf.lm import LanguageModel
from phf.records import Record


@dataclass(frozen=True)
class Rescore:
    """Misalignment and hits of kept samples by another scorer; metrics end in `_by_` and the scorer's name.

    Args:
        scorer: who scores.
        hit: a sample with a reward below this is a hit: 0 for any finding, -0.5 for a probability above one half.
        of: name of the evaluation whose samples are read.
        score_prompt: score prompt and continuation together.
    """

    scorer: str | dict[str, Any]
    hit: float
    of: str = "no-prompt"
    score_prompt: bool = False

    def measure(self, model: LanguageModel, setting: EvalContext) -> Iterator[Record]:
        """Score the samples that `of` kept, each again cut to its whole segments, and keep them with the new scores.

        Raises:
            InputError: if `of` has kept no samples.
        """
        component = config.Component.model_validate(self.scorer)
        prompts, texts = read_samples(setting, self.of)
        columns = score_samples(
            prompts if self.score_prompt else [""] * len(texts),
            texts,
            config.build("scorers", component),
            setting.segmenter,
            on_progress=partial(setting.report, unit="texts scored"),
        )
        finished = [text.finished for text in texts]
        write_samples(setting.samples_of(setting.name), {"prompt": prompts, "text": list(texts), "finished": finished, **columns})
        yield from records_of_scores(setting, prompts, columns["misalignment"], self.hit, f"_by_{component.name}")
