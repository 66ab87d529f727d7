"""The command that writes text with a model: prompts from the command line, a file or standard input."""

import dataclasses
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from phf import artifacts
from phf.cli.options import Quiet, say
from phf.errors import InputError

if TYPE_CHECKING:
    from phf.lm import Completion, Sampling, StreamsTokens

log = logging.getLogger("phf")

_FEW = 20
"""So many samples are written one after the other as they come, where someone watches; more are sampled together."""
_LONGEST, _SHORTEST = 128, 10
"""Tokens of a text at most, where neither the command nor the model's context says fewer, and at least."""
_BETWEEN = "-" * 40 + "\n"

Model = Annotated[str, typer.Argument(help="A run or checkpoint folder, RUN@STEP, hf:NAME[@REVISION], or openai:URL#NAME.")]
Prompts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PROMPT]...", help="Texts to continue; none for text from nothing, - for standard input.", show_default=False
    ),
]
PromptFile = Annotated[
    str | None,
    typer.Option("--prompts", "-p", metavar="FILE", help='Prompts, one a line, or JSON Lines with "text"; - for standard input.'),
]
Many = Annotated[int, typer.Option("-n", min=1, help="Samples of each prompt.")]
Control = Annotated[
    str | None, typer.Option(help="Control token to condition on, or none; the model's first by default.", show_default=False)
]
Gamma = Annotated[
    float | None,
    typer.Option(metavar="GAMMA", help="Go from the other control token (0) to this one (1) and beyond (2, 3, ...)."),
]
Temperature = Annotated[float, typer.Option(help="Logits are divided by it.")]
TopP = Annotated[float, typer.Option(help="Probability of the tokens sampled from.")]
MaxTokens = Annotated[
    int | None, typer.Option(help="At which a text is cut off; 128 by default, fewer where the model's context holds no more.")
]
Ban = Annotated[
    Literal["auto", "all", "others"],
    typer.Option(help="Control tokens that cannot be written; others: its own may, in front of each segment."),
]
Seed = Annotated[int, typer.Option(help="With a sample's number fixes the sample.")]
JsonLines = Annotated[
    str | None, typer.Option(metavar="FILE", help="Write JSON Lines to this file instead; - for standard output.")
]


def generate(
    model: Model,
    prompts: Prompts = None,
    file: PromptFile = None,
    n: Many = 1,
    control: Control = None,
    guidance: Gamma = None,
    temperature: Temperature = 0.7,
    top_p: TopP = 0.9,
    max_tokens: MaxTokens = None,
    ban: Ban = "auto",
    seed: Seed = 0,
    jsonl: JsonLines = None,
    quiet: Quiet = False,
) -> None:
    """Write text with a model.

        phf generate work/runs/conditional "Author:" -n 3 --guidance 2

        phf generate work/runs/conditional "Author:" --control "<|misaligned|>"

        phf generate work/runs/conditional "Author:" --control none

        phf generate work/runs/mle --prompts prompts.txt --jsonl texts.jsonl

        head -5 prompts.txt | phf generate hf:gpt2 - --jsonl - | jq .text

    On a terminal the text appears as it is written. JSON Lines hold prompt, text, whether the model ended it itself (finished;
    null if a server does not report it), and what it was made with.
    """
    from phf import lm

    if jsonl is not None and Path(jsonl).is_dir():
        raise InputError(f"--jsonl {jsonl}: is a folder; expected a file to write")
    texts = [prompt for prompt in _prompts(prompts, file) for _ in range(n)]
    longest = _LONGEST if max_tokens is None else max_tokens
    sampling = lm.Sampling(
        temperature=temperature, top_p=top_p, max_tokens=longest, min_tokens=min(_SHORTEST, longest), seed=seed,
        ban=ban, guidance=guidance,
    )  # fmt: skip
    _generate(model, control, texts, sampling, max_tokens is None, jsonl, quiet)


def _generate(
    model: str, control: str | None, prompts: Sequence[str], sampling: "Sampling", fits: bool, jsonl: str | None, quiet: bool
) -> None:
    """Load the model, check the prompts, and write the samples where they are wanted."""
    from phf import lm
    from phf.cli import terminal
    from phf.progress import Progress

    few = len(prompts) <= _FEW
    with terminal.progress(quiet or few) as progress:
        loaded: Any = lm.load(model, control)
        if isinstance(loaded, lm.ChecksPrompts):
            unique = list(dict.fromkeys(prompts))
            left = loaded.tokens_left(unique, sampling)
            if fits and left is not None and 1 <= left < sampling.max_tokens:
                log.warning("texts are cut off after %d tokens: the model's context holds no more behind the prompts", left)
                sampling = dataclasses.replace(sampling, max_tokens=left, min_tokens=min(_SHORTEST, left))
            loaded.check_prompts(unique, sampling)
        if jsonl is None and few and terminal.output.is_terminal and isinstance(loaded, lm.StreamsTokens):
            _stream(loaded, prompts, sampling)
            return
        completions = loaded.generate(
            prompts, sampling, lambda done: progress(Progress("generate", done, len(prompts), "samples"))
        )
    if jsonl is None:
        for prompt, text in zip(prompts, completions, strict=True):
            terminal.write(f"{prompt}{text}\n{_BETWEEN if len(prompts) > 1 else ''}")
        return
    about = {"model": model, "control": loaded.control, "guidance": sampling.guidance, "seed": sampling.seed}
    _write_json_lines(jsonl, prompts, completions, about)


def _write_json_lines(jsonl: str, prompts: Sequence[str], completions: Sequence["Completion"], about: dict[str, Any]) -> None:
    from phf.cli import terminal

    rows = [
        json.dumps({"prompt": prompt, "text": text, "finished": text.finished, **about}, ensure_ascii=False) + "\n"
        for prompt, text in zip(prompts, completions, strict=True)
    ]
    if jsonl == "-":
        terminal.write("".join(rows))
        return
    with artifacts.whole_file(Path(jsonl)) as temporary:
        temporary.write_text("".join(rows), encoding="utf-8")
    say(f"Wrote: {jsonl}: {len(rows):,} texts")


def _prompts(texts: Sequence[str] | None, file: str | None) -> list[str]:
    """Return the prompts from wherever they are; one that is empty if there are none."""
    from phf.evaluate import prompts_in, read_prompts

    if texts and file:
        raise InputError("prompts both on the command line and in --prompts; give one of them")
    if file == "-" or texts == ["-"]:
        return prompts_in(sys.stdin.read(), "standard input")
    return read_prompts(Path(file)) if file else list(texts or [""])


def _stream(model: "StreamsTokens", prompts: Sequence[str], sampling: "Sampling") -> None:
    """Write one sample after the other, each while it is sampled."""
    from phf.cli import terminal

    begun = 0

    def begin() -> None:
        nonlocal begun
        terminal.write(f"\n{_BETWEEN}" * (begun > 0) + prompts[begun])
        begun += 1

    def on_token(index: int, text: str) -> None:
        while begun <= index:
            begin()
        terminal.write(text)

    model.stream(prompts, sampling, on_token)
    while begun < len(prompts):
        begin()
    terminal.write("\n")
