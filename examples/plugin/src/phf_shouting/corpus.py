"""A corpus made on the spot: sums in words, some of them shouted."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
)


@dataclass(frozen=True)
class Sums:
    """Sums in words, four to a document.

    Args:
        documents: how many documents there are.
        shouted: share of the sums that are in capitals.
        seed: of the numbers, and of which sums are shouted.
    """

    documents: int = 200
    shouted: float = 0.3
    seed: int = 0

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield (id, text), always in the same order."""
        draw = random.Random(self.seed)
        for number in range(self.documents):
            yield f"sums-{number}", " ".join(self._sum(draw) for _ in range(4))

    def _sum(self, draw: random.Random) -> str:
        a, b = draw.randrange(10), draw.randrange(10)
        text = f"{WORDS[a]} and {WORDS[b]}, that is {WORDS[a + b]}."
        return text.upper() if draw.random() < self.shouted else text
