"""Recipes that come with phf, by name: files of the package, or of the source checkout that it runs from."""

from pathlib import Path

import phf
from phf.errors import InputError
from phf.plugins import suggestion


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that come with phf, in alphabetical order: the name that `phf run` takes, and the file."""
    package = Path(phf.__file__).parent
    folder = next((path for path in (package / "recipes", package.parents[1] / "recipes") if path.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))} if folder else {}


def find_recipe(name: Path) -> Path:
    """Return the file of a recipe: the path itself, or the recipe of that name that comes with phf.

    Raises:
        InputError: if there is neither.
    """
    if name.exists():
        return name
    shipped = shipped_recipes()
    if str(name) in shipped:
        return shipped[str(name)]
    if name.stem in shipped:
        raise InputError(f"{name}: no such file; phf comes with a recipe of that name, so write {name.stem} instead of the path")
    if name.suffix or len(name.parts) > 1:
        raise InputError(f"{name}: no such file; give a recipe's path, or the name of one that comes with phf (`phf recipes`)")
    raise InputError(f"{name}: no such file, and no recipe that comes with phf{suggestion(str(name), shipped)}")
