"""Batches into parts that keep to the limits of a call, on either side of the seam."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def split(sizes: Iterable[int], limit: int, limit_bytes: int | None) -> Iterator[tuple[slice, int]]:
    """Parts of at most `limit` entries and `limit_bytes` bytes, as slices of the batch, with the bytes of each part.

    `sizes`: the bytes of each entry. One that is larger than `limit_bytes` by itself is a part of its own: the broker
    says what is wrong with it.
    """
    start = place = size = 0
    for each in sizes:
        if place > start and (place - start == limit or (limit_bytes is not None and size + each > limit_bytes)):
            yield slice(start, place), size
            start, size = place, 0
        size += each
        place += 1
    if place > start:
        yield slice(start, place), size
