"""The order of the tests: the longest first, so that no worker of `pytest -n` is left alone with them at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def dealt(items: Sequence[T], workers: int, is_long: Callable[[T], bool]) -> list[T]:
    """`items` with the long ones at the heads of what workers begin with; otherwise in the order that they have.

    `--dist worksteal` gives each worker an equal part of the list, and those who are done take from the ends of the
    others' parts. Half of the workers get the long ones, so that no more of them compete for the machine than that;
    all workers do where there is little else.
    """
    long = [item for item in items if is_long(item)]
    rest = [item for item in items if not is_long(item)]
    hands = max(1, workers // 2) if len(rest) > len(long) else workers
    parts: list[T] = []
    for place, size in enumerate(_parts(len(items), workers)):
        mine = long[place::hands] if place < hands else []
        fill = max(0, size - len(mine))
        parts += mine + rest[:fill]
        rest = rest[fill:]
    return parts + rest


def _parts(count: int, workers: int) -> list[int]:
    """How many tests each worker gets first."""
    sizes = []
    for place in range(workers):
        sizes.append(count // (workers - place))
        count -= sizes[-1]
    return sizes
