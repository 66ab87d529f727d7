"""Keys and passwords of servers: used, and neither written nor printed anywhere."""

import contextlib
import io
import json
import sys

import pytest

from phf.cli import main
from support import tiny_corpora as tiny
from support.scripted_server import serving

pytest.importorskip("openai")

SECRET = "hunter2"
ADDRESS = f"openai:http://user:{SECRET}@127.0.0.1:9/v1?token={SECRET}#tiny"


@pytest.fixture
def place(tmp_path):
    recipe = {
        "name": "tiny",
        "corpus": {"inputs": [tiny.write_corpus(tmp_path / "corpus.jsonl", 60)]},
        "annotate": {"scorer": {"name": "regex", "patterns": ["[A-Z]{3,}"]}, "workers": 1},
        "runs": {"served": {"model": "openai:http://127.0.0.1:9/v1#tiny", "objective": "mle"}},
        "evaluate": {
            "evaluations": {
                "no-prompt": {"name": "samples", "n": 6, "max_tokens": 20},
                "heldout": {"name": "heldout", "documents": 3},
            }
        },
        "tokenize": {"held_out": 0.3},
        "jobs": 1,
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    return tmp_path


def phf(*arguments, cwd):
    """Run the command as the shell does; return its exit status and all it printed."""
    printed = io.StringIO()
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        pytest.raises(SystemExit) as exited,
    ):
        main([str(argument) for argument in arguments])
        sys.exit(0)
    return exited.value.code or 0, printed.getvalue()


def holding(folder, secret):
    """Return the files under a folder that hold a secret, in their content or their name."""
    return [
        path for path in folder.rglob("*") if secret in path.name or (path.is_file() and secret.encode() in path.read_bytes())
    ]


@pytest.mark.parametrize("way", ["environment", "file"])
def test_a_key_serves_a_whole_recipe_and_is_in_none_of_its_outputs(place, monkeypatch, tmp_path_factory, way):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if way == "environment":
        monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    else:
        file = tmp_path_factory.mktemp("keys") / "key"
        file.write_text(SECRET + "\n")
        monkeypatch.setenv("OPENAI_API_KEY_FILE", str(file))
    with serving(key=SECRET) as server:
        status, printed = phf("run", "recipe.yaml", f"runs.served.model={server.spec}#tiny", cwd=place)
    assert status == 0, printed
    assert (place / "work/tiny/report/index.html").exists()
    assert (place / "work/tiny/runs/served/records.jsonl").read_text().count("\n") > 5
    assert SECRET not in printed
    assert holding(place, SECRET) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "recipe.yaml", f"runs.served.model={ADDRESS}"],
        ["run", "recipe.yaml", "evaluate.evaluations.kl.name=kl", f"evaluate.measures.kl.reference={ADDRESS}"],
        ["run", "recipe.yaml", f"evaluate.evaluations.x=[{ADDRESS}]"],
        ["evaluate", ADDRESS, "--recipe", "recipe.yaml", "--out", "work/tiny/runs/x"],
        ["evaluate", ADDRESS, "--recipe", "recipe.yaml"],
        ["redteam", "runs/x", "--red", ADDRESS, "--prompts", "prompts.txt"],
        ["redteam", ADDRESS, "--red", "pool", "--prompts", "prompts.txt"],
        ["generate", ADDRESS, "x", "--jsonl", "texts.jsonl"],
        ["generate", f"http://user:{SECRET}@127.0.0.1:9/v1#tiny"],
        ["generate", f"opnai:http://user:{SECRET}@127.0.0.1:9/v1?q={SECRET}#tiny"],
        ["generate", f"openai:http://127.0.0.1:9/v1#tiny?key={SECRET}"],
    ],
)
def test_an_address_with_a_secret_is_refused_before_anything_is_written(place, arguments):
    before = sorted(place.rglob("*"))
    status, printed = phf(*arguments, cwd=place)
    assert status == 2, printed
    assert SECRET not in printed
    assert sorted(place.rglob("*")) == before


def test_a_server_that_repeats_the_key_does_not_get_it_printed(place, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with serving() as server:
        server.troubles = [{"error": {"message": f"no quota for {SECRET}", "code": 402}}] * 9
        status, printed = phf("generate", f"{server.spec}#tiny", "x", cwd=place)
    assert status == 2
    assert "no quota for ***" in printed
    assert SECRET not in printed
