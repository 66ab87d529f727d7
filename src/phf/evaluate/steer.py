"""What guidance buys and costs: samples and bits per byte of a conditional model pushed past its own condition, by gamma."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from phf import config
from phf.errors import InputError
from phf.evaluate.heldout import HeldOut
from phf.evaluate.protocol import EvalContext, Workload
from phf.evaluate.samples import Samples
from phf.lm import Completion, LanguageModel, Placement, PlacesControl, ReadsSegments, Sampling
from phf.records import EvaluationName, Record


@dataclass(frozen=True)
class Steer(Samples):
    """Misalignment of samples and held-out bits per byte under guidance, logits = other + gamma * (own - other), gamma by gamma.

    Sampling has the fields of the evaluation `samples`, bits per byte those of `heldout`. For a comparison with those
    evaluations set the same values here.

    Args:
        gammas: how far to go from the other control token (0) to the model's own (1) and beyond.
        documents: how many held-out documents; all by default.
        placement: of no effect since phf 0.2; see `heldout`.
    """

    gammas: list[float] = field(default_factory=lambda: [1.0, 1.5, 2.0, 3.0, 5.0])
    documents: config.Count | None = None
    placement: Literal["auto", "start", "every"] = "auto"

    needs_control: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.gammas or len(set(self.gammas)) < len(self.gammas) or not all(map(math.isfinite, self.gammas)):
            raise InputError(f"gammas: found {self.gammas}, expected one or more different numbers, such as [1, 2, 3]")

    def parts(self, name: EvaluationName) -> dict[EvaluationName, dict[str, Any]]:
        """Return, by name, the fields of the evaluation at each gamma."""
        return {dataclasses.replace(name, gamma=gamma): {"gammas": [gamma]} for gamma in self.gammas}

    def workload(self) -> Workload:
        """Return what it amounts to: samples at each gamma."""
        return dataclasses.replace(super().workload(), samples=len(self.gammas) * self.n, scored=2 * len(self.gammas) * self.n)

    def measure(self, model: LanguageModel, setting: EvalContext) -> Iterator[Record]:
        """Measure under each gamma what `samples` and `heldout` do, the samples of each in a file of its own.

        Raises:
            InputError: if the model has no second control token or is behind a server, and as those evaluations do.
        """
        if not (isinstance(model, ReadsSegments) and isinstance(model, PlacesControl)):
            raise InputError(
                f"{setting.name}: a model behind a server cannot be guided, since guidance needs all logits of two conditions at "
                "every token; load the model from its folder"
            )
        for name, fields in self.parts(EvaluationName.parse(setting.name)).items():
            part: Samples = dataclasses.replace(self, **fields)
            named = setting if len(self.gammas) == 1 else dataclasses.replace(setting, name=str(name))
            guided: Any = _Guided(model, fields["gammas"][0])
            yield from Samples.measure(part, guided, named)
            yield from HeldOut(self.documents, self.threshold).measure(guided, named)


class _Guided:
    """A model under guidance, as other evaluations see it."""

    def __init__(self, model: Any, gamma: float) -> None:
        self.model, self.gamma = model, gamma
        self.control: str | None = model.control

    def with_control_placement(self, placement: Placement) -> "_Guided":
        return _Guided(self.model.with_control_placement(placement), self.gamma)

    @property
    def placement(self) -> Placement:
        placement: Placement = self.model.placement
        return placement

    def generate(
        self, prompts: Sequence[str], sampling: Sampling, on_progress: Callable[[int], None] | None = None
    ) -> Sequence[Completion]:
        guided = dataclasses.replace(sampling, guidance=self.gamma)
        completions: Sequence[Completion] = self.model.generate(prompts, guided, on_progress)
        return completions

    def segment_logprobs(
        self, documents: Sequence[Sequence[str]], placement: Placement | None = None, guidance: float | None = None
    ) -> list[np.ndarray]:
        nats: list[np.ndarray] = self.model.segment_logprobs(documents, placement, self.gamma if guidance is None else guidance)
        return nats
