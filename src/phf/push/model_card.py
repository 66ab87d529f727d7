"""A checkpoint as a repository of the hub: its files, the records of its step, and the model card."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from phf import lm
from phf.checksums import CHECKSUMS
from phf.config import to_yaml
from phf.errors import InputError
from phf.hub import HubModel
from phf.layout import CHECKPOINT_NOTES, RunFolder
from phf.push.card import Card, described, hub_datasets, inputs_of, public_name
from phf.push.repository import README, Repository
from phf.report import Measured, Run, decimals, describe, mapping, rank, read_runs, spoken, write, write_interval
from phf.tokens import load_tokenizer

_REPLACES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*.jinja",
    "added_tokens.json",
    "special_tokens_map.json",
    "records.jsonl",
)


def model_repository(source: str, card: Card) -> Repository:
    """Return the repository of a run's checkpoint.

    Args:
        source: a run's folder (its last checkpoint), `RUN@STEP`, or a checkpoint's folder in its run.
        card: where it is going to be.

    Raises:
        InputError: for anything else than a checkpoint in its run's folder, or damaged files.
    """
    if source.startswith(("hf:", "openai:")):
        raise InputError(f"{source}: not on this machine; expected a run's folder, RUN@STEP, or an annotated corpus")
    checkpoint = lm.find_checkpoint(source)
    folder = Path(checkpoint.folder)
    run_folder = RunFolder.of_checkpoint(folder)
    if not (folder / CHECKPOINT_NOTES).is_file() or not run_folder.config.is_file():
        raise InputError(
            f"{folder}: not a checkpoint in a run's folder with config.yaml, so a card could not say what it was trained on; "
            "expected what `phf train` writes"
        )
    (run,) = read_runs([run_folder.path])
    step = checkpoint.step
    files: dict[str, Path | bytes] = {
        path.name: path
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".") and path.name != CHECKSUMS  # of these files, not of the repository's
    }
    records = [record for record in run.records if record.step == step]
    if records:  # the command line may hold paths of this machine
        public = [dataclasses.replace(record, stamp=dataclasses.replace(record.stamp, command="")) for record in records]
        files["records.jsonl"] = "".join(record.to_json() + "\n" for record in public).encode()
    files[README] = _card(card, run, checkpoint, files).encode()
    return Repository("model", card.name, card.revision, files, _REPLACES)


def _card(card: Card, run: Run, checkpoint: lm.Checkpoint, files: Mapping[str, Path | bytes]) -> str:
    identity = mapping(run.config.get("tokens"))
    made_from = mapping(identity.get("corpus"))
    corpus, annotate = mapping(made_from.get("corpus")), mapping(made_from.get("annotate"))
    train = mapping(run.config.get("train"))
    scorer = described("scorers", annotate.get("scorer"))
    published = scorer.get("name") == "published"
    judge = described("scorers", mapping(annotate["scorer"]).get("samples")) if published else scorer
    base = _base_model(train)
    metadata = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["phf", "pretraining-with-human-feedback", run.objective],
        **({"base_model": base} if base else {}),
        **({"datasets": datasets} if (datasets := hub_datasets(corpus)) else {}),
    }
    return card.render(
        "model_card.md",
        metadata,
        run=run.name,
        step=checkpoint.step,
        tokens=run.checkpoints.get(checkpoint.step),
        parameters=run.parameters,
        objective=described("objectives", run.config.get("objective")),
        controls=list(checkpoint.control_tokens),
        lines=checkpoint.segmenter == "lines",
        start=_document_start(checkpoint),
        inputs=inputs_of(corpus),
        segmenter=described("segmenters", annotate.get("segmenter")),
        scorer=scorer,
        judge=judge,
        counts={key: value for key, value in identity.items() if isinstance(value, int)},
        held_out=mapping(identity.get("tokenize")).get("held_out"),
        training=to_yaml(_public_options(train)),
        init=_init(train),
        base=base,
        measured=list(_rows(run, checkpoint.step, judge.get("name", ""))),
        stamps=_stamps(run, checkpoint.step),
        new_tokens=min(64, train["context"] // 2) if isinstance(train.get("context"), int) else 64,
        value_head="value_head.safetensors" in files,
    )


def _document_start(checkpoint: lm.Checkpoint) -> str:
    """Return the token that documents begin with, as text."""
    tokenizer = load_tokenizer(checkpoint.folder)
    start = checkpoint.document_start
    return str(tokenizer.convert_ids_to_tokens(start) if isinstance(start, int) else tokenizer.eos_token)


def _base_model(train: Mapping[str, Any]) -> str | None:
    """Return the hub's model that training began from, None where it is not from there."""
    model = train.get("model")
    if not isinstance(model, str) or not model.startswith("from:") or Path(model.removeprefix("from:")).exists():
        return None
    name = model.removeprefix("from:").removeprefix("hf:")
    try:
        return HubModel.parse(name).name
    except InputError:  # a folder that is no more
        return None


def _init(train: Mapping[str, Any]) -> str:
    """Return which run and checkpoint of it training began from, "" for none."""
    init = mapping(train.get("init"))
    return f"the run {Path(str(init['run'])).name}, at {init.get('at')}" if init.get("run") else ""


def _public_options(train: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of training without what is of this machine alone: trackers, and folders in paths."""
    options = {key: value for key, value in train.items() if key != "trackers"}
    if init := mapping(options.get("init")):
        options["init"] = init | {"run": Path(str(init.get("run"))).name}
    model = options.get("model")
    if isinstance(model, str) and model.startswith("from:") and _base_model(train) is None:
        options["model"] = "from:" + public_name(model.removeprefix("from:"))
    return options


def _rows(run: Run, step: int, scorer: str) -> Iterator[dict[str, str]]:
    """Yield a row for every metric measured at the step: evaluation, metric, value, interval, samples."""
    for evaluation, metrics in run.history.items():
        for metric in sorted((name for name in metrics if step in metrics[name]), key=rank):
            measured: Measured = metrics[metric][step]
            measure = describe(metric, scorer)
            places = decimals([measured], measure)
            yield {
                "evaluation": spoken(evaluation),
                "metric": measure.words + (f" ({measure.better} is better)" if measure.better else ""),
                "value": "not measurable" if math.isnan(measured.value) else write(measured.value, places, measure),
                "interval": write_interval(measured, places, measure),
                "n": f"{measured.n:,}",
            }


def _stamps(run: Run, step: int) -> dict[str, str]:
    """Return when and with what the metrics were measured."""
    stamps = [record.stamp for record in run.records if record.step == step]
    return {
        "days": " to ".join(dict.fromkeys(f(stamp.time[:10] for stamp in stamps) for f in (min, max))) if stamps else "",
        "commits": ", ".join(sorted({stamp.commit for stamp in stamps if stamp.commit})),
        "versions": ", ".join(sorted({f"{name} {number}" for stamp in stamps for name, number in stamp.versions.items()})),
        "machines": "; ".join(sorted({stamp.machine for stamp in stamps})),
    }
