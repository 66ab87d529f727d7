"""Samples and their scores: how texts that a model wrote are scored, and the file that keeps them."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from phf.artifacts import write_table
from phf.lm import Completion
from phf.scorers import FindingScorer, Scorer
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
        head + text if text.finished or score_cut else "".join(segmenter.segment(head + text)[:-1])
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
