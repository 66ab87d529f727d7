"""Packages by name: what a corpus of them reads, that nothing else installed changes it, and what is missing."""

import re
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

from phf import annotate, config, corpora
from phf.annotate import read_manifest
from phf.corpora import PythonDocs, PythonSource
from phf.corpora.packages import STANDARD_LIBRARY, _distributions_of_modules
from phf.errors import InputError

ROOT = Path(__file__).parents[2]
LIST = ROOT / "recipes" / "include" / "python-packages.yaml"


@pytest.fixture
def python(tmp_path, monkeypatch):
    """A Python with a standard library of one module, and a function that installs wheels."""
    standard, packages = tmp_path / "lib", tmp_path / "lib" / "site-packages"
    packages.mkdir(parents=True)
    (standard / "json").mkdir()
    (standard / "json" / "__init__.py").write_text('"""Encode and decode."""\n')
    paths = {"stdlib": standard, "platstdlib": standard, "purelib": packages, "platlib": packages}
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {name: str(path) for name, path in paths.items()})
    monkeypatch.setattr(sys, "path", [*sys.path, str(packages)])
    _distributions_of_modules.cache_clear()

    def install(name, files, version="1.0", root=packages):
        info = root / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        recorded = {**files, f"{info.name}/METADATA": f"Name: {name}\nVersion: {version}\n\nWhat {name} is for."}
        for path, text in recorded.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        (info / "RECORD").write_text("".join(f"{path},,\n" for path in [*recorded, f"{info.name}/RECORD"]))
        return root

    yield install
    _distributions_of_modules.cache_clear()


def docs(*packages, **more):
    return dict(PythonDocs(packages=list(packages), min_characters=1, **more).texts())


def test_a_further_package_changes_no_corpus_of_names(python, tmp_path, monkeypatch):
    python("Some_Thing", {"thing/__init__.py": '"""A thing."""', "thing/tests/a.py": '"""Not read."""'})
    names = ["some-thing", STANDARD_LIBRARY]
    for source in (PythonDocs(packages=names, min_characters=1), PythonSource(packages=names, min_characters=1)):
        texts, fingerprint, versions = list(source.texts()), source.fingerprint(), source.versions()
        assert len(texts) >= 2
        further = tmp_path / f"further-{type(source).__name__}"
        python("other", {"other.py": '"""Another."""', "thing/plugin.py": '"""In a folder of the first."""'}, root=further)
        python(f"more{type(source).__name__}", {"thing/more.py": '"""And in its own place."""'})
        monkeypatch.setattr(sys, "path", [*sys.path, str(further)])
        assert list(source.texts()) == texts
        assert source.fingerprint() == fingerprint
        assert source.versions() == versions
    assert docs("some-thing", STANDARD_LIBRARY) == {
        "thing": "A thing.",
        "json": "Encode and decode.",
        "Some_Thing (description):0": "What Some_Thing is for.",
    }
    assert docs("other")["other"] == "Another."  # the folder on sys.path is read if its package is asked for


def test_the_order_of_names_is_that_of_no_document(python):
    python("a", {"a.py": '"""A."""'})
    python("b", {"b.py": '"""B."""'})
    assert list(docs("a", "b", STANDARD_LIBRARY).items()) == list(docs(STANDARD_LIBRARY, "b", "a").items())
    assert PythonDocs(packages=["a", "b"]).fingerprint() == PythonDocs(packages=["b", "a"]).fingerprint()


def test_versions_are_those_of_what_is_read(python):
    python("Py.Yaml", {"yet_another/__init__.py": '"""YAML."""'}, version="6.1")
    python("other", {"other.py": '"""Another."""'})
    assert PythonDocs(packages=["py-yaml", "json"]).versions().keys() == {"python", "Py.Yaml"}
    assert PythonDocs(packages=["yet_another"]).versions().get("Py.Yaml") == "6.1"  # a module has the version of its package
    assert PythonSource().versions().keys() == {"python", "Py.Yaml", "other"}


def test_what_is_not_installed_is_an_error_that_names_it(python, tmp_path):
    python("numpy", {"numpy/__init__.py": '"""Arrays."""'})
    python("stubs", {"stubs/__init__.pyi": ""})
    for source in (PythonDocs(packages=["numpi", "numpy", "stubs"]), PythonSource(packages=["numpi", "numpy", "stubs"])):
        for ask in (source.fingerprint, lambda source=source: list(source.texts())):
            with pytest.raises(InputError, match=r"'numpi' \(did you mean 'numpy'\?\), 'stubs'.*pip install numpi stubs"):
                ask()
    made = config.check(config.Corpus, {"source": {"name": "python-docs", "packages": ["numpi"]}}, "corpus")
    with pytest.raises(InputError, match="numpi"):
        annotate.annotate(made, config.Annotate(scorer="pep8", segmenter="document"), tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_an_annotation_prints_its_fingerprint_and_keeps_it_with_the_versions(python, tmp_path, caplog):
    caplog.set_level("INFO", logger="phf")
    root = python("numpy", {"numpy/__init__.py": '"""Arrays."""'}, version="1.2")
    source = {"name": "python-source", "packages": ["numpy", STANDARD_LIBRARY], "min_characters": 1}
    made = config.check(config.Corpus, {"source": source}, "corpus")
    scoring = config.check(
        config.Annotate, {"scorer": {"name": "regex", "patterns": ["x"]}, "segmenter": "document", "workers": 1}, "annotate"
    )
    out = tmp_path / "out"
    assert annotate.annotate(made, scoring, out).documents == 2
    inputs = read_manifest(out / "manifest.json")["made_from"]["inputs"]
    assert inputs == corpora.inventory(made)
    assert inputs["versions"]["numpy"] == "1.2"
    assert f"fingerprint of the corpus: {inputs['fingerprint']}" in caplog.text

    caplog.clear()
    assert annotate.annotate(made, scoring, out).was_finished
    assert [record.levelname for record in caplog.records] == ["INFO"]

    (root / "numpy-1.2.dist-info").rename(root / "numpy-1.3.dist-info")
    record = (root / "numpy-1.3.dist-info" / "RECORD").read_text().replace("1.2", "1.3")
    (root / "numpy-1.3.dist-info" / "RECORD").write_text(record)
    (root / "numpy" / "__init__.py").write_text('"""Arrays of numbers."""')
    assert annotate.annotate(made, scoring, out).was_finished  # what was there is still good
    assert "numpy 1.2 -> 1.3" in caplog.text

    (root / "numpy-1.3.dist-info" / "RECORD").write_text("")
    assert annotate.annotate(made, scoring, out).was_finished
    assert "by now: corpus.source.packages: no Python files are installed under the names 'numpy'" in caplog.text


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_recipes_packages_are_pinned_and_come_with_make_venv():
    import tomllib

    requirements = pytest.importorskip("packaging.requirements")
    named = config.read_yaml(LIST)["corpus"]["source"]["packages"]
    assert STANDARD_LIBRARY in named
    named = {normal(name) for name in named if name != STANDARD_LIBRARY}
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    assert named <= {normal(line.split("==")[0]) for line in pinned if "==" in line}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for extra in ("all", "dev", "docs") for line in project["optional-dependencies"][extra]]
    inner = re.findall(r"[\w-]+", next(line for line in extras if line.startswith("phf[")).removeprefix("phf"))
    extras += [line for extra in inner for line in project["optional-dependencies"][extra]]
    waiting = [requirements.Requirement(line) for line in [*project["dependencies"], *extras]]
    found = set()
    while waiting:
        one = waiting.pop()
        key = (normal(one.name), *sorted(one.extras))
        if key in found:
            continue
        found.add(key)
        try:
            lines = metadata.requires(one.name) or []
        except metadata.PackageNotFoundError:
            continue
        for line in lines:
            needed = requirements.Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *one.extras)):
                needed.marker = None
                waiting.append(needed)
    assert named <= {name for name, *_ in found}, sorted(named - {name for name, *_ in found})


@pytest.mark.parametrize("name", ["pii-demo", "pep8-demo"])
def test_recipes_share_the_list(name):
    recipe = config.read_recipe(ROOT / "recipes" / f"{name}.yaml")
    assert recipe.corpus.source.fields["packages"] == config.read_yaml(LIST)["corpus"]["source"]["packages"]
    assert recipe.corpus.source.fields["package_characters"]
