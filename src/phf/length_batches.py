"""Batches of items of similar lengths, so that little of a batch is padding."""

from collections.abc import Iterator, Sequence


def by_length(lengths: Sequence[int], rows: int | None = None, padded: int | None = None) -> Iterator[list[int]]:
    """Yield the place of every item once, in batches of similar lengths, the longest first.

    The longest comes first so that memory that does not suffice shows at once; items of equal length keep their order.

    Args:
        lengths: of the items.
        rows: items in a batch, at most; no limit by default.
        padded: length of a batch with its padding, at most, unless one item alone is longer; no limit by default.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        full = rows is not None and len(batch) >= rows
        if batch and (full or (padded is not None and (len(batch) + 1) * lengths[batch[0]] > padded)):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
