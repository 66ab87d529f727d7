"""The names inside an output folder: what a run's folder and a recipe's work folder hold, and under which name.

Nobody else spells or parses these names. A folder that a user made beside ours (`checkpoints/step-best/`) is not one of ours.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKPOINT_NOTES = "phf.json"
"""The file of a checkpoint that says what phf knows of it: run, step, tokens, objective, control tokens, segmenter."""

ORIGIN = "# From "
"""What the first line of a work folder's recipe begins with."""

_SEED = re.compile(r"(?P<group>.+)\.seed-(?P<seed>0|[1-9][0-9]*)")
_STEP = r"(?P<step>0|[1-9][0-9]*)"
_CHECKPOINT = re.compile(rf"step-{_STEP}")
_STATE = re.compile(rf"state-{_STEP}")
_OF_EVALUATION = re.compile(rf"(?P<evaluation>.+)-step-{_STEP}\.parquet")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run: a model, how it was trained, and what was measured of it.

    Args:
        path: the folder, whether it exists or not.
    """

    path: Path

    @classmethod
    def of_checkpoint(cls, checkpoint: Path) -> "RunFolder":
        """Return the folder that holds a checkpoint; the checkpoint itself where it is no run's."""
        return cls(checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint)

    @property
    def config(self) -> Path:
        """What the run is made from: name, objective, training options, token store."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """The training curve, a line of JSON for every few steps."""
        return self.path / "metrics.jsonl"

    @property
    def records(self) -> Path:
        """The measured numbers, one line of JSON each."""
        return self.path / "records.jsonl"

    @property
    def evaluations(self) -> Path:
        """What the records of each evaluation were made from."""
        return self.path / "evaluations.json"

    def find_evaluations(self) -> Path | None:
        """Return `evaluations` as it is called in this folder (`measures.json` in phf 0.1); None if there is none."""
        return next((path for path in (self.evaluations, self.path / "measures.json") if path.exists()), None)

    @property
    def samples(self) -> Path:
        """The folder of what the model wrote, a file for each evaluation and step."""
        return self.path / "samples"

    @property
    def per_example(self) -> Path:
        """The folder of what was measured document by document, a file for each evaluation and step."""
        return self.path / "per-example"

    def samples_of(self, evaluation: str, step: int) -> Path:
        """Return the file with the samples of one evaluation of one checkpoint."""
        return self.samples / f"{evaluation}-step-{step}.parquet"

    def all_samples(self) -> Iterator[tuple[str, int, Path]]:
        """Yield evaluation, step and path of every file of samples, by name."""
        for path in sorted(self.samples.glob("*.parquet")):
            if match := _OF_EVALUATION.fullmatch(path.name):
                yield match["evaluation"], int(match["step"]), path

    def per_example_of(self, evaluation: str, step: int) -> Path:
        """Return the file with what one evaluation of one checkpoint measured document by document (see `per_example`)."""
        return self.per_example / f"{evaluation}-step-{step}.parquet"

    def find_per_example(self, evaluation: str, step: int) -> Path:
        """Return `per_example_of` as it is called in this folder: in `units/` in phf 0.1."""
        path = self.per_example_of(evaluation, step)
        former = self.path / "units" / path.name
        return former if former.exists() and not path.exists() else path

    @property
    def trackers(self) -> Path:
        """Which trackers the run is in, under which identifier, and what they were sent."""
        return self.path / "trackers.json"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def redteam(self) -> Path:
        """The folder of the prompts that attacks found."""
        return self.path / "redteam"

    def finetune_of(self, evaluation: str, step: int) -> Path:
        """Return the folder with what each task and seed of a finetuning evaluation of one checkpoint came to."""
        return self.path / "finetune" / f"{evaluation}-step-{step}"

    @property
    def checkpoint_folder(self) -> Path:
        """The folder of all checkpoints."""
        return self.path / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        """Return the folder of the checkpoint after a step."""
        return self.checkpoint_folder / f"step-{step}"

    def checkpoints(self) -> dict[int, Path]:
        """Return the checkpoints that there are by their step, in order."""
        return _by_step(self.checkpoint_folder, _CHECKPOINT)

    def latest_checkpoint(self) -> Path | None:
        """Return the checkpoint of the highest step; None if there is none."""
        return next(reversed(self.checkpoints().values()), None)

    def state(self, step: int) -> Path:
        """Return the folder of the state that training resumes from after a step."""
        return self.path / f"state-{step}"

    def states(self) -> dict[int, Path]:
        """Return the states that there are by their step, in order."""
        return _by_step(self.path, _STATE)

    def latest_state(self) -> Path | None:
        """Return the state of the highest step; None if there is none."""
        return next(reversed(self.states().values()), None)


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """The folder of a recipe: where its stages write.

    Args:
        path: the folder, whether it exists or not.
    """

    path: Path

    @classmethod
    def of_run(cls, run: Path) -> "WorkFolder":
        """Return the work folder that a run's folder lies in."""
        return cls(run.parent.parent)

    @classmethod
    def of_annotated(cls, annotated: Path) -> "WorkFolder":
        """Return the work folder that an annotated corpus lies in."""
        return cls(annotated.parent)

    @property
    def recipe(self) -> Path:
        """The recipe as it was run, every default spelled out; its first line says which file it is of (`recipe_origin`)."""
        return self.path / "recipe.yaml"

    @property
    def recipe_origin(self) -> str:
        """The file that the recipe was read from and its commit, as the first line of `recipe` says; "" if nothing does."""
        try:
            with self.recipe.open(encoding="utf-8") as file:
                first = file.readline().rstrip("\n")
        except (OSError, UnicodeDecodeError):
            return ""
        return first.removeprefix(ORIGIN) if first.startswith(ORIGIN) else ""

    @property
    def annotated(self) -> Path:
        """The scored corpus."""
        return self.path / "annotated"

    @property
    def manifest(self) -> Path:
        """What the scored corpus was made from, and what it holds."""
        return self.annotated / "manifest.json"

    @property
    def tokens(self) -> Path:
        """The token store."""
        return self.path / "tokens"

    @property
    def token_counts(self) -> Path:
        """What the token store was made from, and what it holds."""
        return self.tokens / "meta.json"

    @property
    def shared(self) -> Path:
        """What evaluations keep for all runs, such as the samples of reference models."""
        return self.path / "shared"

    @property
    def runs(self) -> Path:
        """The folder of all runs."""
        return self.path / "runs"

    def run(self, name: str) -> Path:
        """Return the folder of one run."""
        return self.runs / name

    @property
    def report(self) -> Path:
        """The page and its numbers."""
        return self.path / "report"

    @property
    def page(self) -> Path:
        """The page that compares the runs."""
        return self.report / "index.html"


def split_seed(name: str) -> tuple[str, int | None]:
    """Return the recipe's run and the seed of a run's name: "mle.seed-1" is seed 1 of "mle"; None for a run of one seed."""
    match = _SEED.fullmatch(name)
    return (match["group"], int(match["seed"])) if match else (name, None)


def _by_step(folder: Path, name: re.Pattern[str]) -> dict[int, Path]:
    matches = [(name.fullmatch(path.name), path) for path in folder.iterdir()] if folder.is_dir() else []
    steps = {int(match["step"]): path for match, path in matches if match and path.is_dir()}
    return dict(sorted(steps.items()))
