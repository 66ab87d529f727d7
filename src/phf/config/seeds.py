"""Seeds of a run: `runs.conditional.seeds: 3` is trained three times, as conditional.seed-0, conditional.seed-1, ..."""

from typing import Any

from phf.errors import InputError


def seeds_of(seeds: int | list[int] | None) -> list[int]:
    """Return the seeds that a run asks for: 3 is 0, 1 and 2; none is []."""
    return list(range(seeds)) if isinstance(seeds, int) else list(seeds or [])


def seeded_name(run: str, seed: int) -> str:
    """Return the name, and so the folder, of one seed of a run."""
    return f"{run}.seed-{seed}"


def paired_run(name: str, seed: int, runs: dict[str, list[int]]) -> str:
    """Return the run that `init.run: name` means for a run of this seed: that run's own seed of the same number.

    Args:
        name: as the recipe gives it.
        seed: of the run that is initialised.
        runs: the seeds of every run of the recipe.

    Raises:
        InputError: if that run has seeds, but not this one.
    """
    seeds = runs.get(name)
    if not seeds:
        return name
    if seed not in seeds:
        known = ", ".join(map(str, seeds))
        raise InputError(
            f"train.init.run: {name} has the seeds {known}, but not {seed}; add it to runs.{name}.seeds, or name one of its "
            f"seeds, such as {seeded_name(name, seeds[0])}"
        )
    return seeded_name(name, seed)


def expand_runs(runs: dict[str, Any], init_of: dict[str, dict[str, Any] | None]) -> dict[str, Any]:
    """Return the runs with one entry a seed.

    Args:
        runs: of the recipe, each with `seeds`, `train` and `model_copy`.
        init_of: what each is initialised from (the fields of `train.init`), or None.

    Raises:
        InputError: as `paired_run` does, with the run's key in front.
    """
    seeds = {name: seeds_of(run.seeds) for name, run in runs.items()}
    expanded: dict[str, Any] = {}
    for name, run in runs.items():
        own: list[int | None] = [*seeds[name]]
        for seed in own or [None]:
            train = {**run.train} if seed is None else {**run.train, "seed": seed}
            if init := init_of[name]:
                try:
                    train["init"] = {**init, "run": paired_run(init["run"], train.get("seed", 0), seeds)}
                except InputError as error:
                    raise InputError(f"runs.{name}.{error}") from None
            changed = run.model_copy(update={"train": train, "seeds": None})
            expanded[name if seed is None else seeded_name(name, seed)] = changed
    return expanded
