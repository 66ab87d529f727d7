"""Personal data by Presidio: its pattern recognizers, per character. No language model is needed, and no network."""

import functools
import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from phf.errors import InputError, require
from phf.plugins import suggestion
from phf.scorers import Finding

_ENTITIES = (
    *("CREDIT_CARD", "CRYPTO", "EMAIL_ADDRESS", "IBAN_CODE", "IP_ADDRESS", "MAC_ADDRESS"),
    *("PHONE_NUMBER", "URL", "US_ITIN", "US_SSN"),
)


@dataclass(frozen=True)
class Presidio:
    """-(findings of Presidio's pattern recognizers) / characters. Of findings that overlap, the surest and longest counts.

    A second opinion on samples that `pii` scored: other patterns and other checks (of check sums, top-level domains, phone
    numbers), no names and no addresses of streets.

    Args:
        entities: what is looked for, in Presidio's names.
        least_score: Presidio's confidence from which on a finding counts, before any word of context: 0.4 leaves out patterns
            that match most numbers.
    """

    entities: list[str] = field(default_factory=lambda: list(_ENTITIES))
    least_score: float = 0.4

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return the reward of each text: (N,) float32; 0 for an empty one.

        Raises:
            MissingExtra: without the library.
            InputError: for an entity that no pattern recognizer finds.
        """
        return np.array([0.0 - len(self.findings(text)) / max(len(text), 1) for text in texts], np.float32)

    def findings(self, text: str) -> list[Finding]:
        """Return what was found, by position."""
        found = []
        for recognizer in _recognizers(tuple(self.entities)):
            wanted = [entity for entity in recognizer.supported_entities if entity in self.entities]
            found += [one for one in recognizer.analyze(text, wanted, None) or () if one.score >= self.least_score]
        counted: list[Any] = []
        for one in sorted(found, key=lambda one: (-one.score, one.start - one.end, one.start, one.entity_type)):
            if all(one.end <= other.start or one.start >= other.end for other in counted):
                counted.append(one)
        return sorted((Finding(one.start, one.end, one.entity_type) for one in counted), key=lambda finding: finding.start)


@functools.cache
def _recognizers(entities: tuple[str, ...]) -> list[Any]:
    """Return the recognizers of some entities that work without a language model."""
    presidio: Any = require("presidio_analyzer", "second", "the scorer presidio")
    tldextract: Any = require("tldextract", "second", "the scorer presidio")
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    # The list of top-level domains that comes with it, rather than one from the network.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    module = presidio.predefined_recognizers
    kinds: list[Any] = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if _works_alone(presidio, module, kind)]
    recognizers = [kind() for kind in kinds]
    recognizers = [one for one in recognizers if one.supported_language == "en"]
    known = {entity for one in recognizers for entity in one.supported_entities}
    for entity in entities:
        if entity not in known:
            raise InputError(f"presidio.entities: no pattern recognizer finds {entity!r}{suggestion(entity, known)}")
    return [one for one in recognizers if set(one.supported_entities) & set(entities)]


def _works_alone(presidio: Any, module: Any, kind: type) -> bool:
    return issubclass(kind, presidio.PatternRecognizer) or kind is module.PhoneRecognizer
