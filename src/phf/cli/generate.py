"""The command that writes text with a model: prompts from the command line, a file or standard input."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from phf import artifacts
from phf.cli.options import Quiet, say
from phf.errors import InputError

if TYPE_CHECKING:
    from phf.lm import Sampling, StreamsTokens

_FEW = 20
"""So many samples are written one after the other as they come, where someone watches; more are sampled together."""
_BETWEEN = "-" * 40 + "\n"


def generate(
    model: Annotated[str, typer.Argument(help="A run or checkpoint folder, hf:NAME, or openai:URL#NAME.")],
    prompts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PROMPT]...", help="Texts to continue; none for text from nothing, - for standard input.", show_default=False
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--prompts", "-p", metavar="FILE", help='Prompts, one a line, or JSON Lines with "text"; - for standard input.'
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Samples of each prompt.")] = 1,
    control: Annotated[str | None, typer.Option(help="Control token to condition on; the model's first by default.")] = None,
    guidance: Annotated[
        float | None,
        typer.Option(metavar="GAMMA", help="Go from the other control token (0) to this one (1) and beyond (2, 3, ...)."),
    ] = None,
    temperature: Annotated[float, typer.Option(help="Logits are divided by it.")] = 0.7,
    top_p: Annotated[float, typer.Option(help="Probability of the tokens sampled from.")] = 0.9,
    max_tokens: Annotated[int, typer.Option(help="At which a text is cut off.")] = 128,
    ban: Annotated[
        Literal["auto", "all", "others"],
        typer.Option(help="Control tokens that cannot be written; others: its own may, in front of each segment."),
    ] = "auto",
    seed: Annotated[int, typer.Option(help="With a sample's number fixes the sample.")] = 0,
    jsonl: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write JSON Lines to this file instead; - for standard output.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write text with a model.

        phf generate work/runs/conditional "Author:" -n 3 --guidance 2

        phf generate work/runs/conditional "Author:" --control "<|misaligned|>"

        phf generate work/runs/mle --prompts prompts.txt --jsonl texts.jsonl

        head -5 prompts.txt | phf generate hf:gpt2 - --jsonl - | jq .text

    On a terminal the text appears as it is written. JSON Lines hold prompt, text, whether the model ended it itself (finished),
    and what it was made with.
    """
    from phf import lm
    from phf.cli import terminal
    from phf.progress import Progress

    if jsonl is not None and Path(jsonl).is_dir():
        raise InputError(f"--jsonl {jsonl}: is a folder; expected a file to write")
    asked = _prompts(prompts, file)
    texts = [prompt for prompt in asked for _ in range(n)]
    sampling = lm.Sampling(
        temperature=temperature, top_p=top_p, max_tokens=max_tokens, min_tokens=min(10, max_tokens), seed=seed,
        ban=ban, guidance=guidance,
    )  # fmt: skip
    watched = jsonl is None and terminal.output.is_terminal and len(texts) <= _FEW
    with terminal.progress(quiet or len(texts) <= _FEW) as progress:
        loaded: Any = lm.load(model, control)
        if isinstance(loaded, lm.ChecksPrompts):
            loaded.check_prompts(asked, sampling)
        if watched and isinstance(loaded, lm.StreamsTokens):
            _stream(loaded, texts, sampling)
            return
        completions = loaded.generate(texts, sampling, lambda done: progress(Progress("generate", done, len(texts), "samples")))
    if jsonl is None:
        for prompt, text in zip(texts, completions, strict=True):
            terminal.write(f"{prompt}{text}\n{_BETWEEN if len(texts) > 1 else ''}")
        return
    about = {"model": model, "control": loaded.control, "guidance": guidance, "seed": seed}
    rows = [
        json.dumps({"prompt": prompt, "text": text, "finished": text.finished, **about}, ensure_ascii=False) + "\n"
        for prompt, text in zip(texts, completions, strict=True)
    ]
    if jsonl == "-":
        terminal.write("".join(rows))
        return
    with artifacts.whole_file(Path(jsonl)) as temporary:
        temporary.write_text("".join(rows), encoding="utf-8")
    say(f"Wrote: {jsonl}: {len(rows):,} texts")


def _prompts(given: Sequence[str] | None, file: str | None) -> list[str]:
    """Gather the prompts; none is one that is empty."""
    from phf.evaluate.samples import prompts_in, read_prompts

    if given and file:
        raise InputError("prompts both on the command line and in --prompts; give one of them")
    if file == "-" or given == ["-"]:
        return prompts_in(sys.stdin.read(), "standard input")
    return read_prompts(Path(file)) if file else list(given or [""])


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
