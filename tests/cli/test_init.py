"""`phf init`: a recipe from options or answers, which runs down to the plot."""

import json
import re
import subprocess

import pytest

from phf import config
from phf.records import read_records
from support import tiny_corpora as tiny
from support.command_line import phf

TINY = ["train.model={preset: gpt2-tiny, n_layer: 1, n_embd: 16, n_head: 2}", "train.tokens=2048", "train.context=32",
        "train.batch=4", "tokenize.vocab_size=300", "jobs=1", "annotate.workers=1", "evaluate.evaluations.no-prompt.n=16",
        "evaluate.evaluations.no-prompt.max_tokens=16"]  # fmt: skip


@pytest.fixture
def place(tmp_path):
    rows = [{"id": document.id, "body": document.text} for document in tiny.documents(100)]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr("phf.cli.init._is_terminal", lambda: True)


def committed(folder, name):
    """Commit a file to a new repository; return the commit as phf writes it."""

    def git(*arguments):
        author = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        return subprocess.run(["git", *author, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    git("add", name)
    git("commit", "--quiet", "--message", "A recipe")
    return git("rev-parse", "--short=12", "HEAD")


def test_the_recipe_runs_down_to_the_plot(place):
    scorer = "{name: regex, patterns: ['[A-Z]{3,}']}"
    said, _ = phf("init", "mine.yaml", "--scorer", scorer, "--corpus", "docs.jsonl", "--size", "trial", "--text-column", "body",
                  cwd=place)  # fmt: skip
    assert "Next: phf run mine.yaml --dry-run" in said
    commit = committed(place, "mine.yaml")
    phf("run", "mine.yaml", *TINY, "--quiet", cwd=place)
    page = place / "work/mine/report/index.html"
    assert list((page.parent / "figures").glob("*.svg"))
    assert {path.name for path in (place / "work/mine/runs").iterdir()} == {"mle", "conditional", "filtering"}
    facts = dict(re.findall(r"<dt>(.*?)</dt>\s*<dd>(.*?)</dd>", page.read_text()))
    assert facts["Recipe"] == f"mine.yaml at commit {commit}"
    ours = {record.stamp.commit for record in read_records(place / "work/mine/runs/mle/records.jsonl")} - {""}
    assert facts.get("Commit of phf", "") == ", ".join(ours)  # phf has none where it is installed from a wheel
    assert commit not in ours


def test_answers_make_the_same_recipe_as_options(place, terminal):
    options = ["--scorer", "toxicity", "--corpus", "docs.jsonl", "--size", "laptop", "--text-column", "body"]
    phf("init", "options.yaml", *options, cwd=place)
    phf("init", "asked.yaml", "--text-column", "body", stdin="toxicity\ndocs.jsonl\nlaptop\n", cwd=place)
    asked = (place / "asked.yaml").read_text()
    assert asked.replace("asked", "options") == (place / "options.yaml").read_text()
    recipe = config.read_recipe(place / "asked.yaml")
    assert recipe.runs["conditional"].objective.fields["threshold"] == "p50"
    assert all("#" in line for line in asked.splitlines() if line.startswith("  ") and ("mle" in line or "filtering" in line))


def test_a_wrong_answer_is_explained_and_asked_for_again(place, terminal):
    answers = "toxicty\ntoxicity\nnowhere.jsonl\ndocs.jsonl\nhuge\ntrial\n"
    _, asked = phf("init", "asked.yaml", "--text-column", "body", stdin=answers, cwd=place)
    for said in ("did you mean 'toxicity'?", "nowhere.jsonl: no such file or folder", "unknown size 'huge'"):
        assert said in asked
    recipe = config.read_recipe(place / "asked.yaml")
    assert (recipe.annotate.scorer.name, recipe.corpus.inputs, recipe.train.model) == ("toxicity", ["docs.jsonl"], "gpt2-tiny")


def test_required_fields_of_a_scorer_are_asked_for(place, terminal):
    phf("init", "--text-column", "body", "--corpus", "docs.jsonl", "--size", "trial", stdin="regex\n[idiot, fool]\n", cwd=place)
    made = config.read_recipe(place / "recipe.yaml")
    assert made.annotate.scorer.fields == {"patterns": ["idiot", "fool"]}
    assert made.name == "mine"
    assert made.runs["filtering"].objective.fields["threshold"] == 0


@pytest.mark.parametrize("size", ["trial", "laptop", "gpu", "paper"])
@pytest.mark.parametrize("scorer", ["pii", "pep8", "toxicity"])
def test_every_size_and_scorer_is_a_valid_recipe(size, scorer, tmp_path):
    pytest.importorskip({"pii": "scrubadub", "pep8": "pycodestyle"}.get(scorer, "numpy"))
    said, _ = phf("init", "--scorer", scorer, "--corpus", "hf:some/data", "--size", size, "--json", cwd=tmp_path)
    assert json.loads(said)["scorer"] == {"name": scorer}
    recipe = config.read_recipe(tmp_path / "recipe.yaml")
    assert recipe.train.tokens
    assert (recipe.annotate.segmenter.name == "lines") or scorer != "pep8"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--scorer: not given, and there is no terminal to ask on; add --scorer (classifier, judge,"),
        (["--scorer", "pii"], "--corpus: not given"),
        (["--scorer", "pii", "--corpus", "docs.jsonl"], "add --size (trial, laptop, gpu, paper)"),
        (["--scorer", "pip"], "unknown scorer 'pip'; did you mean 'pii'?"),
        (["--scorer", "regex"], "--scorer '{name: regex, patterns: ...}': not given"),
        (["--scorer", "{name: regex, pattern: x, patterns: [a]}"], "did you mean 'patterns'?"),
        (["--scorer", "toxicity", "--corpus", "docs.jsonl", "--size", "labtop"], "did you mean 'laptop'?"),
        (["--scorer", "toxicity", "--corpus", "nowhere.jsonl", "--size", "trial"], "nowhere.jsonl"),
        (
            ["--scorer", "toxicity", "--corpus", "docs.jsonl", "--size", "trial"],
            "say which one holds the text with --text-column",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_one_line_and_nothing_is_written(options, said, place, monkeypatch):
    monkeypatch.setattr("phf.cli.init._is_terminal", lambda: False)
    error = phf("init", *options, cwd=place, code=2)[1]
    assert said in error
    assert not (place / "recipe.yaml").exists()


def test_a_recipe_is_not_overwritten(place):
    (place / "recipe.yaml").write_text("mine")
    assert "recipe.yaml: is there already" in phf("init", cwd=place, code=2)[1]
