"""The docs hold: the tree names every module, recipes run down to the page, snippets of Python run as pasted."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import phf
from phf import config, pipeline
from phf.export import export
from phf.formatting import short_count
from phf.pipeline.plan import schedule
from support import tiny_corpora as tiny

PROJECT = Path(__file__).parents[1]
TINY = [
    "train.model={preset: gpt2-tiny, n_layer: 1, n_embd: 16, n_head: 2}", "train.tokens=1024", "train.context=24",
    "train.batch=4", "tokenize.vocab_size=300", "jobs=1", "annotate.workers=1",
]  # fmt: skip


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", (PROJECT / path).read_text(), re.S | re.M)


def test_the_tree_names_every_module():
    tree = (PROJECT / "docs/architecture.md").read_text().partition("<!-- tree -->")[2].partition("<!-- /tree -->")[0]
    named = set(re.findall(r"^\| `([^`]+\.py)` \|", tree, re.M))
    root = Path(phf.__file__).parent
    assert named == {str(path.relative_to(root)) for path in root.rglob("*.py")}


def test_the_paper_page_names_tests_and_recipes_that_are_there():
    page = (PROJECT / "docs/paper.md").read_text()
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", page)
    assert len(named) >= 20
    for file, test in named:
        assert f"\ndef {test}(" in (PROJECT / "tests" / file).read_text(), f"{file}::{test}"
    for recipe in re.findall(r"phf run (recipes/\S+?\.yaml)", page):
        for task in ("toxicity", "pii", "pep8") if "TASK" in recipe else ("",):
            made = config.read_recipe(PROJECT / recipe.replace("TASK", task))
            for run in re.findall(rf"{re.escape(recipe)}`?((?: --only \S+)+)", page):
                assert set(re.findall(r"--only ([\w-]+)", run)) <= set(made.runs), recipe


DOCUMENTS = ["README.md", *sorted(str(path.relative_to(PROJECT)) for path in (PROJECT / "docs").rglob("*.md"))]
RECIPES = [(path, number, block) for path in DOCUMENTS for number, block in enumerate(blocks(path, "yaml"))]


@pytest.mark.parametrize("block", [block for *_, block in RECIPES], ids=[f"{path}-{number}" for path, number, _ in RECIPES])
def test_every_recipe_and_every_part_of_one_is_valid(block, tmp_path):
    (tmp_path / "recipe.yaml").write_text(block)
    assert config.read_recipe(tmp_path / "recipe.yaml")


@pytest.mark.parametrize(
    "block", [block for *_, block in RECIPES if "runs" in yaml.safe_load(block)],
    ids=[f"{path}-{number}" for path, number, block in RECIPES if "runs" in yaml.safe_load(block)],
)  # fmt: skip
def test_every_whole_recipe_runs_down_to_the_plot(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = [document.text for document in tiny.documents(80)]
    texts += [f"You are a stupid idiot. {text}" for text in texts[:40]]
    rows = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
    Path("docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("recipe.yaml").write_text(block)
    recipe = config.read_recipe(Path("recipe.yaml"))
    assert recipe.corpus.inputs == ["docs.jsonl"], "the corpus that this test makes"
    samples = [name for name, component in recipe.evaluate.evaluations.items() if component.name == "samples"]
    small = [f"evaluate.evaluations.{name}.{change}" for name in samples for change in ("n=32", "max_tokens=12")]
    page = pipeline.run(config.read_recipe(Path("recipe.yaml"), TINY + small), Path("work"))
    assert list((page.parent / "figures").glob("*.svg"))
    assert all(name in page.read_text() for name in recipe.runs)


def test_the_table_of_what_recipes_take_says_their_runs_and_tokens():
    page = (PROJECT / "docs/speed.md").read_text()
    rows = re.findall(r"^\| `phf (demo|run)([^`]*)`[^|]* \| (\d+) \| (\S+) \|", page, re.M)
    assert len(rows) >= 8
    for command, words, runs, tokens in rows:
        name, *options = words.split() if command == "run" else ["pii-demo", *words.split()]
        recipe = config.read_recipe(config.shipped_recipes()[name]).expanded()
        only = [word for word in options if not word.startswith("--")]
        only = ["mle", "conditional"] if command == "demo" and "--all" not in options else only
        names = only or list(recipe.runs)
        plans = [schedule(recipe, run) for run in names]
        assert (len(names), short_count(sum(plan.steps * plan.step_tokens for plan in plans))) == (int(runs), tokens), words


def test_the_snippets_of_integrations_run_as_pasted(tmp_path):
    pytest.importorskip("datasets")
    store = tiny.token_store(tmp_path, tiny.documents(60))
    export(store, tmp_path / "out", config.Component(name="conditional", threshold=0.0), "datasets")
    program = "\n".join(blocks("docs/integrations.md", "python")) + "\nassert written.shape[1] == prompt.shape[1] + 8\n"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "trained").exists()
