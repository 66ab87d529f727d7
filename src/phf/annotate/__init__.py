"""Annotation: a corpus to a folder of Parquet parts, every document in segments and every segment scored."""

import contextlib
import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phf import checksums, config, corpora, object_store
from phf.annotate.journal import JOURNAL, QUARANTINE, Journal
from phf.annotate.local_executor import score_locally
from phf.annotate.ray_executor import score_on_ray
from phf.annotate.tally import Callbacks, Tally
from phf.artifacts import check_unchanged, read_json, sweep, write_json
from phf.documents import recorded_segmenter
from phf.errors import InputError
from phf.locks import locks_output
from phf.progress import Listener, silent
from phf.scorers import RemoteScorer
from phf.segmenters import explicit_fields

_log = logging.getLogger("phf")
_MANIFEST = "manifest.json"
_SHOWN = 8  # versions in a warning


@dataclass(frozen=True, slots=True)
class Summary:
    """What an annotated corpus holds.

    Args:
        folder: where it is.
        documents: in its parts.
        empty: documents without a character; they are left out.
        segments: of the documents.
        characters: of the documents.
        unscored: segments whose reward is NaN, in any column.
        failed: documents that failed in a scorer and rows that could not be used; quarantine.jsonl lists them.
        seconds: spent segmenting and scoring, summed over workers.
        parts: file names.
        was_finished: it was there already and was left alone.
    """

    folder: Path
    documents: int
    empty: int
    segments: int
    characters: int
    unscored: int
    failed: int
    seconds: float
    parts: list[str]
    was_finished: bool = False


@locks_output("annotate")
def annotate(corpus: config.Corpus, options: config.Annotate, out: Path, on_progress: Listener = silent) -> Summary:
    """Segment and score a corpus into `out`, or resume where an earlier run was stopped.

    The parts do not depend on the number of workers, on the executor or on interruptions, byte for byte. A part that is
    missing, or has lost its size, is scored again.

    Args:
        corpus: which documents.
        options: how they are segmented and scored, and by how many processes.
        out: a new folder, or one that this function began with the same corpus and options.
        on_progress: called with the number of documents that are finished.

    Raises:
        InputError: for a corpus that cannot be read or is empty, a scorer that cannot be loaded, a folder made from
            something else, or more failed documents or unscored segments than `options.max_failures` and
            `options.max_unscored` allow; finished parts stay.
    """
    scoring = {name: config.plain(options)[name] for name in ("segmenter", "scorer", "also", "part")}
    cut = options.segmenter
    scoring["segmenter"] = {"name": cut.name, **explicit_fields(cut.name, cut.fields)}
    made_from = {"corpus": corpora.recorded(corpus), "annotate": scoring}
    journal = Journal(out)
    finished = _begin(out, made_from, journal, corpus)
    if finished is not None:
        return finished
    tally = Tally(out, options, on_progress, corpus.limit, journal.parts)
    tally.check()
    callbacks = Callbacks(on_read=tally.on_read, on_scored=tally.on_scored, on_wait=tally.report)
    score = score_on_ray if options.engine == "ray" else score_locally
    parts = score(corpus, options, out, journal.parts, callbacks)
    try:
        with contextlib.closing(parts):
            for index, part in parts:
                journal.add(index, part)
                tally.add(index, part)
    finally:
        journal.write_quarantine()
    if not tally["documents"]:
        what = ", ".join(made_from["corpus"]["inputs"]) if corpus.source is None else f"source {corpus.source.name}"
        raise InputError(f"{what}: no documents in it" + (", only empty ones" if tally["empty"] else ""))
    fields = {**tally.counts(), **journal.totals()}
    journal.record_checksums()
    write_json(out / _MANIFEST, {"made_from": made_from, "finished": True, **fields}, recorded=True)
    tally.report(last=True)
    if tally["failed"]:
        message = "%s: %d of %d documents failed and have no reward; %s there lists them with the reason"
        _log.warning(message, out, tally["failed"], tally["rows"], QUARANTINE)
    return _summary(out, fields, was_finished=False)


def _begin(out: Path, made_from: dict[str, Any], journal: Journal, corpus: config.Corpus) -> Summary | None:
    """Return None if `out` is to be begun or resumed, and what it holds if it is finished."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; expected a folder to write to")
    path = out / _MANIFEST
    if not path.exists():
        if any(name.endswith(".parquet") for name in object_store.names_in(out)):
            raise InputError(f"{out}: holds Parquet files that annotation did not write; choose another output folder")
        made_from["inputs"] = corpora.inventory(corpus)
        _log_fingerprint(out, made_from)
        write_json(path, {"made_from": made_from, "finished": False})
        return None
    manifest = read_manifest(path)
    whole = manifest["finished"] and journal.is_whole(manifest["parts"])
    if whole and corpus.source is not None:
        # What is installed may change afterwards; a finished annotation of what was there is still good.
        made_from["inputs"] = manifest["made_from"].get("inputs", {})
        _warn_of_drift(out, made_from["inputs"], corpus)
    else:
        made_from["inputs"] = corpora.inventory(corpus)
    check_unchanged(out, _comparable(manifest["made_from"]), _comparable(made_from))
    _log_fingerprint(out, made_from)
    if whole:
        return _summary(out, manifest, was_finished=True)
    sweep(out)
    if manifest["finished"]:
        _log.warning("%s: parts are missing or damaged; they are scored again", out)
        checksums.forget(out)  # until they are written again, by many processes
        write_json(path, {"made_from": made_from, "finished": False})
    return None


def _log_fingerprint(out: Path, made_from: dict[str, Any]) -> None:
    if fingerprint := made_from["inputs"].get("fingerprint"):
        _log.info("%s: fingerprint of the corpus: %s", out, fingerprint)


def _warn_of_drift(out: Path, recorded: dict[str, Any], corpus: config.Corpus) -> None:
    """Warn of what of an annotated source has changed since, as far as it can still be read."""
    try:
        now = corpora.inventory(corpus)
    except InputError as error:
        _log.warning("%s: holds an annotation of what was installed then, which is used; by now: %s", out, error)
        return
    if now.get("fingerprint") == recorded.get("fingerprint"):
        return
    old, new = recorded.get("versions", {}), now.get("versions", {})
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    changed = [f"{name} {old.get(name, 'absent')} -> {new.get(name, 'absent')}" for name in names]
    changed = [*changed[:_SHOWN], f"{len(changed) - _SHOWN} more"] if len(changed) > _SHOWN else changed
    message = (
        "%s: holds an annotation of what was installed then (%s), which is used; an annotation from now on would be of %s: %s"
    )
    _log.warning(
        message, out, recorded.get("fingerprint"), now.get("fingerprint"), ", ".join(changed) or "files changed, versions did not"
    )


def _comparable(made_from: dict[str, Any]) -> dict[str, Any]:
    """Return what must stay the same when an annotation is resumed: all but the budget of a remote scorer and the like."""
    scoring = made_from.get("annotate", {})
    also = {name: _without_operational(scorer) for name, scorer in scoring.get("also", {}).items()}
    if segmenter := recorded_segmenter(scoring.get("segmenter")):
        scoring = {**scoring, "segmenter": config.plain(segmenter)}
    return {**made_from, "annotate": {**scoring, "scorer": _without_operational(scoring.get("scorer")), "also": also}}


def _without_operational(component: Any) -> Any:
    if not isinstance(component, dict):
        return component
    scorer = config.build("scorers", config.Component.model_validate(component))
    dropped = scorer.operational_fields if isinstance(scorer, RemoteScorer) else ()
    return {name: value for name, value in component.items() if name not in dropped}


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of an annotated corpus, finished or not.

    Raises:
        InputError: if it is no such manifest.
    """
    manifest = read_json(path)
    needed = {"made_from", "finished"}
    if isinstance(manifest, dict) and manifest.get("finished"):
        needed |= {field.name for field in dataclasses.fields(Summary)} - {"folder", "was_finished"}
    if not isinstance(manifest, dict) or not needed <= manifest.keys() or not isinstance(manifest["made_from"], dict):
        raise InputError(f"{path}: not the manifest of an annotated corpus; delete {path.parent} and annotate again")
    return manifest


def _summary(out: Path, fields: dict[str, Any], was_finished: bool) -> Summary:
    own = {field.name: fields[field.name] for field in dataclasses.fields(Summary) if field.name in fields}
    return Summary(folder=out, was_finished=was_finished, **own)


__all__ = ["JOURNAL", "QUARANTINE", "Summary", "annotate", "read_manifest"]
