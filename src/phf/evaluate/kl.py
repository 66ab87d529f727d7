"""Forward KL divergence from a reference model: what of the reference's texts a model finds less probable than it does."""

import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from phf import artifacts, config, lm, statistics
from phf.errors import InputError
from phf.evaluate.protocol import EvalContext, with_control_placement
from phf.lm import LanguageModel, Sampling
from phf.records import Record

log = logging.getLogger("phf")

_SCHEMA = pa.schema([("text", pa.string()), ("ended", pa.bool_()), ("nats", pa.float64()), ("tokens", pa.int64())])
_BROKEN = "\ufffd"  # what bytes that are no character decode to


@dataclass(frozen=True)
class ForwardKL:
    """KL(reference || model) over texts that the reference writes: nats a text, a token of the reference and a byte.

    Args:
        reference: `hf:NAME`, a run's or checkpoint's folder, or `openai:URL#MODEL` of a server that gives log-probabilities of
            prompts.
        n: texts; those with bytes that are no characters are left out, and counted in a warning.
        max_tokens: at which a text is cut, in tokens of the reference.
        batch: texts in one forward pass of the reference, or requests at a time.
        placement: where a conditional model reads its control token: once, at the document's "start"; in front of "every"
            segment; or "auto", as it is sampled by default (every on lines, else start).
        control: control token that the reference writes under, if it has any; its first if not given.
    """

    reference: str
    n: config.Count = 4096
    max_tokens: config.Count = 64
    batch: config.Count = 64
    placement: Literal["auto", "start", "every"] = "auto"
    control: str | None = None

    def reads(self) -> dict[str, Any]:
        """Name what the numbers hang on beside the configuration."""
        return {"reference": lm.fingerprint(self.reference)}

    def measure(self, model: LanguageModel, setting: EvalContext) -> Iterator[Record]:
        """Measure `kl`, `kl_per_token` and `kl_per_byte`; n = texts.

        The reference's texts and what it says of them are made once and shared by all runs of a recipe.

        Raises:
            InputError: if there is no such reference, or either model gives no log-probabilities.
        """
        folder = self._of_reference(setting)
        texts, ended, reference, tokens = _read(folder / "texts.parquet")
        setting.report(0, len(texts), "texts")
        found = with_control_placement(model, self.placement).likelihoods(
            texts, ended=ended, on_progress=lambda done: setting.report(done, len(texts), "texts")
        )
        nats = reference - np.array([likelihood.nats for likelihood in found])
        lengths = np.array([len(text.encode()) for text in texts])
        yield from setting.records("kl", statistics.mean(nats, setting.seed))
        yield from setting.records("kl_per_token", statistics.ratio(nats, tokens))
        yield from setting.records("kl_per_byte", statistics.ratio(nats, lengths))
        ones = np.ones(len(texts))
        kinds = {"kl": (nats, ones), "kl_per_token": (nats, tokens), "kl_per_byte": (nats, lengths)}
        setting.write_per_example([f"{folder.name} {number}" for number in range(len(texts))], kinds)

    def _of_reference(self, setting: EvalContext) -> Path:
        """Give the folder with the reference's texts, and with what it says of them."""
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
        # A character cut through by the limit is no text of the reference.
        texts = [str(text) if whole else text.rstrip(_BROKEN) for text, whole in zip(samples, ended, strict=True)]
        kept = [place for place, text in enumerate(texts) if _BROKEN not in text]
        if len(kept) < self.n:
            log.warning("%s: %d of %d texts hold bytes that are no characters, and are left out",
                        self.reference, self.n - len(kept), self.n)  # fmt: skip
        texts, ended = [texts[place] for place in kept], [ended[place] for place in kept]
        if not any(texts):
            raise InputError(f"{self.reference}: {self.n} samples of it hold no text; it cannot be a reference")
        found = model.likelihoods(texts, ended=ended)
        return pa.table(
            [texts, ended, [likelihood.nats for likelihood in found], [likelihood.tokens for likelihood in found]], schema=_SCHEMA
        )


def _read(path: Path) -> tuple[list[str], list[bool], np.ndarray, np.ndarray]:
    """Give the reference's texts, whether each ended by itself, the reference's nats of them (N,), and its tokens (N,)."""
    try:
        table = pq.read_table(path, schema=_SCHEMA)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not what `phf evaluate` keeps of a reference ({error}); delete {path.parent}") from None
    nats, tokens = (table.column(name).to_numpy() for name in ("nats", "tokens"))
    return table.column("text").to_pylist(), table.column("ended").to_pylist(), nats, tokens
