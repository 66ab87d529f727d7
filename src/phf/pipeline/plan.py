"""What a recipe is going to do: which runs, in which order, checked before anything is trained."""

from collections.abc import Sequence

from phf import config
from phf.errors import InputError
from phf.evaluate import OfRun
from phf.plugins import suggestion
from phf.train import TrainSchedule, find_step


def select(recipe: config.Recipe, only: Sequence[str]) -> list[str]:
    """Return the runs to do, each behind the one that it is initialised from or that its evaluations need.

    Args:
        recipe: the whole job, with one run for each seed.
        only: names of runs, or of runs whose seeds are all meant; all of the recipe's if empty.

    Raises:
        InputError: for a recipe without runs, an unknown name, a run that is initialised from itself or from a checkpoint
            that there will not be, or samples longer than a model's context.
    """
    if not recipe.runs:
        raise InputError("runs: the recipe has none; add one, such as `runs: {mle: mle}`")
    by_seed = {name: name.rpartition(".seed-")[0] for name in recipe.runs}
    for name in only:
        if name not in recipe.runs and name not in by_seed.values():
            raise InputError(f"unknown run {name!r}{suggestion(name, recipe.runs)}")
    names = _in_order(recipe, [name for name in recipe.runs if not only or name in only or by_seed[name] in only])
    _check_lengths(recipe, names)
    return names


def init_run(recipe: config.Recipe, name: str) -> str | None:
    """Return the run of the recipe that a run is initialised from, if any."""
    init = recipe.train_of(name).init
    return init.run if init and init.run in recipe.runs else None


def run_before(recipe: config.Recipe, name: str) -> str | None:
    """Return the run that has to be done before another: the one it is initialised from, else one that its evaluations need.

    Raises:
        InputError: for an evaluation that needs a run which the recipe does not have.
    """
    return init_run(recipe, name) or _run_of_evaluations(recipe, name)


def _run_of_evaluations(recipe: config.Recipe, name: str) -> str | None:
    for evaluation in recipe.runs[name].evaluations or recipe.evaluate.evaluations:
        built = config.build("evaluations", recipe.evaluate.evaluations[evaluation])
        needed = built.of_run() if isinstance(built, OfRun) else None
        if needed is not None and needed not in recipe.runs:
            raise InputError(
                f"evaluate.evaluations.{evaluation}: needs the run {needed!r}, which the recipe does not have"
                f"{suggestion(needed, recipe.runs)}"
            )
        if needed not in (None, name):
            return needed
    return None


def schedule(recipe: config.Recipe, name: str) -> TrainSchedule:
    """Return a run's schedule, the tokens of the run that it is initialised from counted."""
    before, source, init = 0, init_run(recipe, name), recipe.train_of(name).init
    if source and init:
        trained = schedule(recipe, source)
        before = trained.tokens(find_step(init, trained, trained.checkpoints()))
    return TrainSchedule(recipe.train_of(name), before)


def _in_order(recipe: config.Recipe, names: Sequence[str]) -> list[str]:
    ordered: list[str] = []

    def add(name: str, dependents: tuple[str, ...]) -> None:
        if name in dependents:
            raise InputError(f"runs.{name}.train.init: is initialised from itself: {' from '.join([*dependents, name])}")
        if source := init_run(recipe, name):
            add(source, (*dependents, name))
        elif (needed := _run_of_evaluations(recipe, name)) and needed not in dependents:
            add(needed, (*dependents, name))
        if recipe.runs[name].model is None:
            schedule(recipe, name)
        if name not in ordered:
            ordered.append(name)

    for name in names:
        add(name, ())
    return ordered


def _check_lengths(recipe: config.Recipe, names: Sequence[str]) -> None:
    for evaluation, component in recipe.evaluate.evaluations.items():
        longest = getattr(config.build("evaluations", component), "max_tokens", 0)
        for name in names:
            if recipe.runs[name].model is not None or evaluation not in (recipe.runs[name].evaluations or [evaluation]):
                continue
            context = recipe.train_of(name).context
            if longest > context - 2:  # a document start and a control token come first
                raise InputError(
                    f"evaluate.evaluations.{evaluation}.max_tokens is {longest}, but {name} is trained on sequences of {context} "
                    f"tokens, of which two are taken; set it to {context - 2} or less"
                )
