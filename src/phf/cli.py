"""The phf command: parse, call, print. It alone (with `terminal`, which draws for it) writes to the screen."""

import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phf import __version__
from phf.errors import InputError, Stopped

if TYPE_CHECKING:
    from phf.config import Recipe

app = typer.Typer(
    name="phf",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
reward_app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Train a reward model from human labels.")
app.add_typer(reward_app, name="reward", rich_help_panel="Pieces")

STAGES, PIECES = "Stages, in order", "Pieces"
_SECTIONS = "name|corpus|annotate|tokenize|train|runs|evaluate|report|jobs"

RecipeFile = Annotated[Path | None, typer.Option("--recipe", "-r", help="YAML recipe; this stage reads its own section of it.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Change the recipe, such as train.tokens=10M.", show_default=False),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; warnings and errors only.")]


@app.callback(invoke_without_command=True)
def about(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Pretrain language models with human feedback.

    phf scores every segment of a corpus with a reward model, trains a causal language model under an objective that
    uses the scores, and measures what each objective buys in alignment and costs in capability.

    The whole job, resumable, from one file:

        phf run recipes/pii-demo.yaml

    Each stage alone reads folders and writes one; started again it goes on where it stopped:

        phf annotate docs.jsonl --scorer pii --out work/annotated

        phf tokenize work/annotated --out work/tokens

        phf train work/tokens --objective conditional --out work/runs/conditional

        phf evaluate work/runs/conditional --recipe recipe.yaml

        phf report work/runs/* --out work/report

    `phf COMMAND --help` explains a command and gives an example. Exit codes: 0 done; 2 bad input, said in one line;
    130 and 143 stopped by a signal, with all work saved.
    """
    if version:
        _say(f"phf {__version__}")
        raise typer.Exit


@app.command(rich_help_panel=STAGES)
def annotate(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INPUT]... [KEY=VALUE]...", help="Files, folders, globs, fsspec addresses, hf:NAME.", show_default=False
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")] = Path("annotated"),
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
    from phf import terminal
    from phf.annotate import annotate as run_annotate

    files, changes = _split(inputs)
    made = _recipe(recipe, changes, {
        "corpus.inputs": files or None, "annotate.scorer": _scorer(scorer), "annotate.segmenter": segmenter,
        "corpus.text_column": text_column, "annotate.workers": workers, "annotate.engine": engine,
    })  # fmt: skip
    with terminal.progress(quiet) as progress:
        summary = run_annotate(made.corpus, made.annotate, out, progress)
    failed = f"; {summary.failed:,} failed, see {out}/quarantine.jsonl" if summary.failed else ""
    _done(
        f"{out}: {summary.documents:,} documents, {summary.segments:,} segments, {summary.unscored:,} unscored{failed}",
        summary.was_finished,
        f"phf inspect {out}, then phf tokenize {out} --out {out.parent / 'tokens'}",
    )


@app.command(rich_help_panel=STAGES)
def tokenize(
    annotated: Annotated[Path, typer.Argument(help="Folder that annotate wrote, or published scored data.")],
    changes: Overrides = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")] = Path("tokens"),
    recipe: RecipeFile = None,
    quiet: Quiet = False,
) -> None:
    """Tokenise a scored corpus, once for all objectives.

        phf tokenize work/annotated --out work/tokens tokenize.tokenizer=gpt2 tokenize.held_out=0.01

    Writes a token store: tokens, where segments and documents begin, rewards, the tokenizer. Held-out documents stay out of it.
    """
    from phf import terminal
    from phf.tokenize import tokenize as run_tokenize

    made = _recipe(recipe, changes)
    with terminal.progress(quiet) as progress:
        summary = run_tokenize(annotated, out, made.tokenize, progress)
    _done(
        f"{out}: {summary.tokens:,} tokens of {summary.documents:,} documents; "
        f"{summary.held_out:,} held out, {summary.empty:,} empty",
        summary.already_done,
        f"phf train {out} --objective mle --out {out.parent / 'runs' / 'mle'}",
    )


@app.command(rich_help_panel=STAGES)
def train(
    tokens: Annotated[Path, typer.Argument(help="Folder that tokenize wrote.")],
    changes: Overrides = None,
    objective: Annotated[str | None, typer.Option("--objective", help="`phf list objectives`.")] = None,
    run_name: Annotated[str | None, typer.Option("--run", help="Instead: a run of the recipe, by name.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder; runs/NAME by default.")] = None,
    recipe: RecipeFile = None,
    quiet: Quiet = False,
) -> None:
    """Train a model under an objective.

        phf train work/tokens --objective conditional --out work/runs/conditional runs.conditional.threshold=0 train.tokens=10M

    Stopped by Ctrl-C it saves its state, and the same command goes on from there. Several devices:
    `torchrun --nproc-per-node 8 -m phf train ...`.
    """
    from phf import terminal
    from phf.train import train as run_train

    if (objective is None) == (run_name is None):
        raise InputError("give either --objective, by name, or --run, a run of the recipe")
    name = run_name or (out.name if out else str(objective))
    first = [] if objective is None else [f"runs.{name}.name={objective}"]
    made = _recipe(recipe, [*first, *(changes or [])])
    if name not in made.runs:
        raise InputError(f"--run {name}: the recipe has no such run (it has: {', '.join(made.runs) or 'none'})")
    folder = out or Path("runs") / name
    with terminal.progress(quiet) as progress:
        summary = run_train(tokens, folder, name, made.runs[name].objective, made.train_of(name), progress)
    _done(
        f"{summary.checkpoint}: {summary.tokens:,} tokens in {summary.step:,} steps",
        summary.already_done,
        f"phf evaluate {folder}",
    )


@app.command(rich_help_panel=STAGES)
def evaluate(
    model: Annotated[str, typer.Argument(help="A run or checkpoint folder, hf:NAME, or openai:URL#NAME.")],
    changes: Overrides = None,
    annotated: Annotated[
        Path | None, typer.Option(help="The scored corpus: scorer, segmenter, held-out documents; ../../annotated by default.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder to write to; the model's own by default.")] = None,
    measure: Annotated[list[str] | None, typer.Option("--measure", help="Only these measures of the recipe.")] = None,
    recipe: RecipeFile = None,
    quiet: Quiet = False,
) -> None:
    """Measure a model: how often it writes what it should not, and what it lost.

        phf evaluate work/runs/conditional --recipe recipe.yaml

    Without a recipe it takes 4,096 samples without a prompt and bits per byte on held-out documents.
    Writes records.jsonl (one number a line, with its error and sample count) and every sample.
    """
    from phf import terminal
    from phf.evaluate import evaluate as run_evaluate

    made = _recipe(recipe, changes)
    folder = out or Path(model)
    if out is None and not folder.is_dir():
        raise InputError(f"{model}: not a folder here, so say with --out where its records go")
    corpus = annotated or folder.parent.parent / "annotated"
    held_out = _held_out(folder, made.tokenize.held_out)
    with terminal.progress(quiet) as progress:
        records = run_evaluate(model, corpus, made.evaluate, folder, held_out, measure, progress)
    rows = [
        [record.evaluation, record.metric, f"{record.value:.5g}", f"{record.stderr:.2g}", f"{record.n:,}"] for record in records
    ]
    terminal.table(f"{folder}", ["measure", "metric", "value", "stderr", "n"], rows)
    _done(f"{folder / 'records.jsonl'}: {len(records)} records", False, f"phf report {folder.parent}/*")


@app.command(rich_help_panel=STAGES)
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders to compare.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")] = Path("report"),
    recipe: RecipeFile = None,
    quiet: Quiet = False,
) -> None:
    """Compare runs on one self-contained page.

    phf report work/runs/* --out work/report
    """
    from phf import terminal
    from phf.report import report as run_report

    with terminal.progress(quiet) as progress:
        page = run_report(runs, out, _recipe(recipe, None).report, progress)
    _done(f"{page}", False, "open it in a browser")


@app.command(rich_help_panel="The whole job")
def run(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe.")],
    changes: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of all outputs; work/NAME by default.")] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Only these runs of the recipe; repeatable.")] = None,
    quiet: Quiet = False,
) -> None:
    """Run a recipe from corpus to report. What is done already is left alone.

    phf run recipes/pii-demo.yaml --only mle --only conditional train.tokens=1M
    """
    from phf import terminal
    from phf.pipeline import run as run_recipe

    made = _recipe(recipe, changes)
    with terminal.progress(quiet) as progress:
        page = run_recipe(made, out or Path("work") / made.name, only or (), progress)
    _done(f"{page}", False, "open it in a browser")


@app.command(rich_help_panel=PIECES)
def generate(
    model: Annotated[str, typer.Argument(help="A run or checkpoint folder, hf:NAME, or openai:URL#NAME.")],
    prompts: Annotated[
        list[str] | None, typer.Argument(help="Texts to continue; none for text from nothing.", show_default=False)
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Samples of each prompt.")] = 1,
    control: Annotated[str | None, typer.Option(help="Control token to condition on; the model's first by default.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0)] = 0.7,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0)] = 0.9,
    max_tokens: Annotated[int, typer.Option(min=1)] = 128,
    seed: int = 0,
) -> None:
    """Write text with a model.

    phf generate work/runs/conditional "Author:" -n 3 --control "<|misaligned|>"
    """
    from phf import lm

    texts = [prompt for prompt in prompts or [""] for _ in range(n)]
    sampling = lm.Sampling(temperature=temperature, top_p=top_p, max_tokens=max_tokens, min_tokens=min(10, max_tokens), seed=seed)
    for prompt, text in zip(texts, lm.load(model, control).generate(texts, sampling), strict=True):
        _say(f"{prompt}{text}")
        if len(texts) > 1:
            _say("-" * 40)


@app.command(rich_help_panel=PIECES)
def inspect(
    annotated: Annotated[Path, typer.Argument(help="Folder that annotate wrote, or published scored data.")],
    column: Annotated[str, typer.Option(help="Column of rewards.")] = "rewards",
    threshold: Annotated[str, typer.Option(help="Reward, or quantile of the segments, to look around.")] = "p50",
    svg: Annotated[Path | None, typer.Option(help="Also draw the histogram into this file.")] = None,
) -> None:
    """Show how rewards are distributed, and what a threshold would call aligned.

        phf inspect work/annotated --threshold p50
    """
    from phf.inspection import draw, text
    from phf.inspection import inspect as run_inspect

    found = run_inspect(annotated, column, threshold)
    _say(text(found, shutil.get_terminal_size().columns))
    if svg is not None:
        draw(found, svg)
        _say(f"Wrote: {svg}")


@reward_app.command("train")
def reward_train(
    labels: Annotated[Path, typer.Argument(help="Parquet, CSV, TSV or JSONL of labelled texts.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; `phf annotate --scorer FOLDER` loads it.")] = Path(
        "reward"
    ),
    text: Annotated[str, typer.Option(help="Column of texts.")] = "text",
    label: Annotated[str, typer.Option(help="Column of labels; 1 (or true) is undesirable.")] = "toxic",
    source: Annotated[str | None, typer.Option(help="Column that says where a text is from.")] = None,
    split: Annotated[str | None, typer.Option(help="Column that says train or test.")] = None,
    base: Annotated[str | None, typer.Option(help="Finetune this Hugging Face model instead of a linear one.")] = None,
    folds: Annotated[int, typer.Option(min=2, help="Parts of the cross-validation.")] = 5,
    quiet: Quiet = False,
) -> None:
    """Train a reward model from human labels.

        phf reward train labels.parquet --text text --label toxic --out work/reward

    Writes a folder with the model, metrics.json and calibration.svg. A text's reward is -P(undesirable).
    """
    from phf import terminal
    from phf.reward import train as train_reward

    with terminal.progress(quiet) as progress:
        found = train_reward(
            labels, out, text=text, label=label, source=source, split=split, base=base, folds=folds, progress=progress
        )
    for how, sources in found["measured"].items():
        columns = list(dict.fromkeys(name for numbers in sources.values() for name in numbers))
        rows = [[name, *(_number(numbers.get(column)) for column in columns)] for name, numbers in sources.items()]
        terminal.table(f"Measured on {how}", ["source", *columns], rows)
    for side, words in found.get("words", {}).items():
        _say(f"{side}: {', '.join(word for word, _ in words[:20])}")
    _done(f"{out}", False, f"phf annotate CORPUS --scorer {out}")


@app.command("list", rich_help_panel=PIECES)
def list_components(
    kind: Annotated[str | None, typer.Argument(help="corpora, segmenters, scorers, objectives or evaluations.")] = None,
) -> None:
    """List what can be named in a recipe, built in and from plugins.

    phf list scorers
    """
    from phf import plugins, terminal

    if kind is not None and kind not in plugins.GROUPS:
        raise InputError(f"unknown kind {kind!r}{plugins.suggestion(kind, plugins.GROUPS)}")
    for group in [kind] if kind else plugins.GROUPS:
        rows = [[name, plugins.caption(group, name)] for name in plugins.available(group)]
        terminal.table(group, ["name", "what it is"], rows)
        _say("")


@app.command(rich_help_panel=PIECES)
def schema() -> None:
    """Print the JSON Schema of recipes, for editors.

    phf schema > recipe.schema.json
    """
    import json

    from phf.config import schema as make_schema

    _say(json.dumps(make_schema(), indent=2))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit 2 with one line for bad input, and as signals do after a stop."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        app(args=arguments, standalone_mode=True)
    except InputError as error:
        _fail(f"error: {error}", 2)
    except OSError as error:
        if os.environ.get("PHF_DEBUG"):
            raise
        _fail(f"error: {error.filename or 'input/output'}: {error.strerror or error}. What was finished before is whole", 2)
    except Stopped as stopped:
        _fail(str(stopped), 128 + stopped.number)
    except KeyboardInterrupt:
        _fail("stopped; what was finished is kept, and the same command goes on from there", 130)


def _split(words: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Tell inputs from KEY=VALUE changes of the recipe."""
    changes = [word for word in words or [] if re.match(rf"({_SECTIONS})(\.[^=]+)?=", word)]
    return [word for word in words or [] if word not in changes], changes


def _recipe(path: Path | None, changes: Sequence[str] | None, options: dict[str, Any] | None = None) -> "Recipe":
    """Read a recipe; options of the command line go over it, and KEY=VALUE changes over both."""
    import json

    from phf.config import read_recipe

    flags = [f"{key}={json.dumps(value)}" for key, value in (options or {}).items() if value is not None]
    return read_recipe(path, [*flags, *(changes or [])])


def _held_out(run: Path, otherwise: float) -> float:
    """Give the share of documents that a run was not trained on: what its own config.yaml says, or the recipe."""
    from phf.config import read_yaml

    about = run / "config.yaml"
    return float(read_yaml(about)["tokens"]["tokenize"]["held_out"]) if about.exists() else otherwise


def _scorer(name: str | None) -> Any:
    """Name a scorer, or the one that a folder of `phf reward train` holds."""
    if name is None or not Path(name).is_dir():
        return name
    return {"name": "classifier", "model": name} if (Path(name) / "config.json").exists() else {"name": "toxicity", "path": name}


def _number(value: float | int | None) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _done(what: str, already: bool, next_step: str) -> None:
    _say(f"{'Already there, left alone' if already else 'Wrote'}: {what}")
    _say(f"Next: {next_step}")


def _say(text: str) -> None:
    from phf import terminal

    terminal.say(text)


def _fail(text: str, code: int) -> None:
    from phf import terminal

    terminal.fail(text)
    sys.exit(code)
