"""Samples and their scores: how texts that a model wrote are scored, and the file that keeps them."""

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from phf import checksums, statistics
from phf.artifacts import write_table
from phf.errors import InputError
from phf.evaluate.protocol import EvalContext
from phf.lm import Completion
from phf.records import Record
from phf.scorers import FindingScorer, PrefixScorer, Scorer
from phf.segmenters import Segmenter

log = logging.getLogger("phf")

SCHEMA = pa.schema(
    [
        ("prompt", pa.string()),
        ("text", pa.string()),
        ("finished", pa.bool_()),
        ("scored", pa.string()),
        ("misalignment", pa.float32()),
        ("misalignment_with_cut", pa.float32()),
        ("findings", pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32()), ("kind", pa.string())]))),
    ]
)
_SCORED_AT_ONCE = 64


def score_samples(
    heads: Sequence[str],
    texts: Sequence[Completion],
    scorer: Scorer,
    segmenter: Segmenter,
    score_cut: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score samples: on their whole segments, and with the segment that the length limit cut off.

    Args:
        heads: what is scored in front of each text: its prompt, or nothing.
        texts: (N,) the continuations; the last segment of one that may not have ended by itself is not whole.
        scorer: gives rewards.
        segmenter: cuts an unfinished sample into segments.
        score_cut: take the last segment for whole in every sample.
        on_progress: called with how many of how many texts are scored.

    Returns:
        The columns `scored`, `misalignment`, `misalignment_with_cut` and `findings` of `SCHEMA`, (N,) each. Misalignment is NaN
        where a sample has no whole segment, or where the scorer gave no finite number.
    """
    whole = [
        head + text if text.finished or score_cut else _whole_part(head + text, scorer, segmenter)
        for head, text in zip(heads, texts, strict=True)
    ]
    # A sample of which nothing is left beyond the prompt has nothing to score.
    scored = [piece if len(piece) > len(head) else None for piece, head in zip(whole, heads, strict=True)]
    with_cut = [head + text if text else None for head, text in zip(heads, texts, strict=True)]
    distinct = list(dict.fromkeys(piece for piece in [*scored, *with_cut] if piece is not None))
    rewards: dict[str | None, float] = {None: float("nan")}
    for first in range(0, len(distinct), _SCORED_AT_ONCE):
        batch = distinct[first : first + _SCORED_AT_ONCE]
        rewards.update(zip(batch, _finite(scorer.score(batch)).tolist(), strict=True))
        if on_progress is not None:
            on_progress(first + len(batch), len(distinct))
    misalignment = -np.array([rewards[piece] for piece in scored], np.float32)
    return {
        "scored": scored,
        "misalignment": misalignment + np.float32(0),  # -0 is 0
        "misalignment_with_cut": -np.array([rewards[piece] for piece in with_cut], np.float32) + np.float32(0),
        "findings": _findings(scorer, scored, misalignment, [len(head) for head in heads]),
    }


def _whole_part(text: str, scorer: Scorer, segmenter: Segmenter) -> str:
    """Return a cut text without its last segment, and without what else the scorer cannot judge before it is whole."""
    kept = "".join(segmenter.segment(text)[:-1])
    return scorer.whole_part(kept) if isinstance(scorer, PrefixScorer) else kept


def _finite(rewards: np.ndarray) -> np.ndarray:
    """Return the rewards with NaN, "could not be scored", for infinite ones, of which no mean could be taken; warn of them."""
    infinite = np.isinf(rewards)
    if infinite.any():
        log.warning("the scorer gave %d infinite rewards, which count as texts that could not be scored", infinite.sum())
    return np.where(infinite, np.nan, rewards)


def _findings(
    scorer: Scorer, scored: Sequence[str | None], misalignment: np.ndarray, skipped: Sequence[int]
) -> list[list[dict[str, Any]]]:
    """Return what was found in each sample, in characters of its text: those of the prompt are not counted."""
    findings: list[list[dict[str, Any]]] = [[] for _ in scored]
    if not isinstance(scorer, FindingScorer):
        return findings
    for row, (piece, score, skip) in enumerate(zip(scored, misalignment, skipped, strict=True)):
        if piece is None or score == 0:
            continue
        for finding in scorer.findings(piece):
            if finding.end > skip:
                start, end = max(0, finding.start - skip), finding.end - skip
                findings[row].append({"start": start, "end": end, "kind": finding.kind})
    return findings


def write_samples(path: Path, columns: dict[str, Any]) -> None:
    """Write the samples as Parquet, a missing score as null."""
    arrays = [pa.array(columns[field.name], field.type, from_pandas=pa.types.is_floating(field.type)) for field in SCHEMA]
    write_table(path, pa.Table.from_arrays(arrays, schema=SCHEMA))


def read_samples(setting: EvalContext, evaluation: str) -> tuple[list[str], list[Completion]]:
    """Read prompts and texts of the samples that another evaluation kept.

    Raises:
        InputError: if it has kept none.
    """
    path = setting.samples_of(evaluation)
    if not path.exists():
        raise InputError(f"{setting.name}.of: {evaluation!r} has no samples ({path} is missing); run that evaluation first")
    checksums.verify(path)
    columns = pq.read_table(path, columns=["prompt", "text", "finished"]).to_pydict()
    texts = [Completion(text, finished) for text, finished in zip(columns["text"], columns["finished"], strict=True)]
    return columns["prompt"], texts


def records_of_scores(
    setting: EvalContext, prompts: Sequence[str], misalignment: np.ndarray, hit: float, suffix: str = ""
) -> Iterator[Record]:
    """Yield mean misalignment, the share of hits and the share without a score.

    Args:
        setting: of the evaluation.
        prompts: (N,) of the samples.
        misalignment: (N,) of the samples, NaN without a score.
        hit: the reward below which a sample is a hit.
        suffix: of the metrics.
    """
    scored = ~np.isnan(misalignment)
    known, prompts = misalignment[scored], list(itertools.compress(prompts, scored))
    yield from setting.records(f"misalignment{suffix}", statistics.mean_over_prompts(known, prompts, setting.seed))
    yield from setting.records(f"hit_share{suffix}", statistics.share_over_prompts(-known < hit, prompts))
    unscored = statistics.share(len(misalignment) - len(known), len(misalignment))
    yield from setting.records(f"unscored_share{suffix}", unscored, interval=False)
