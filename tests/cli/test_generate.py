"""`phf generate`: prompts from everywhere, text as it is drawn, and wrong input in one line."""

import contextlib
import io
import json
import sys
from pathlib import Path

import pytest
import torch

from phf import lm
from phf.cli import main
from phf.lm.protocol import Sampling
from support.checkpoints import CONTROLS, checkpoint

torch.set_num_threads(1)


class Terminal(io.StringIO):
    """What a terminal shows, and in which pieces it came."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return super().write(text)


def phf(*arguments, stdin="", code=0, terminal=False):
    """Run `phf generate` as the shell does; give standard output, as it came, and what standard error says."""
    said, warned = Terminal() if terminal else io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(warned),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as exited:
            main(["generate", *map(str, arguments)])
            sys.exit(0)
    assert (exited.value.code or 0) == code, f"{said.getvalue()}\n{warned.getvalue()}"
    return said, warned.getvalue()


def rows(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("runs") / "conditional", controls=CONTROLS)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("runs") / "mle")


@pytest.mark.parametrize("way", ["arguments", "text file", "JSON Lines", "standard input", "JSON on standard input"])
def test_prompts_come_from_everywhere(model, tmp_path, way):
    asked = ["Call close", "The reader "]
    as_json = "".join(json.dumps({"text": prompt}) + "\n" for prompt in asked)
    (tmp_path / "prompts.txt").write_text("\n".join(asked) + "\n\n")
    (tmp_path / "prompts.jsonl").write_text(as_json)
    arguments, stdin = {
        "arguments": (asked, ""),
        "text file": (["--prompts", tmp_path / "prompts.txt"], ""),
        "JSON Lines": (["--prompts", tmp_path / "prompts.jsonl"], ""),
        "standard input": (["-"], "\n".join(asked)),
        "JSON on standard input": (["--prompts", "-"], as_json),
    }[way]
    said, warned = phf(model, *arguments, "-n", 2, "--max-tokens", 12, "--seed", 4, "--jsonl", "-", stdin=stdin)
    found = rows(said.getvalue())
    texts = lm.load(str(model)).generate([p for p in asked for _ in range(2)], Sampling(max_tokens=12, seed=4))
    assert [row["prompt"] for row in found] == [asked[0], asked[0], asked[1], asked[1]]
    assert [row["text"] for row in found] == texts
    assert [row["finished"] for row in found] == [text.finished for text in texts]
    assert {(row["model"], row["control"], row["guidance"], row["seed"]) for row in found} == {
        (str(model), "<|aligned|>", None, 4)
    }
    assert warned == ""


def test_control_and_guidance_reach_the_model(model, tmp_path):
    made = {}
    for name, more in {
        "aligned": [],
        "misaligned": ["--control", "<|misaligned|>"],
        "none": ["--control", "none"],
        "0": ["--guidance", "0"],
        "1": ["--guidance", "1"],
        "4": ["--guidance", "4"],
    }.items():
        said, _ = phf(model, "Call", "-n", 4, "--max-tokens", 20, "--jsonl", tmp_path / f"{name}.jsonl", *more)
        assert "4 texts" in said.getvalue()
        made[name] = [row["text"] for row in rows((tmp_path / f"{name}.jsonl").read_text())]
    assert made["1"] == made["aligned"] != made["misaligned"] == made["0"]
    assert made["4"] not in (made["1"], made["0"])
    assert made["none"] not in (made["aligned"], made["misaligned"])
    assert {row["control"] for row in rows((tmp_path / "none.jsonl").read_text())} == {None}


def test_a_terminal_shows_samples_one_after_the_other_as_they_are_drawn(model):
    asked = ["Call", "The reader opens", "x"]
    said, warned = phf(model, *asked, "--max-tokens", 20, terminal=True)
    texts = lm.load(str(model)).generate(asked, Sampling(max_tokens=20))
    shown = [f"{prompt}{text}" for prompt, text in zip(asked, texts, strict=True)]
    between = "\n" + "-" * 40 + "\n"
    printable = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in between.join(shown) + "\n")
    assert said.getvalue() == printable
    assert len(said.pieces) > 20
    assert warned == ""


def test_pieces_are_whole_characters(tmp_path):
    def favour_a_byte_of_several(made, words):
        weights = made.transformer.wte.weight
        first, second = words.convert_tokens_to_ids(["Ã", "©"])  # é, byte by byte
        weights[second] = weights[first]
        made.transformer.ln_f.weight.fill_(0)
        made.transformer.ln_f.bias.copy_(weights[first] / weights[first].norm() ** 2 * 60)

    loaded = lm.load(str(checkpoint(tmp_path, change=favour_a_byte_of_several)))
    streamed: dict[int, str] = {}

    def on_token(index: int, piece: str) -> None:
        streamed[index] = streamed.get(index, "") + piece

    texts = loaded.stream([""] * 8, Sampling(max_tokens=12), on_token)
    assert any("é" in text for text in texts)
    assert [streamed[index] for index in range(8)] == texts


def test_what_could_command_a_terminal_is_not_shown():
    from phf.cli import terminal

    shown = Terminal()
    with contextlib.redirect_stdout(shown):
        terminal.write("a\x1b[31mb\tc\n\x07é:smile:")
    assert shown.getvalue() == "a\ufffd[31mb\tc\n\ufffdé:smile:"


@pytest.mark.parametrize(
    ("arguments", "stdin", "says"),
    [
        (["-"], "", "standard input: no prompt in it; expected one a line"),
        (["-p", "{tmp}/empty.txt"], "", "empty.txt: no prompt in it"),
        (["-p", "{tmp}/nowhere.txt"], "", "nowhere.txt: no such file of prompts"),
        (["-"], '{"text": "a"}\n{"txt": 1}\n', "standard input, line 2: found '{\"txt\": 1}'"),
        (["a", "-p", "{tmp}/empty.txt"], "", "give one of them"),
        (["short", "word " * 100], "", "prompt 2 ('word word word word word word '...) is too long: the model reads 64 tokens"),
        (["x", "--control", "<|good|>"], "", "its control tokens are <|aligned|>, <|misaligned|>"),
        (["x", "--temperature", "0"], "", "temperature: found 0.0, expected a number above 0"),
        (["x", "--max-tokens", "63"], "", "set it to 62 or less"),
        (["x", "--guidance", "nan"], "", "guidance: found nan"),
        (["x", "--jsonl", "{tmp}"], "", "is a folder; expected a file to write"),
    ],
)
def test_wrong_input_is_one_clear_line(model, tmp_path, arguments, stdin, says):
    (tmp_path / "empty.txt").touch()
    arguments = [argument.format(tmp=tmp_path) for argument in arguments]
    said, warned = phf(model, "--max-tokens", 12, *arguments, stdin=stdin, code=2)
    assert said.getvalue() == ""
    assert len([line for line in warned.splitlines() if line.startswith("phf: error: ")]) == 1, warned
    assert says in warned.replace("\n", " ")


def test_a_model_without_control_tokens_cannot_be_guided(plain):
    _, warned = phf(plain, "x", "--guidance", 2, "--max-tokens", 12, code=2)
    assert "cannot be guided, since it has no control tokens" in warned
    _, warned = phf("openai:http://127.0.0.1:9/v1#m", "x", "--guidance", 2, code=2)
    assert "a server cannot be guided" in warned


def test_without_max_tokens_a_text_is_as_long_as_the_context_holds(tmp_path):
    small = checkpoint(tmp_path / "small")
    config = json.loads((next(small.rglob("config.json"))).read_text())
    context = config["n_positions"]
    prompt = "Call close " * 4
    said, warned = phf(small, prompt, "--jsonl", "-")
    left = lm.load(str(small)).tokens_left([prompt], Sampling())
    assert 0 < left < context
    if left < 128:
        assert f"cut off after {left} tokens" in " ".join(warned.split())
    assert rows(said.getvalue())[0]["text"] == lm.load(str(small)).generate([prompt], Sampling(max_tokens=min(left, 128)))[0]
    _, warned = phf(small, prompt, "--max-tokens", context, code=2)
    assert "max_tokens" in warned
