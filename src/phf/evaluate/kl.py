"""Forward KL divergence from a reference model: how much less probable a model finds the reference's texts than it does."""

import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from phf import artifacts, checksums, config, lm, statistics
from phf.errors import InputError
from phf.evaluate.protocol import EvalContext, Workload, placements_of, with_control_placement
from phf.lm import LanguageModel, Sampling
from phf.per_example import Parts
from phf.records import Record

log = logging.getLogger("phf")

_SCHEMA = pa.schema([("text", pa.string()), ("ended", pa.bool_()), ("nats", pa.float64()), ("tokens", pa.int64())])
_BROKEN = "\ufffd"  # what bytes that are not a character decode to


@dataclass(frozen=True)
class ForwardKL:
    """KL(reference || model) over texts that the reference writes: nats a text, a token of the reference and a byte.

    Args:
        reference: `hf:NAME`, a run's or checkpoint's folder, or `openai:URL#MODEL` of a server that gives log-probabilities of
            prompts.
        n: texts; those with bytes that are not characters are left out, and counted in a warning.
        max_tokens: at which a text is cut, in tokens of the reference.
        batch: texts in one forward pass of the reference, or requests at a time.
        placement: of no effect since phf 0.2: both are measured, see `measure`.
        control: control token that the reference writes under, if it has any; its first by default.
    """

    reference: str
    n: config.Count = 4096
    max_tokens: config.Count = 64
    batch: config.Count = 64
    placement: Literal["auto", "start", "every"] = "auto"
    control: str | None = None

    def reads(self) -> dict[str, Any]:
        """Return inputs besides the config that affect the result: the reference's weights."""
        return {"reference": lm.fingerprint(self.reference)}

    def workload(self) -> Workload:
        """Return what it amounts to: n texts read, which the reference wrote and read once for all runs."""
        return Workload(read=self.n, read_tokens=self.max_tokens, asked_once={self.reference: 2 * self.n})

    def measure(self, model: LanguageModel, setting: EvalContext) -> Iterator[Record]:
        """Measure `kl`, `kl_per_token` and `kl_per_byte`; n = texts.

        A conditional model reads its control token in front of every segment, and again, in metrics that end in `_start`, once.

        The reference's texts and what it says of them are made once and shared by all runs of a recipe.

        Raises:
            InputError: if there is no such reference, or either model gives no log-probabilities.
        """
        folder = self._of_reference(setting)
        texts, ended, reference, tokens = _read(folder / "texts.parquet")
        setting.report(0, len(texts), "texts")
        ids = [f"{folder.name} {number}" for number in range(len(texts))]
        lengths, ones = np.array([len(text.encode()) for text in texts]), np.ones(len(texts))
        kinds: dict[str, Parts] = {}
        for suffix, placement in placements_of(model).items():
            likelihoods = with_control_placement(model, placement).likelihoods(
                texts, ended=ended, on_progress=lambda done: setting.report(done, len(texts), "texts")
            )
            nats = reference - np.array([likelihood.nats for likelihood in likelihoods])
            yield from setting.records(f"kl{suffix}", statistics.mean(nats, setting.seed))
            yield from setting.records(f"kl_per_token{suffix}", statistics.ratio(nats, tokens))
            yield from setting.records(f"kl_per_byte{suffix}", statistics.ratio(nats, lengths))
            kinds |= {
                f"kl{suffix}": (nats, ones),
                f"kl_per_token{suffix}": (nats, tokens),
                f"kl_per_byte{suffix}": (nats, lengths),
            }
        setting.write_per_example(ids, kinds)

    def _of_reference(self, setting: EvalContext) -> Path:
        """Return the folder with the reference's texts and their probabilities, made once."""
        made_from = {"seed": setting.seed, **dataclasses.asdict(self), "weights": self.reads()["reference"]}
        del made_from["placement"], made_from["batch"]
        folder = setting.shared_folder / "references" / artifacts.fingerprint(made_from)
        with artifacts.alone(folder.with_suffix(".lock")):  # of runs measured side by side, one makes them
            if not folder.exists():
                setting.report(0, self.n, f"texts of {self.reference}")
                table = self._sample(setting)
                with artifacts.whole_directory(folder) as temporary:
                    pq.write_table(table, temporary / "texts.parquet", compression="zstd")
                    artifacts.write_json(temporary / "made_from.json", made_from)
        return folder

    def _sample(self, setting: EvalContext) -> pa.Table:
        model = lm.load(self.reference, self.control)
        # At temperature 1, from all tokens, with the end allowed from the first: the distribution whose log p_ref is taken.
        # Sampled from any other, the mean of log p_ref - log p would be the divergence from neither.
        sampling = Sampling(1.0, 1.0, 0, self.max_tokens, setting.seed, self.batch)
        unit = f"texts of {self.reference}"
        samples = model.generate([""] * self.n, sampling, lambda done: setting.report(done, self.n, unit))
        if any(sample.finished is None for sample in samples):
            raise InputError(
                f"{self.reference}: does not report whether a text ended or reached max_tokens (finish_reason), which the "
                "probability of a whole text needs; take another reference"
            )
        ended = [bool(sample.finished) for sample in samples]
        # A character cut in two by the limit is not the reference's text.
        texts = [str(text) if whole else text.rstrip(_BROKEN) for text, whole in zip(samples, ended, strict=True)]
        whole_texts = [row for row, text in enumerate(texts) if _BROKEN not in text]
        if len(whole_texts) < self.n:
            log.warning("%s: %d of %d texts hold bytes that are not characters, and are left out",
                        self.reference, self.n - len(whole_texts), self.n)  # fmt: skip
        texts, ended = [texts[row] for row in whole_texts], [ended[row] for row in whole_texts]
        if not any(texts):
            raise InputError(f"{self.reference}: {self.n} samples of it hold no text; it cannot be a reference")
        likelihoods = model.likelihoods(texts, ended=ended)
        nats, tokens = [one.nats for one in likelihoods], [one.tokens for one in likelihoods]
        return pa.table([texts, ended, nats, tokens], schema=_SCHEMA)


def _read(path: Path) -> tuple[list[str], list[bool], np.ndarray, np.ndarray]:
    """Return the reference's texts, whether each ended by itself, its nats of each (N,), and its tokens (N,)."""
    checksums.check_folder(path.parent)
    checksums.verify(path)
    try:
        table = pq.read_table(path, schema=_SCHEMA)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not what `phf evaluate` keeps of a reference ({error}); delete {path.parent}") from None
    nats, tokens = (table.column(name).to_numpy() for name in ("nats", "tokens"))
    return table.column("text").to_pylist(), table.column("ended").to_pylist(), nats, tokens
