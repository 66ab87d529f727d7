"""Recipes that come with phf: listed, copied, and run by name; the demo."""

import json
from pathlib import Path

import pytest

from phf import config
from support.command_line import phf

PROJECT = Path(__file__).parents[2]
TINY = [
    "corpus.source.package_characters=9000", "corpus.limit=40",
    "train.model={preset: gpt2-tiny, n_layer: 1, n_embd: 16, n_head: 2}", "train.tokens=1024", "train.context=48",
    "train.batch=4", "train.checkpoints=1", "tokenize.vocab_size=300", "tokenize.held_out=0.2", "jobs=1", "annotate.workers=1",
]  # fmt: skip
SMALL = ["evaluate.evaluations={adversarial: {name: samples, n: 8, max_tokens: 12, prompts: [Author]}, heldout: heldout}"]


def test_every_recipe_is_listed_with_its_title_task_and_size(tmp_path):
    listed = json.loads(phf("recipes", "--json", cwd=tmp_path)[0])
    assert {row["name"] for row in listed} == {path.stem for path in (PROJECT / "recipes").glob("*.yaml")}
    assert all(row["title"] and row["task"] and row["size"] and Path(row["file"]).exists() for row in listed)
    rows = {row["name"]: row for row in listed}
    assert rows["toxicity-mini"]["size"] == "llama-1m, 4M tokens, 16 runs", "a seed is a run"
    assert [rows[name]["task"] for name in ("toxicity-mini", "pii-mini", "pep8-mini")] == ["toxicity", "pii", "pep8"]
    shown = phf("recipes", cwd=tmp_path)[0]
    assert all(row["name"] in shown and row["task"] in shown for row in listed)


def test_a_copy_is_the_recipe_and_nothing_is_overwritten(tmp_path):
    said, _ = phf("recipes", "copy", "pii-demo", cwd=tmp_path)
    assert "Wrote: pii-demo.yaml" in said
    assert "Next: phf run pii-demo.yaml" in said
    assert config.read_recipe(tmp_path / "pii-demo.yaml") == config.read_recipe(config.find_recipe(Path("pii-demo")))
    (tmp_path / "pii-demo.yaml").write_text("mine")
    _, error = phf("recipes", "copy", "pii-demo", cwd=tmp_path, code=2)
    assert "pii-demo.yaml: is there already" in error
    assert (tmp_path / "pii-demo.yaml").read_text() == "mine"
    _, error = phf("recipes", "copy", "pii-dmeo", cwd=tmp_path, code=2)
    assert "unknown recipe 'pii-dmeo'; did you mean 'pii-demo'?" in error


def test_what_a_recipe_includes_is_copied_with_it(tmp_path, monkeypatch):
    shipped = tmp_path / "shipped"
    (shipped / "include").mkdir(parents=True)
    (shipped / "include" / "list.yaml").write_text("report: {title: Of the list}\n")
    (shipped / "base.yaml").write_text("# A base. More.\ninclude: include/list.yaml\nruns: {mle: mle}\n")
    (shipped / "top.yaml").write_text("# A recipe on a base. More.\ninclude: base.yaml\nname: top\n")
    monkeypatch.setattr("phf.config.shipped_recipes", lambda: {path.stem: path for path in shipped.glob("*.yaml")})
    phf("recipes", "copy", "top", "mine.yaml", cwd=tmp_path)
    assert config.read_recipe(tmp_path / "mine.yaml").runs["mle"].objective.name == "mle"
    assert config.read_recipe(tmp_path / "mine.yaml").report.title == "Of the list"
    (tmp_path / "base.yaml").write_text("runs: {}")
    _, error = phf("recipes", "copy", "top", "other.yaml", cwd=tmp_path, code=2)
    assert "base.yaml: is there already" in error
    assert not (tmp_path / "other.yaml").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pii-dmeo", "no such file, and no recipe that comes with phf; did you mean 'pii-demo'?"),
        ("nowhere/pii-demo.yaml", "phf comes with a recipe of that name, so write pii-demo instead"),
        ("mine.yaml", "no such file; give a recipe's path, or the name of one that comes with phf (`phf recipes`)"),
    ],
)
def test_an_unknown_recipe_is_explained(name, said, tmp_path):
    assert said in phf("run", name, cwd=tmp_path, code=2)[1]


def test_a_shipped_recipe_runs_by_its_name_and_a_file_goes_before_it(tmp_path):
    _, error = phf("run", "pii-demo", "--only", "own", cwd=tmp_path, code=2)
    assert "unknown run 'own'" in error
    assert "conditional" in error
    (tmp_path / "pii-demo").write_text("runs: {mine: mle}\ntrain: {tokens: 1M}\ncorpus: {source: python-docs}")
    _, error = phf("run", "pii-demo", "--only", "own", cwd=tmp_path, code=2)
    assert "mine" in error
    assert "conditional" not in error


@pytest.mark.parametrize(("options", "only"), [((), ["mle", "conditional"]), (("--all",), ())])
def test_the_demo_is_a_shipped_recipe_with_few_or_all_runs(options, only, tmp_path, monkeypatch):
    called = {}

    def run(recipe, out, runs, *_):
        called.update(name=recipe.name, out=out, runs=runs, tokens=recipe.train.tokens)
        (out / "report").mkdir(parents=True)
        (out / "report/report.json").write_text('{"findings": ["Lowest: conditional, 0.1."]}')
        return out / "report/index.html"

    monkeypatch.setattr("phf.pipeline.run", run)
    said, _ = phf("demo", *options, "train.tokens=1k", cwd=tmp_path)
    assert called == {"name": "pii-demo", "out": Path("work/pii-demo"), "runs": only, "tokens": 1000}
    assert "Lowest: conditional, 0.1.\nWrote: work/pii-demo/report/index.html" in said


@pytest.mark.slow
def test_the_demo_compares_two_runs_and_says_where(tmp_path):
    pytest.importorskip("scrubadub")
    pytest.importorskip("spacy")
    said, _ = phf("demo", *TINY, *SMALL, "--out", "out", "--json", "--quiet", cwd=tmp_path)
    written = json.loads(said)
    assert {path.name for path in (tmp_path / "out/runs").iterdir()} == {"mle", "conditional"}
    assert "conditional" in (tmp_path / written["page"]).read_text()
    assert list((tmp_path / "out/report/figures").glob("*.svg"))
