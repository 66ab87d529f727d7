"""A segmenter: clauses, cut before the blank that follows a comma or a full stop."""

import re
from dataclasses import dataclass

_CUT = re.compile(r"(?<=[,.])(?= )")


@dataclass(frozen=True)
class Clauses:
    """Clauses; white space goes in front of the next one."""

    def segment(self, text: str) -> list[str]:
        """Cut a text into non-empty pieces that join to it; an empty text has none."""
        return [piece for piece in _CUT.split(text) if piece]
