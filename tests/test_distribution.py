"""The wheel and the source distribution: built, checked, and the wheel installed in an environment of its own and run there."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
TINY = [
    "corpus.source.package_characters=9000", "corpus.limit=40", "annotate.workers=1", "tokenize.vocab_size=300",
    "tokenize.held_out=0.2", "train.model={preset: gpt2-tiny, n_layer: 1, n_embd: 16, n_head: 2}", "train.tokens=1024",
    "train.context=48", "train.batch=4", "train.checkpoints=1", "jobs=1",
    "evaluate.evaluations={adversarial: {name: samples, n: 8, max_tokens: 12, prompts: [Author]}, heldout: heldout}",
]  # fmt: skip


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    pytest.importorskip("build")
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, PROJECT)
    (wheel,), (source,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, source


@pytest.mark.slow
def test_distributions_are_valid_and_hold_what_they_should(built):
    wheel, source = built
    assert run(sys.executable, "-m", "twine", "check", "--strict", wheel, source).count("PASSED") == 2
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "phf/scorers/toxicity.safetensors",
        "phf/scorers/toxicity.LICENSE.md",
        "phf/recipes/pii-demo.yaml",
        "phf/report/page.html",
        "phf/py.typed",
    ):
        assert needed in names
    assert not [name for name in names if name.startswith(("tests", "docs", "results"))]
    with tarfile.open(source) as archive:
        packed = [name.partition("/")[2] for name in archive.getnames()]
    for needed in ("README.md", "CHANGELOG.md", "tests/test_layers.py", "docs/index.md", "recipes/pii-demo.yaml", "Makefile"):
        assert needed in packed
    assert not [name for name in packed if name.startswith("results") or name.endswith("records.jsonl")]


@pytest.mark.slow
def test_the_wheel_runs_the_demo_in_an_environment_of_its_own(built, tmp_path):
    """The wheel is built from the source distribution, and nothing of the source tree is in reach.

    The dependencies are those of this environment, so no network is needed.
    """
    pytest.importorskip("scrubadub")
    pytest.importorskip("spacy")
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env/bin/python"
    folder = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])").strip())
    sources = [path for path in sys.path if path.endswith("site-packages") and not (Path(path) / "zz-base.pth").exists()]
    assert sources
    (folder / "dependencies.pth").write_text("\n".join(sources) + "\n")
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder, built[0])
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    where = run(python, "-c", "import phf; print(phf.__file__)", cwd=tmp_path, env=environment)
    assert where.startswith(str(folder))
    run(python, "-m", "phf", "demo", *TINY, cwd=tmp_path, env=environment)
    page = tmp_path / "work/pii-demo/report/index.html"
    assert page.stat().st_size > 10_000
    assert list((page.parent / "figures").glob("*.svg"))
    assert "comes with phf" in page.read_text(), "the recipe's origin"
    assert "conditional" in run(python, "-m", "phf", "list", cwd=tmp_path, env=environment)
    run(python, "-m", "phf", "recipes", "copy", "paper-pii", cwd=tmp_path, env=environment)
    assert "conditional" in run(python, "-m", "phf", "run", "paper-pii.yaml", "--dry-run", cwd=tmp_path, env=environment)
