"""The command that writes a first recipe for a corpus of one's own: it asks for scorer, corpus and size."""

import functools
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from phf import artifacts, plugins
from phf.cli.options import AsJson, done, say_json, scorer_named
from phf.errors import InputError

_COUNTS_FINDINGS = ("pep8", "pep8-ruff", "pii", "regex")
"""Scorers whose best reward, 0, means that nothing was found."""
_OF_CODE = ("pep8", "pep8-ruff")


@dataclass(frozen=True)
class _Size:
    """What depends on how large the job is to be.

    Args:
        about: who it is for.
        train: keys of `train`.
        vocab_size: of the tokenizer.
        samples: how many are measured.
        max_tokens: of a sample.
    """

    about: str
    train: dict[str, Any]
    vocab_size: int
    samples: int
    max_tokens: int


_SMALL = {"lr": "2e-3", "warmup": 0.05, "betas": "[0.9, 0.95]"}
SIZES = {
    "trial": _Size(
        "does everything fit together? The numbers mean nothing",
        {"model": "gpt2-tiny", "tokens": "200k", "context": 128, "batch": 8, **_SMALL}, 1024, 64, 64,
    ),
    "laptop": _Size(
        "a model of 2M parameters, for a few processor cores",
        {"model": "gpt2-2m", "tokens": "3.4M", "context": 256, "batch": 8, **_SMALL}, 1024, 1024, 128,
    ),
    "gpu": _Size(
        "GPT-2 small on a tenth of the paper's tokens, for one GPU",
        {"model": "gpt2-small", "tokens": "330M", "context": 1024, "batch": 64, "micro_batch": 16, "lr": "5e-4"},
        16384, 4096, 128,
    ),
    "paper": _Size(
        "GPT-2 small on 3.3B tokens, as in the paper, for GPUs",
        {"model": "gpt2-small", "tokens": "3.3B", "context": 1024, "batch": 64, "micro_batch": 16, "lr": "5e-4"},
        32768, 4096, 128,
    ),
}  # fmt: skip

Scorer = Annotated[
    str | None,
    typer.Option("--scorer", "-s", help="`phf list scorers`, with its fields as {name: ..., ...}, or a reward model's folder."),
]
CorpusInput = Annotated[
    list[str] | None, typer.Option("--corpus", "-c", help="Files, a folder, hf:NAME, or one of `phf list corpora`; repeatable.")
]
SizeName = Annotated[str | None, typer.Option("--size", help=f"{', '.join(SIZES)}.")]


def init(
    file: Annotated[Path, typer.Argument(help="Recipe to write.")] = Path("recipe.yaml"),
    scorer: Scorer = None,
    corpus: CorpusInput = None,
    size: SizeName = None,
    text_column: Annotated[str, typer.Option(help="Column of the corpus that holds the text.")] = "text",
    as_json: AsJson = False,
) -> None:
    """Write a first recipe for a corpus of your own. What no option says is asked.

        phf init

        phf init mine.yaml --scorer toxicity --corpus docs.jsonl --size laptop

    The recipe is commented, and `phf run` takes it as it is.
    """
    from phf.config import read_recipe

    if file.exists():
        raise InputError(f"{file}: is there already; name another file, or delete this one")
    component = (
        _scorer(scorer)
        if scorer
        else _ask("Scorer: what gives the rewards", "--scorer", _scorer, choices=_listed("scorers"), default="toxicity")
    )
    inputs = corpus or [_ask("Corpus: files, a folder, hf:NAME, or python-docs (this machine's)", "--corpus", _corpus)]
    sizes = {key: value.about for key, value in SIZES.items()}
    name = _size(size) if size else _ask("Size", "--size", _size, choices=sizes, default="laptop")
    text = _recipe(file, component, inputs, text_column, SIZES[name])
    with artifacts.whole_file(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
        _check_corpus(read_recipe(temporary).corpus)
    if as_json:
        say_json({"written": str(file), "scorer": component, "corpus": inputs, "size": name})
        return
    done(str(file), False, f"phf run {file} --dry-run shows what it will do; phf run {file} does it")


def _ask(
    question: str, option: str, check: Callable[[str], Any], *, choices: Mapping[str, str] | None = None, default: str = ""
) -> Any:
    """Ask on the terminal, again after an answer that `check` refuses.

    Raises:
        InputError: where there is no terminal to ask on; the message names the option that answers.
    """
    choices = choices or {}
    if not _is_terminal():
        known = f" ({', '.join(choices)})" if choices else ""
        raise InputError(f"{option}: not given, and there is no terminal to ask on; add {option}{known}")
    for name, about in choices.items():
        typer.echo(f"  {name}: {about}", err=True)  # what is asked is no output

    def checked(text: str) -> Any:
        try:
            return check(text.strip())
        except InputError as error:
            raise typer.BadParameter(str(error)) from None

    return typer.prompt(question, default=default or None, value_proc=checked, err=True)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _listed(kind: str) -> dict[str, str]:
    return {name: plugins.caption(kind, name) for name in plugins.available(kind) if name != "published"}


def _scorer(text: str) -> dict[str, Any]:
    """Return a scorer's name and fields, checked; required fields that are not given are asked for.

    Raises:
        InputError: for an unknown scorer or field, or a required field that is not given where there is no terminal.
    """
    from phf.config import parse_value

    value: Any = scorer_named(text)
    if value == text:
        value = parse_value(text, f"--scorer {text}")
    component: dict[str, Any] = {"name": value} if isinstance(value, str) else value
    if not isinstance(component, dict) or not isinstance(component.get("name"), str):
        raise InputError(f"--scorer: found {text!r}; expected a name such as toxicity, or {{name: regex, patterns: [...]}}")
    found = plugins.find("scorers", component["name"])
    for field, about in plugins.fields_model(found).model_fields.items():
        if about.is_required() and field not in component:
            option = f"--scorer '{{name: {component['name']}, {field}: ...}}'"
            component[field] = _ask(f"{component['name']}: {field}", option, functools.partial(parse_value, where=field))
    fields = {name: value for name, value in component.items() if name != "name"}
    plugins.check_fields(found, fields, component["name"])
    return component


def _size(name: str) -> str:
    if name not in SIZES:
        raise InputError(f"--size: unknown size {name!r}{plugins.suggestion(name, SIZES)}")
    return name


def _corpus(name: str) -> str:
    """Return the name of a corpus.

    Raises:
        InputError: if it is a path, and nothing is there.
    """
    from phf import config, corpora

    if not (_elsewhere(name) or name in plugins.available("corpora")):
        corpora.inventory(config.Corpus(inputs=[name]))
    return name


def _elsewhere(name: str) -> bool:
    """Return whether looking at a corpus asks something of a network."""
    return name.startswith("hf:") or "://" in name


def _check_corpus(corpus: Any) -> None:
    """Read the first document of a corpus, where that asks nothing of a network.

    Raises:
        InputError: if there is none, or it cannot be used.
    """
    from phf import corpora

    if any(map(_elsewhere, corpus.inputs)):
        return
    try:
        first = next(iter(corpora.rows(corpus)), None)
    except InputError as error:
        raise InputError(str(error).replace("corpus.text_column", "--text-column")) from None
    if first is None:
        raise InputError(f"{', '.join(corpus.inputs)}: no documents in it")
    if first.text is None:
        raise InputError(f"document {first.id!r}: {first.fault}".replace("corpus.text_column", "--text-column"))


def _recipe(file: Path, scorer: dict[str, Any], inputs: list[str], text_column: str, size: _Size) -> str:
    """Return the recipe as text."""
    from phf.config import to_flow

    name = scorer["name"]
    threshold = "0" if name in _COUNTS_FINDINGS else "p50"
    why = "a segment without findings has reward 0, others less" if threshold == "0" else "half of the segments are aligned"
    by_name = len(inputs) == 1 and inputs[0] in plugins.available("corpora") and not Path(inputs[0]).exists()
    corpus = f"source: {inputs[0]}" if by_name else f"inputs: {to_flow(inputs)}   # files, folders, globs, addresses, hf:NAME"
    column = "" if by_name else f"\n  text_column: {to_flow(text_column)}   # the column that holds the text"
    sentences = name not in _OF_CODE and importlib.util.find_spec("spacy") is not None
    other = "" if sentences or name in _OF_CODE else " `pip install 'phf[sentences]'` offers sentences."
    train = "\n".join(f"  {key}: {value}" for key, value in size.train.items())
    return f"""\
# Written by `phf init`. What it will do, and then the whole job; stopped, the same command goes on where it was:
#     phf run {file} --dry-run
#     phf run {file}
# Every key there is: `phf schema`, for editors, or the documentation's reference of recipes.
name: {file.stem if file.stem != "recipe" else "mine"}

corpus:
  {corpus}{column}

annotate:
  segmenter: {"sentences" if sentences else "lines"}   # what gets one reward each.{other}
  scorer: {to_flow(scorer if len(scorer) > 1 else name)}   # higher rewards are better; `phf inspect` shows them

tokenize:
  tokenizer: train   # a byte-level BPE of this corpus; or a name on the hub, such as gpt2
  vocab_size: {size.vocab_size}
  held_out: 0.05   # of the documents: no run trains on them

# Every predicted token counts towards `tokens`; a corpus with fewer is read again.
train:
{train}

# The threshold is a reward: {why}. p50 is the median of the corpus.
runs:
  mle: mle   # without feedback: what the others are compared with
  conditional: {{name: conditional, threshold: {threshold}}}   # <|aligned|> or <|misaligned|> in front of each segment
  filtering: {{name: filtering, threshold: {threshold}, unscored: drop}}   # without documents whose mean reward is lower
  # unlikelihood: {{name: unlikelihood, threshold: {threshold}, alpha: 1}}
  # rwr: {{name: rwr, beta: 0.01}}   # weighs each token by its reward

evaluate:
  evaluations:
    no-prompt: {{name: samples, n: {size.samples}, max_tokens: {size.max_tokens}}}   # what a model writes by itself, scored
    heldout: {{name: heldout, threshold: {threshold}}}   # bits per byte on held-out documents: the cost in capability
    diversity: {{name: diversity, of: no-prompt}}
  misaligned: [no-prompt]   # also under <|misaligned|>: does the control token do anything?

report:
  title: {to_flow(f"{name} on {', '.join(inputs)}")}
"""
