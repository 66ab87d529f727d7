"""One run of a recipe: trained and evaluated, or, if it is a finished model, evaluated."""

from phf import artifacts, config
from phf.config import to_yaml
from phf.layout import RunFolder, WorkFolder
from phf.progress import Listener


def train_and_evaluate(recipe: config.Recipe, work: WorkFolder, name: str, on_progress: Listener) -> None:
    """Train one run of a recipe and evaluate it; a finished model is only evaluated."""
    from phf.evaluate import evaluate
    from phf.train import train

    run = recipe.runs[name]
    if run.model is not None:
        _evaluate_named(recipe, work, name, on_progress)
        return
    folder, options = work.run(name), recipe.train_of(name)
    if options.init and options.init.run in recipe.runs:
        init = options.init.model_copy(update={"run": str(work.run(options.init.run))})
        options = options.model_copy(update={"init": init})
    train(work.tokens, folder, name, run.objective, options, on_progress)
    held_out, objectives = recipe.tokenize.held_out, _objectives(recipe)
    spec = f"{folder}?trust_remote_code=true" if options.trust_remote_code else str(folder)
    evaluate(
        spec, work.annotated, recipe.evaluate, folder, held_out,
        evaluations=run.evaluations, on_progress=on_progress, objectives=objectives, trackers=options.trackers,
    )  # fmt: skip


def _evaluate_named(recipe: config.Recipe, work: WorkFolder, name: str, on_progress: Listener) -> None:
    """Evaluate a finished model of the recipe. Without a corpus, `annotate` says what its samples are cut and scored by."""
    from phf import lm
    from phf.evaluate import NamedModel, evaluate

    run, folder = recipe.runs[name], work.run(name)
    segmenter = run.segmenter or recipe.annotate.segmenter
    spec = str(run.model)
    if spec.startswith("hf:"):
        spec = lm.hub_spec(spec, config.plain(segmenter), run.control)
    has_corpus = work.annotated.exists()
    named = NamedModel(
        name, None if has_corpus and run.segmenter is None else segmenter, None if has_corpus else recipe.annotate.scorer
    )
    controls = [] if spec.startswith(lm.SERVER) else list(lm.find_checkpoint(spec).control_tokens)
    about = {"name": name, "model": run.model, "objective": config.plain(run.objective), "control_tokens": controls}
    folder.mkdir(parents=True, exist_ok=True)
    with artifacts.whole_file(RunFolder(folder).config, recorded=True) as temporary:
        temporary.write_text(to_yaml(about), encoding="utf-8")
    held_out = recipe.tokenize.held_out
    evaluate(
        spec, work.annotated, recipe.evaluate, folder, held_out,
        evaluations=run.evaluations, on_progress=on_progress, named=named, objectives=_objectives(recipe),
        trackers=recipe.train.trackers,
    )  # fmt: skip


def _objectives(recipe: config.Recipe) -> list[config.Component]:
    return [run.objective for run in recipe.runs.values()]
