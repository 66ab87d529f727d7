"""What a model writes, and how much of it is undesirable: samples with or without a prompt, each kept with its score."""

import itertools
import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from phf import artifacts, config, statistics
from phf.artifacts import whole_file
from phf.documents import Document
from phf.errors import InputError
from phf.evaluate.protocol import EvalContext
from phf.lm import LanguageModel, Sampling
from phf.records import Record
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


@dataclass(frozen=True)
class Samples:
    """Mean misalignment of n samples, expected maximum of k, and share with anything undesirable.

    Args:
        n: samples, prompts or not: each prompt is used as often as the others, or once more.
        prompts: none; "held-out" for the first words of held-out documents that are aligned so far; a file with one prompt a
            line, or JSON Lines with the prompt under "text"; or the prompts themselves.
        words: of a held-out document that make a prompt.
        temperature: logits are divided by it.
        top_p: probability of the tokens sampled from.
        min_tokens: before which a sample does not end.
        max_tokens: at which a sample is cut off.
        batch: samples in one forward pass.
        ban: control tokens that cannot be sampled: "all", "others" or "auto"; see `phf.lm.Sampling`.
        expected_max: samples in the groups whose largest misalignment is averaged.
        threshold: a sample is a hit if its reward is below this.
        score_prompt: score prompt and continuation together.
        scorer: another scorer than the one that scored the training corpus.
    """

    n: config.Count = 4096
    prompts: str | list[str] | None = None
    words: config.Count = 10
    temperature: Annotated[float, Field(gt=0)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    min_tokens: Annotated[int, Field(ge=0)] = 10
    max_tokens: config.Count = 128
    batch: config.Count = 64
    ban: Literal["all", "others", "auto"] = "auto"
    expected_max: config.Count = 25
    threshold: float = 0.0
    score_prompt: bool = False
    scorer: str | dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self._sampling(0)  # refuses what cannot be

    def reads(self) -> dict[str, Any]:
        """Name what the numbers hang on beside the configuration: the file of prompts."""
        path = Path(self.prompts) if isinstance(self.prompts, str) else None
        return {"prompts": artifacts.fingerprint(read_prompts(path))} if path and path.is_file() else {}

    def measure(self, model: LanguageModel, setting: EvalContext) -> Iterator[Record]:
        """Sample, score, keep the samples in `samples/`, and sum up; n = samples with a score.

        Raises:
            InputError: if there are no prompts, or the model cannot be sampled.
        """
        distinct = self._prompts(setting)
        prompts = list(itertools.islice(itertools.cycle(distinct), self.n))
        setting.report(0, self.n, "samples")
        texts = model.generate(prompts, self._sampling(setting.seed), lambda done: setting.report(done, self.n, "samples"))
        finished = [text.finished for text in texts]
        scorer = setting.scorer
        if self.scorer is not None:
            scorer = config.build("scorers", config.Component.model_validate(self.scorer))
        kept = score_samples(
            prompts if self.score_prompt else [""] * self.n,
            texts,
            finished,
            scorer,
            setting.segmenter,
            lambda done, total: setting.report(done, total, "texts scored"),
        )
        write_samples(setting.samples_of(setting.name), {"prompt": prompts, "text": list(texts), "finished": finished, **kept})
        yield from self._records(kept["misalignment"], kept["misalignment_with_cut"], finished, setting)

    def _records(
        self, misalignment: np.ndarray, with_cut: np.ndarray, finished: Sequence[bool | None], setting: EvalContext
    ) -> Iterator[Record]:
        known = misalignment[~np.isnan(misalignment)]
        unscored = self.n - len(known)
        if unscored:
            log.warning("%s: %d of %d samples have nothing that could be scored", setting.name, unscored, self.n)
        maximum = statistics.expected_maximum(known, self.expected_max, setting.seed)
        yield from setting.records("misalignment", statistics.mean(known, setting.seed))
        yield from setting.records("misalignment_with_cut", statistics.mean(with_cut, setting.seed))
        yield from setting.records(f"expected_max_{self.expected_max}", maximum)
        yield from setting.records("hit_share", statistics.share(int((-known < self.threshold).sum()), len(known)))
        reported = [ended for ended in finished if ended is not None]  # unknown stays unknown
        if reported:
            yield from setting.records("finished_share", statistics.share(sum(reported), len(reported)), interval=False)
        yield from setting.records("unscored_share", statistics.share(unscored, self.n), interval=False)

    def _sampling(self, seed: int) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.min_tokens, self.max_tokens, seed=seed, batch=self.batch, ban=self.ban)

    def _prompts(self, setting: EvalContext) -> list[str]:
        if self.prompts is None:
            return [""]
        if self.prompts == "held-out":
            return _first_words(setting.held_out, self.words, self.threshold, setting.name)
        prompts = self.prompts if isinstance(self.prompts, list) else read_prompts(Path(self.prompts))
        if not prompts:
            raise InputError(f"{setting.name}.prompts: an empty list; expected at least one prompt, or none of the key")
        return prompts


def read_prompts(path: Path) -> list[str]:
    """Read prompts from a file: JSON Lines with the prompt under "text", or plain text with one a line.

    Raises:
        InputError: for a file that is missing, is not UTF-8, or holds no prompt; or a line that is not such JSON, by its number.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file of prompts; expected 'held-out', a .jsonl or a .txt file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start}); expected a file of prompts") from None
    return prompts_in(text, str(path), path.suffix in (".jsonl", ".json"))


def prompts_in(text: str, where: str, json_lines: bool | None = None) -> list[str]:
    """Find the prompts in a file's text.

    Args:
        text: one prompt a line; empty lines are passed over.
        where: the file's name, for errors.
        json_lines: whether lines are JSON; if None, whether the first one begins as such.

    Raises:
        InputError: as `read_prompts`.
    """
    if json_lines is None:
        json_lines = text.lstrip().startswith('{"')
    prompts = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if not json_lines:
            prompts.append(line.removesuffix("\r"))
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{where}, line {number}: not JSON ({error.msg})") from None
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise InputError(f'{where}, line {number}: found {line[:40]!r}, expected {{"text": "the prompt"}}')
        prompts.append(row["text"])
    if not prompts:
        raise InputError(f"{where}: no prompt in it; expected one a line")
    return prompts


def _first_words(documents: Sequence[Document], words: int, threshold: float, name: str) -> list[str]:
    """Take the first words of each document that goes on after them and is aligned as far as they reach."""
    pattern = re.compile(rf"\s*(?:\S+\s+){{{words - 1}}}\S+(?=\s+\S)")
    prompts = []
    for document in documents:
        match = pattern.match(document.text)
        if match is None or document.rewards is None:
            continue
        ends = np.cumsum([len(segment) for segment in document.segments])
        reached = int(np.searchsorted(ends, match.end())) + 1
        if (np.asarray(document.rewards)[:reached] >= threshold).all():
            prompts.append(match[0])
    if not prompts:
        raise InputError(
            f"{name}.prompts: none of {len(documents)} held-out documents has more than {words} words and is aligned at its "
            "beginning; lower `words`, or raise tokenize.held_out"
        )
    return prompts


def score_samples(
    heads: Sequence[str],
    texts: Sequence[str],
    finished: Sequence[bool | None],
    scorer: Scorer,
    segmenter: Segmenter,
    report: Callable[[int, int], None],
) -> dict[str, Any]:
    """Score samples: on their whole segments, and with the piece that the length limit cut off.

    Args:
        heads: what is scored in front of each text: its prompt, or nothing.
        texts: the continuations.
        finished: (N,) whether each ended by itself; the last piece of one of which it is not known may be cut off too.
        scorer: gives rewards.
        segmenter: says which piece of an unfinished sample is not whole: its last.
        report: told how many of how many texts are scored.
    """
    whole = [
        head + text if done else "".join(segmenter.segment(head + text)[:-1])
        for head, text, done in zip(heads, texts, finished, strict=True)
    ]
    # A sample of which nothing is left beyond the prompt has nothing to score.
    scored = [piece if len(piece) > len(head) else None for piece, head in zip(whole, heads, strict=True)]
    with_cut = [head + text if text else None for head, text in zip(heads, texts, strict=True)]
    distinct = list(dict.fromkeys(piece for piece in [*scored, *with_cut] if piece is not None))
    rewards: dict[str | None, float] = {None: float("nan")}
    for first in range(0, len(distinct), _SCORED_AT_ONCE):
        batch = distinct[first : first + _SCORED_AT_ONCE]
        rewards.update(zip(batch, scorer.score(batch).tolist(), strict=True))
        report(first + len(batch), len(distinct))
    misalignment = -np.array([rewards[piece] for piece in scored], np.float32)
    return {
        "scored": scored,
        "misalignment": misalignment + np.float32(0),  # -0 is 0
        "misalignment_with_cut": -np.array([rewards[piece] for piece in with_cut], np.float32) + np.float32(0),
        "findings": _findings(scorer, scored, misalignment, [len(head) for head in heads]),
    }


def _findings(
    scorer: Scorer, scored: Sequence[str | None], misalignment: np.ndarray, skipped: Sequence[int]
) -> list[list[dict[str, Any]]]:
    """Mark what was found in each sample, in characters of its text: those of the prompt are not counted."""
    found: list[list[dict[str, Any]]] = [[] for _ in scored]
    if not isinstance(scorer, FindingScorer):
        return found
    for place, (piece, score, skip) in enumerate(zip(scored, misalignment, skipped, strict=True)):
        if piece is None or score == 0:
            continue
        for finding in scorer.findings(piece):
            if finding.end > skip:
                start, end = max(0, finding.start - skip), finding.end - skip
                found[place].append({"start": start, "end": end, "kind": finding.kind})
    return found


def write_samples(path: Path, columns: dict[str, Any]) -> None:
    """Write the samples as Parquet, a missing score as null."""
    arrays = [pa.array(columns[field.name], field.type, from_pandas=pa.types.is_floating(field.type)) for field in SCHEMA]
    with whole_file(path) as temporary:
        pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), temporary, compression="zstd")
