"""What import-linter (`make lint`) cannot say of the structure, and the bounds that keep files readable."""

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

import phf

ROOT = Path(phf.__file__).parent
PROJECT = Path(__file__).parents[1]
MODULES = sorted(ROOT.rglob("*.py"))
TEXTS = sorted(
    path
    for folder in ("src/phf", "docs", "recipes", "examples")
    for path in (PROJECT / folder).rglob("*")
    if path.suffix in {".py", ".md", ".yaml", ".html", ".js", ".css", ".toml"}
)

BANNED = re.compile(
    r"(?i:(?<![a-z])(?:keeper|warden|cage|diary|ancestor|logbook|house|floor|room)[sd]?)(?![a-z(])|(?<!be )\btold\b(?! apart)"
)
"""Private metaphors, and "told" for what callbacks are called with; `floor(` is arithmetic."""
UNPICKLE = {"pickle", "cloudpickle", "dill"}
IMPERATIVES = ("Give", "Say", "Tell", "Name")


def name_of(path):
    return str(path.relative_to(ROOT))


def test_no_module_imports_itself_through_others():
    graph = grimp.build_graph("phf", exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert sum(map(len, imports.values())) > 200, "the import graph is nearly empty, so this test would prove nothing"
    graphlib.TopologicalSorter(imports).prepare()  # a CycleError names the modules of a circle


def test_every_package_protects_its_inner_modules():
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    protected = {module for contract in contracts for module in contract.get("protected_modules", ())}
    packages = {".".join(path.parent.relative_to(ROOT.parent).parts) for path in MODULES if path.name == "__init__.py"} - {"phf"}
    assert protected == {f"{package}.*" for package in packages}, "each package needs a contract in pyproject.toml"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_and_functions_are_short_and_say_what_they_are(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f"{path}: its first line should say what it is"
    assert path.stem not in {"utils", "util", "common", "helpers", "base", "misc"}
    lines = len(text.splitlines())
    assert lines <= 300, f"{path} has {lines} lines, 300 at most: split it where both halves have a name"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= 60, f"{path}: {node.name} has {length} lines, 60 at most"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_docstrings_begin_as_docstrings_do(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node) or ""
            assert docstring.partition(" ")[0] not in IMPERATIVES, f"{path}: {docstring.splitlines()[0]!r}"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_words_are_the_fields(path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        assert not (match := BANNED.search(line)), f"{path}:{number}: {match.group()!r}: use the field's word ({line.strip()!r})"


@pytest.mark.parametrize(
    "code",
    [
        "import phf; phf.__version__; dir(phf)",
        "from phf.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from phf.cli import main\ntry: main(['list'])\nexcept SystemExit: pass",
    ],
    ids=["import phf", "phf --help", "phf list"],
)
def test_starting_is_light(code):
    heavy = {"torch", "transformers", "spacy", "sklearn", "matplotlib", "datasets", "ray"}
    program = f"import sys\n{code}\nloaded = {heavy} & set(sys.modules)\nsys.exit(f'loaded {{loaded}}' if loaded else 0)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_public_modules_open_from_the_package():
    assert phf.objectives.MLE().control_tokens == ()
    for name in ("annotate", "tokenize", "train", "evaluate", "report"):
        assert callable(getattr(getattr(phf, name), name)), "phf.annotate.annotate and its like are what the docs call"
    assert callable(phf.scorers.load)
    with pytest.raises(AttributeError, match="nothing"):
        phf.nothing  # noqa: B018


def test_only_the_command_line_prints():
    for path in MODULES:
        if name_of(path).startswith(("cli/", "__main__")):
            continue
        calls = [
            node.func.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        ]
        assert "print" not in calls, path


def test_nothing_is_unpickled():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not UNPICKLE & {alias.name.split(".")[0] for alias in node.names}, path
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNPICKLE:
                assert {alias.name for alias in node.names} == {"UnpicklingError"}, path
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert {key.arg: ast.unparse(key.value) for key in node.keywords}.get("weights_only") == "True", path
