"""How a reward model is trained."""

from dataclasses import dataclass
from typing import Literal, get_args

from phf.errors import InputError

Kind = Literal["auto", "classification", "regression", "pairs"]


@dataclass(frozen=True)
class TrainOptions:
    """How a reward model is trained.

    Args:
        kind: what the labels are: "classification" (positive or not), "regression" (rewards, of an annotated corpus), or "pairs"
            (a chosen and a rejected text). "auto" is regression for an annotated corpus, pairs for a file with columns `chosen`
            and `rejected`, and else classification.
        text, label, source, split: columns of labelled texts; see `phf.reward.labelled_texts.read`.
        column: of an annotated corpus: the rewards to learn.
        threshold: of an annotated corpus, for classification: segments with a lower reward are positive, that is, not wanted; a
            reward, or a quantile such as "p50".
        limit: segments of an annotated corpus that are read at most, chosen at random.
        base: a Hugging Face model to finetune, by folder or hub name; without it, a linear model is fitted.
        folds: a linear model is fitted without each of so many equal parts of the texts, to be measured on that part, and then on
            all of them. A base is finetuned once, without one such part.
        epochs, rate, batch, seed: of the finetuning: times each text is seen, learning rate, texts a step.
    """

    kind: Kind = "auto"
    text: str = "text"
    label: str = "toxic"
    source: str | None = None
    split: str | None = None
    column: str = "rewards"
    threshold: float | str | None = None
    limit: int = 200_000
    base: str | None = None
    folds: int = 5
    epochs: int = 2
    rate: float = 2e-5
    batch: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(f"kind: found {self.kind!r}; expected one of {', '.join(get_args(Kind))}")
