"""The phf command: parse, call, print. No other package writes to the screen."""

import functools
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from phf import __version__
from phf.cli import check, demo, doctor, export, generate, init, limited_memory, measure, push, recipes, stages, status, tools
from phf.cli.options import fail, say
from phf.errors import InputError, Stopped, out_of_memory

app = typer.Typer(
    name="phf",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
reward_app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Train a reward model from human labels.")


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that says in one line that it was stopped by Ctrl-C, or that memory ran out."""

    @functools.wraps(command)
    def call(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt:
            fail("stopped; what was finished is kept, and the same command goes on from there", 130)
        except EOFError as error:
            raise RuntimeError("a file ended before its end") from error
        except Exception as error:
            if (reason := out_of_memory(error)) is None:
                raise
            fail(
                f"error: out of memory ({reason}). Lower train.micro_batch, jobs, annotate.workers, tokenize.workers or the "
                "batch of an evaluation, or give the process more; what was finished before is whole",
                2,
            )

    return call


_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Stages, in order": (stages.annotate, stages.tokenize, stages.train, measure.evaluate, measure.redteam, stages.report),
    "The whole job": (demo.demo, init.init, stages.run, status.status),
    "Pieces": (doctor.doctor, generate.generate, export.export, push.push, check.check, tools.inspect, tools.schema),
}
for panel, commands in _PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(guarded(command))
app.command("list", rich_help_panel="Pieces")(guarded(tools.list_components))
app.add_typer(recipes.app, name="recipes", rich_help_panel="The whole job")
app.add_typer(reward_app, name="reward", rich_help_panel="Pieces")
reward_app.command("train")(guarded(tools.reward_train))


@app.callback(invoke_without_command=True)
def about(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Pretrain language models with human feedback.

    phf scores every segment of a corpus with a reward model, trains a causal language model under an objective that
    uses the scores, and measures what each objective buys in alignment and costs in capability.

    The whole job, resumable, from one file; `phf demo` shows it on a small corpus:

        phf run recipe.yaml

    Each stage alone reads folders and writes one; started again it goes on where it stopped:

        phf annotate docs.jsonl --scorer pii --out work/annotated

        phf tokenize work/annotated --out work/tokens

        phf train work/tokens --objective conditional --out work/runs/conditional runs.conditional.threshold=p50 train.tokens=10M

        phf evaluate work/runs/conditional --recipe recipe.yaml

        phf report work/runs/* --out work/report

    `phf COMMAND --help` explains a command and gives an example. Exit codes: 0 done; 2 bad input, said in one line;
    130 and 143 stopped by a signal, with all work saved.
    """
    if version:
        say(f"phf {__version__}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit 2 with one line for bad input, and as signals do after a stop."""
    if not os.environ.get("COLUMNS", "80").strip("0"):  # some terminals say 0 before they know
        del os.environ["COLUMNS"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")  # what a terminal's encoding lacks
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        limited_memory.supervised(lambda: app(args=arguments, standalone_mode=True))
    except InputError as error:
        fail(f"error: {error}", 2)
    except OSError as error:
        if os.environ.get("PHF_DEBUG"):
            raise
        fail(f"error: {error.filename or 'input/output'}: {error.strerror or error}. What was finished before is whole", 2)
    except Stopped as stopped:
        fail(str(stopped), 128 + stopped.number)
