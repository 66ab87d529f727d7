"""Runs like others: `like: conditional` takes the objective and `train` of another run of the recipe."""

from typing import Any

from phf.config.include import long_run, merge
from phf.plugins import suggestion

_TAKEN = ("objective", "train")


def with_likes(runs: dict[str, Any]) -> dict[str, Any]:
    """Return runs with `like` replaced by what the other run has under `objective` and `train`, below the run's own keys.

    Args:
        runs: of a recipe, by name, as they are written.

    Raises:
        ValueError: for a run that is like one that does not exist, or like itself.
    """
    longs = {name: long_run(run) for name, run in runs.items()}
    return {name: _resolved(name, longs, ()) for name in longs}


def _resolved(name: str, runs: dict[str, Any], before: tuple[str, ...]) -> Any:
    run = runs[name]
    if not isinstance(run, dict) or run.get("like") is None:
        return run
    other = run["like"]
    if not isinstance(other, str) or other not in runs:
        known = suggestion(other, runs) if isinstance(other, str) else "; expected the name of a run"
        raise ValueError(f"runs.{name}.like: found {other!r}{known}")
    if other in (*before, name):
        raise ValueError(f"runs.{[*before, name][0]}.like: goes round in a circle: {' is like '.join([*before, name, other])}")
    like = _resolved(other, runs, (*before, name))
    taken = {key: like[key] for key in _TAKEN if isinstance(like, dict) and key in like}
    if isinstance(taken.get("objective"), str):
        taken["objective"] = {"name": taken["objective"]}
    return merge(taken, {key: value for key, value in run.items() if key != "like"})
