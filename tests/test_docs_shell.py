"""The shell commands of the docs: each is one that phf has, with options that it has."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from phf.cli import app
from support.command_line import phf

PROJECT = Path(__file__).parents[1]
PAGES = ["README.md", *sorted(str(path.relative_to(PROJECT)) for path in (PROJECT / "docs").rglob("*.md"))]


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)


def commands(text):
    """Return the commands of shell blocks, each as its words, up to a pipe or a redirection."""
    lines = "".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    split = [re.split(r" [|>] | && ", line)[0] for line in lines if line.strip()]
    words = [shlex.split(line, comments=True) for line in split]
    return [line for line in words if line]


PHF = {
    shlex.join(words): words[words.index("phf") + 1 :]
    for page in PAGES
    for words in commands((PROJECT / page).read_text())
    if "phf" in words and words[0] in ("phf", "torchrun", "accelerate")
}


NAMES = typer.main.get_command(app).commands


@pytest.mark.parametrize("words", PHF.values(), ids=PHF)
def test_every_command_and_its_options_are_phfs(words, tmp_path):
    said, _ = phf(*(words if words[0] in NAMES else ()), "--help", cwd=tmp_path)
    assert words[0] in said
