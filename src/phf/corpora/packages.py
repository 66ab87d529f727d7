"""Python packages on this machine by name: their files, descriptions and versions. Nothing is imported."""

import csv
import difflib
import functools
import itertools
import platform
import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

from phf.corpora.files import walk
from phf.errors import InputError

STANDARD_LIBRARY = "standard-library"
_TESTS = {"test", "tests", "testing", "idle_test"}
_ELSEWHERE = {"site-packages", "dist-packages", "__pycache__"}


@dataclass(frozen=True)
class Installed:
    """What is installed under some names.

    Args:
        files: (path, path below the folder that an import finds it in); of two with one name, the one that an import finds.
        descriptions: (METADATA file, `NAME (description)`).
    """

    files: list[tuple[Path, str]]
    descriptions: list[tuple[Path, str]]


def find_installed(packages: list[str], tests: bool) -> Installed:
    """Find packages by name, or everything that is installed.

    Args:
        packages: names; see `PythonDocs`. Everything below the folders of this Python if empty.
        tests: list files of test suites too.

    Raises:
        InputError: for names that nothing is installed under, or nothing with Python files.
    """
    files: dict[str, Path] = {}
    missing = []
    infos = _metadata(_search_path() if packages else _roots())
    for package in packages:
        wheel = _wheel(package, infos)
        before = len(files)
        for path, name in _of_wheel(wheel, tests) if wheel else _of_module(package, tests):
            files.setdefault(name, path)
        if len(files) == before:
            missing.append(package)
    if missing:
        raise InputError(_not_found(missing, [STANDARD_LIBRARY, *infos]))
    for root in [] if packages else _roots():
        for path in _python_files(root, tests):
            files.setdefault(path.relative_to(root).as_posix(), path)
    described = {f"{_split(wheel)[0]} (description)": wheel / "METADATA" for wheel in _wheels(packages, infos)}
    return Installed(
        [(path, name) for name, path in files.items()], [(path, name) for name, path in described.items() if path.is_file()]
    )


def versions_of(packages: list[str]) -> dict[str, str]:
    """Return the versions of Python and of the distributions that packages belong to, by name; of all if empty."""
    infos = _metadata(_search_path() if packages else _roots())
    return {"python": platform.python_version(), **dict(_split(wheel) for wheel in _wheels(packages, infos))}


def _wheels(packages: list[str], infos: dict[str, Path]) -> list[Path]:
    """Return the metadata folders of the distributions that packages are or belong to."""
    if not packages:
        return list(infos.values())
    owners = ([own] if (own := _wheel(name, infos)) else _owners(name, infos) for name in packages)
    return list(itertools.chain.from_iterable(owners))


def _wheel(package: str, infos: dict[str, Path]) -> Path | None:
    return None if _is_standard(package) else infos.get(_normal(package))


def _of_wheel(wheel: Path, tests: bool) -> Iterator[tuple[Path, str]]:
    """Yield the Python files that the installation of a distribution recorded."""
    try:
        with (wheel / "RECORD").open(encoding="utf-8", newline="") as file:
            names = [row[0] for row in csv.reader(file) if row and row[0].endswith(".py")]
    except (OSError, UnicodeDecodeError, csv.Error):
        return
    for name in names:
        path = wheel.parent / name
        if _is_wanted(PurePosixPath(name), tests) and path.is_file():
            yield path, name


def _of_module(module: str, tests: bool) -> Iterator[tuple[Path, str]]:
    """Yield the Python files of a top-level module, or of the standard library, from the first folder that has it."""
    everything = module == STANDARD_LIBRARY
    for root in _roots() if everything else _search_path():
        tops = sorted(sys.stdlib_module_names) if everything else [module]
        found = [path for top in tops for name in (top, f"{top}.py") for path in _python_files(root / name, tests)]
        yield from ((path, path.relative_to(root).as_posix()) for path in found)
        if found:
            return


def _is_standard(name: str) -> bool:
    return name == STANDARD_LIBRARY or name in sys.stdlib_module_names


def _metadata(roots: list[Path]) -> dict[str, Path]:
    """Return the metadata folders of the installed distributions by name, of two with one name that of the first folder."""
    infos: dict[str, Path] = {}
    for root in roots:
        for path in sorted(root.glob("*.dist-info")):
            infos.setdefault(_normal(_split(path)[0]), path)
    return infos


def _owners(module: str, infos: dict[str, Path]) -> list[Path]:
    """Return the metadata folders of the distributions that a top-level module belongs to; none for the standard library's."""
    names = () if _is_standard(module) else _distributions_of_modules().get(module, ())
    return [infos[_normal(name)] for name in sorted(set(names)) if _normal(name) in infos]


@functools.cache
def _distributions_of_modules() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


def _split(wheel: Path) -> tuple[str, str]:
    """Return the name and the version that a folder NAME-VERSION.dist-info is called by."""
    name, _, version = wheel.name.removesuffix(".dist-info").partition("-")
    return name, version


def _normal(name: str) -> str:
    """Return the name of a distribution in the one spelling of PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _not_found(missing: list[str], known: list[str]) -> str:
    near = [difflib.get_close_matches(name, known, n=1, cutoff=0.7) for name in missing]
    named = ", ".join(f"{name!r}" + (f" (did you mean {close[0]!r}?)" if close else "") for name, close in zip(missing, near))
    return (
        f"corpus.source.packages: no Python files are installed under the names {named}; install them "
        f"(pip install {' '.join(missing)}), or take them out of the list, which makes another corpus"
    )


def _roots() -> list[Path]:
    """Return the folders of this Python: its standard library, and its own packages."""
    paths = sysconfig.get_paths()
    return _folders([paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")])


def _search_path() -> list[Path]:
    """Return where a name is looked for: this Python's own folders, then the others that an import searches."""
    return list(dict.fromkeys([*_roots(), *_folders([name for name in sys.path if name])]))


def _folders(names: list[str]) -> list[Path]:
    return [path for path in dict.fromkeys(Path(name).resolve() for name in names) if path.is_dir()]


def _python_files(path: Path, tests: bool) -> Iterator[Path]:
    """Find the Python files below a folder, or the path itself if it is one."""
    if path.is_dir():
        yield from (inner for inner in walk(path, lambda inner: _is_entered(inner.name, tests)) if _is_source(inner.name, tests))
    elif path.is_file() and _is_source(path.name, tests):
        yield path


def _is_wanted(name: PurePosixPath, tests: bool) -> bool:
    folders_entered = all(_is_entered(part, tests) for part in name.parts[:-1])
    return ".." not in name.parts and folders_entered and _is_source(name.name, tests)


def _is_entered(name: str, tests: bool) -> bool:
    return not (name.startswith(".") or name.endswith("-info") or name in _ELSEWHERE) and (tests or name not in _TESTS)


def _is_source(name: str, tests: bool) -> bool:
    is_test = name.startswith("test_") or name == "conftest.py"
    return name.endswith(".py") and not name.startswith(".") and (tests or not is_test)
