"""The commands of the stages, but for those that measure, and the command that runs them all."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from phf import object_store
from phf.cli.options import (
    AsJson,
    Out,
    Overrides,
    Quiet,
    RecipeFile,
    beside,
    done,
    origin_of,
    resolved,
    say,
    say_json,
    scorer_named,
    split,
)
from phf.errors import InputError
from phf.formatting import percent, short_count
from phf.layout import WorkFolder

_MODELS = (("gpt2-small", 85_000_000), ("gpt2-4m", 4_000_000), ("gpt2-2m", 1_800_000), ("gpt2-1m", 800_000), ("gpt2-tiny", 0))
"""Models to propose, by their parameters without embeddings."""
_LEAST_TOKENS = 1_000_000
_FOR_DEFAULTS = 50_000_000
"""Tokens from which on the default batch and context leave enough steps."""
_SAMPLED = 128
"""Tokens of a sample by default."""


def annotate(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INPUT]... [KEY=VALUE]...", help="Files, folders, globs, fsspec addresses, hf:NAME.", show_default=False
        ),
    ] = None,
    out: Out = "annotated",
    scorer: Annotated[
        str | None, typer.Option("--scorer", "-s", help="Who gives rewards: `phf list scorers`, or a reward model's folder.")
    ] = None,
    segmenter: Annotated[str | None, typer.Option(help="How texts are cut: `phf list segmenters`.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column that holds the text.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", "-w", min=1, help="Local processes; all cores by default.")] = None,
    engine: Annotated[str | None, typer.Option(help="local, or ray.")] = None,
    recipe: RecipeFile = None,
    quiet: Quiet = False,
) -> None:
    """Cut documents into segments and score each one.

        phf annotate corpus/*.jsonl.gz --scorer toxicity --segmenter sentences --out work/annotated

    Writes Parquet parts (id, segments, rewards; higher is better, NaN could not be scored) and manifest.json.
    """
    from phf.annotate import annotate as run_annotate
    from phf.cli import terminal

    files, changes = split(inputs)
    made = resolved(recipe, changes, {
        "corpus.inputs": files or None, "annotate.scorer": scorer_named(scorer), "annotate.segmenter": segmenter,
        "corpus.text_column": text_column, "annotate.workers": workers, "annotate.engine": engine,
    })  # fmt: skip
    with object_store.output(out, keep="*.json*") as folder, terminal.progress(quiet) as progress:
        summary = run_annotate(made.corpus, made.annotate, folder, progress)
    failed = f"; {summary.failed:,} failed, see {out}/quarantine.jsonl" if summary.failed else ""
    done(
        f"{out}: {summary.documents:,} documents, {summary.segments:,} segments, {summary.unscored:,} unscored{failed}",
        summary.was_finished,
        f"phf inspect {out}, then phf tokenize {out} --out {beside(out, WorkFolder(Path()).tokens.name)}",
    )


def tokenize(
    annotated: Annotated[str, typer.Argument(help="Folder or address that annotate wrote, or published scored data.")],
    changes: Overrides = None,
    out: Out = "tokens",
    recipe: RecipeFile = None,
    quiet: Quiet = False,
) -> None:
    """Tokenise a scored corpus, once for all objectives.

        phf tokenize work/annotated --out work/tokens tokenize.tokenizer=gpt2 tokenize.held_out=0.01

    Writes a token store: tokens, where segments and documents begin, rewards, the tokenizer; held-out documents apart.
    """
    from phf.cli import terminal
    from phf.tokenize import tokenize as run_tokenize

    made = resolved(recipe, changes)
    corpus = object_store.local_copy(annotated)
    with object_store.output(out) as folder, terminal.progress(quiet) as progress:
        summary = run_tokenize(corpus, folder, made.tokenize, progress)
    differ = (
        "" if summary.differing is None else f"; {percent(summary.differing)} of tokens differ from documents tokenised whole"
    )
    done(
        f"{out}: {summary.tokens:,} tokens of {summary.documents:,} documents; "
        f"{summary.held_out:,} held out, {summary.empty:,} empty{differ}",
        summary.already_done,
        f"phf train {out} --objective mle --out {beside(out, str(WorkFolder(Path()).run('mle')))} {_first_run(summary.tokens)}",
    )


def train(
    tokens: Annotated[str, typer.Argument(help="Folder or address that tokenize wrote; what an address has is copied first.")],
    changes: Overrides = None,
    objective: Annotated[str | None, typer.Option("--objective", help="`phf list objectives`.")] = None,
    run_name: Annotated[str | None, typer.Option("--only", help="Instead: a run of the recipe, by name.")] = None,
    out: Annotated[str | None, typer.Option("--out", "-o", help="Run folder or address; runs/NAME by default.")] = None,
    recipe: RecipeFile = None,
    quiet: Quiet = False,
) -> None:
    """Train a model under an objective.

        phf train work/tokens --objective conditional --out work/runs/conditional runs.conditional.threshold=0 train.tokens=10M

    Stopped by Ctrl-C it saves its state, and the same command goes on from there. Finetuning with feedback:
    `train.init='{run: work/runs/mle, at: 50%}'`. Several devices: `torchrun --nproc-per-node 8 -m phf train ...`.
    """
    from phf.cli import terminal
    from phf.train import train as run_train

    if (objective is None) == (run_name is None):
        raise InputError("give either --objective, by name, or --only, a run of the recipe")
    name = run_name or (out.rstrip("/").rpartition("/")[2] if out else str(objective))
    first = [] if objective is None else [f"runs.{name}.name={objective}"]
    made = resolved(recipe, [*first, *(changes or [])]).expanded()
    if name not in made.runs:
        raise InputError(f"--only {name}: the recipe has no such run (it has: {', '.join(made.runs) or 'none'})")
    place = out or WorkFolder(Path()).run(name)
    store, project = object_store.local_copy(tokens), made.name if recipe else None
    with object_store.output(place) as folder, terminal.progress(quiet) as progress:
        summary = run_train(store, folder, name, made.runs[name].objective, made.train_of(name), progress, project)
    if os.environ.get("RANK", "0") != "0":  # torchrun: one process speaks
        return
    done(
        f"{place}/{summary.checkpoint.relative_to(folder)}: {summary.tokens:,} tokens in {summary.step:,} steps",
        summary.already_done,
        f"phf evaluate {place}{_few_samples(made.train_of(name).context)}",
    )


def _first_run(tokens: int) -> str:
    """Return options for a first training run on a corpus of so many tokens: one epoch, a model of a twentieth of the tokens."""
    budget = max(tokens, _LEAST_TOKENS)
    model = next(name for name, parameters in _MODELS if parameters <= budget / 20)
    small = " train.context=256 train.batch=8 train.lr=2e-3" if budget < _FOR_DEFAULTS else ""
    return f"train.tokens={short_count(budget)} train.model={model}{small}"


def _few_samples(context: int) -> str:
    """Return changes of the default evaluations for a model that reads so many tokens: on a processor 512 samples are enough."""
    import torch

    key = "evaluate.evaluations.no-prompt"
    changes = [] if torch.cuda.is_available() else [f"{key}.n=512"]
    changes += [f"{key}.max_tokens={context - 2}", f"{key}.min_tokens=1"] if context < _SAMPLED + 2 else []
    return "".join(f" {change}" for change in changes)


def report(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN|KEY=VALUE", help="Run folders, a recipe's work folder, or files of records; or addresses."),
    ],
    out: Out = "report",
    as_json: Annotated[bool, typer.Option("--json", help="Also print the numbers, as JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Also print the numbers, as CSV.")] = False,
    markdown: Annotated[Path | None, typer.Option(help="Also write the verdict on each claim of the paper to a file.")] = None,
    records: Annotated[
        Path | None, typer.Option(help="Also write the runs' records to one .jsonl file, from which this command can report.")
    ] = None,
    recipe: RecipeFile = None,
    quiet: Quiet = False,
) -> None:
    """Compare runs on one self-contained page, index.html, with the numbers beside it in report.json and report.csv.

    phf report work --out work/report

    phf report work/runs/mle work/runs/conditional --csv > numbers.csv

    phf report work/runs/* report.x=kl.kl_per_byte report.y=neutral.misalignment

    phf report work --records results/pii-mini.jsonl

    phf report results/*-mini.jsonl --markdown results/REPORT.md
    """
    from phf.cli import terminal
    from phf.report import report as run_report

    if as_json and as_csv:
        raise InputError("give either --json or --csv; both files are written anyway")
    places, changes = split(runs)
    folders = [object_store.local_copy(place) for place in places]
    with object_store.output(out) as folder, terminal.progress(quiet) as progress:
        options = resolved(recipe, changes, {} if recipe else _as_in_recipe(folders)).report
        page = run_report(folders, folder, options, progress, markdown, records)
    if as_json or as_csv:
        terminal.write((folder / f"report.{'json' if as_json else 'csv'}").read_text(encoding="utf-8"))
    else:
        _show_page(page, f"{out}/{page.relative_to(folder)}")


def _as_in_recipe(folders: Sequence[Path]) -> dict[str, Any]:
    """Return the title and the axes that its recipe gives the page of a work folder, if that is reported on alone."""
    from phf.config import read_recipe

    paths = [WorkFolder(folder).recipe for folder in folders]
    if len(paths) != 1 or not paths[0].is_file():
        return {}
    section = read_recipe(paths[0]).report.model_dump(exclude_defaults=True)
    return {f"report.{name}": value for name, value in section.items()}


def run(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, or the name of one in `phf recipes`.")],
    changes: Overrides = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Folder or address of all outputs; work/NAME by default.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Only these runs of the recipe; repeatable.")] = None,
    engine: Annotated[str | None, typer.Option(help="local, or ray: scoring and runs over a Ray cluster.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what is done, left and needed, and how long it takes; start nothing.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run a recipe from corpus to report. What is done already is left alone.

    phf run pii-demo --only mle --only conditional train.tokens=1M

    phf run recipe.yaml --dry-run
    """
    from phf.cli import terminal
    from phf.cli.dry_run import show_plan
    from phf.pipeline import run as run_recipe

    made = resolved(recipe, changes, {"engine": engine, "annotate.engine": engine})
    place = out or f"work/{made.name}"
    if dry_run:
        if object_store.is_address(place):
            raise InputError(
                f"--dry-run does not look at what is done at {place}; leave --out out, or give a folder of this machine"
            )
        show_plan(made, Path(place), only or (), as_json)
        return
    with object_store.output(place) as folder, terminal.progress(quiet) as progress:
        page = run_recipe(made, folder, only or (), progress, origin_of(recipe))
    if as_json:
        shown = page.relative_to(folder)
        say_json({"work": place, "page": f"{place}/{shown}", "numbers": f"{place}/{shown.with_name('report.json')}"})
    else:
        _show_page(page, f"{place}/{page.relative_to(folder)}")


def _show_page(page: Path, place: str) -> None:
    """Print what a report found, in the words of its page, and where it is."""
    from phf.artifacts import read_object

    for finding in read_object(page.with_name("report.json"))["findings"]:
        say(finding)
    done(place, False, "open it in a browser")
