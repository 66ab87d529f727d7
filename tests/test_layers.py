"""The floors of the house hold: imports go down only, and the front door is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import phf

ROOT = Path(phf.__file__).parent
FLOORS = {
    6: ["cli", "__main__"],
    5: ["pipeline"],
    4: ["train", "annotate", "tokenize", "report", "reward", "inspection", "evaluate"],
    3: ["learner", "lm"],
    2: ["objectives", "head", "scorers", "tokens", "shards", "per_example"],
    1: [
        "documents", "layout", "records", "config", "plugins", "errors", "artifacts", "progress", "statistics", "thresholds",
        "corpora", "segmenters", "sandbox", "machine", "__init__",
        "hub", "length_batches", "openai_client", "credentials",
    ],
}  # fmt: skip
"""Which floor a room is on; a package is one room."""
STAGES = FLOORS[4]


def room_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def floor_of(room):
    found = [floor for floor, rooms in FLOORS.items() if room in rooms]
    assert found, f"src/phf/{room} is on no floor: say which in tests/test_floors.py and docs/architecture.md"
    return found[0]


def imports(path):
    """Give the rooms of phf that a module imports, anywhere in it, but for those under TYPE_CHECKING."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("phf."))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "phf":
            if node.module == "phf":
                yield from (alias.name for alias in node.names if not alias.name.startswith("__"))
            else:
                yield node.module.split(".")[1]


MODULES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path):
    room = room_of(path)
    for imported in imports(path):
        if imported == room:
            continue
        assert floor_of(imported) <= floor_of(room), (
            f"{room} (floor {floor_of(room)}) imports {imported} (floor {floor_of(imported)})"
        )
        assert not (room in STAGES and imported in STAGES), f"the stage {room} imports the stage {imported}"


def test_every_room_stands_once():
    rooms = {room_of(path) for path in MODULES}
    listed = [room for rooms in FLOORS.values() for room in rooms]
    assert sorted(listed) == sorted(rooms)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_has_a_door_plate_and_is_readable(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{path} has no caption"
    assert len(path.read_text().splitlines()) <= 400, f"{path} has grown: a file that needs a second caption is two files"
    assert path.stem not in {"utils", "util", "common", "helpers", "base", "misc"}


@pytest.mark.parametrize(
    "code",
    [
        "import phf; phf.__version__; dir(phf)",
        "from phf.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from phf.cli import main\ntry: main(['list'])\nexcept SystemExit: pass",
    ],
    ids=["import phf", "phf --help", "phf list"],
)
def test_the_front_door_is_light(code):
    heavy = {"torch", "transformers", "spacy", "sklearn", "matplotlib", "datasets", "ray"}
    program = f"import sys\n{code}\nloaded = {heavy} & set(sys.modules)\nsys.exit(f'loaded {{loaded}}' if loaded else 0)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_public_rooms_open_from_the_package():
    assert phf.objectives.MLE().control_tokens == ()
    assert callable(phf.scorers.load)
    with pytest.raises(AttributeError, match="nothing"):
        phf.nothing  # noqa: B018


def test_only_the_command_line_prints():
    for path in MODULES:
        if room_of(path) in FLOORS[6]:
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
                assert all(alias.name != "pickle" for alias in node.names), path
            elif isinstance(node, ast.ImportFrom) and node.module == "pickle":
                assert [alias.name for alias in node.names] == ["UnpicklingError"], path
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert "weights_only=True" in map(ast.unparse, node.keywords), path
