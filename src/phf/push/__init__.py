"""Push to the Hugging Face hub: a checkpoint with a model card, or an annotated corpus with a dataset card."""

from dataclasses import dataclass
from pathlib import Path

from phf.errors import InputError
from phf.hub import HubModel
from phf.push.card import Card
from phf.push.dataset_card import corpus_repository
from phf.push.model_card import model_repository
from phf.push.repository import Repository
from phf.push.repository import upload as upload
from phf.push.repository import write_folder as write_folder


@dataclass(frozen=True, slots=True)
class Destination:
    """Where on the hub something is pushed.

    Args:
        name: OWNER/NAME.
        revision: a branch, made if it does not exist; None for the default branch.

    Raises:
        InputError: for a name that the hub cannot have, or one without an owner.
    """

    name: str
    revision: str | None = None

    def __post_init__(self) -> None:
        parsed = HubModel.parse(self.name)
        if parsed.revision is not None:
            raise InputError(f"{self.name}: a revision is given by --revision {parsed.revision}, not behind the name")
        if "/" not in self.name:
            raise InputError(f"{self.name}: no owner; expected OWNER/NAME, as in my-team/{self.name}")


def prepare(source: str, to: Destination, data_license: str | None = None, readme: Path | None = None) -> Repository:
    """Return the files that a push of a run or of an annotated corpus uploads. Nothing is written, and the hub is not asked.

    Args:
        source: a run's folder, `RUN@STEP`, a checkpoint's folder, or a folder that `annotate` wrote.
        to: where it is going to be; the card's code names it.
        data_license: licence of the data, an identifier of the hub such as "cc-by-4.0" or any text; None if it is not known.
        readme: a card to push in place of the generated one.

    Raises:
        InputError: for a folder that is neither, a run without config.yaml, damaged files, or a card that cannot be read.
    """
    make = corpus_repository if _is_corpus(Path(source)) else model_repository
    repository = make(source, Card(to.name, to.revision, data_license))
    if readme is None:
        return repository
    try:
        return repository.with_readme(readme.read_text(encoding="utf-8"), str(readme))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{readme}: cannot be read ({error}); expected a Markdown file") from None


def _is_corpus(folder: Path) -> bool:
    """Return whether a folder holds an annotated corpus rather than a model."""
    return (folder / "manifest.json").exists() or (folder.is_dir() and any(folder.glob("part-*.parquet")))
