"""The long ones lie where workers begin; nothing is lost, and the rest keeps its order."""

import itertools

import pytest
from tests.dealing import dealt


def _is_long(item: int) -> bool:
    return item < 0


def _as_handed_out(order: list[int], workers: int) -> list[list[int]]:
    """As xdist's worksteal does it."""
    parts = []
    for left in range(workers, 0, -1):
        count = len(order) // left
        parts.append(order[:count])
        order = order[count:]
    return parts


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 5, 8])
def test_half_of_the_workers_begin_with_the_long_ones(workers: int) -> None:
    items = [*range(50), -1, -2, *range(50, 90), -3, -4, -5]
    order = dealt(items, workers, _is_long)
    assert sorted(order) == sorted(items)
    assert [item for item in order if item >= 0] == list(range(90))
    heads = [itertools.takewhile(_is_long, part) for part in _as_handed_out(order, workers)[: max(1, workers // 2)]]
    assert sorted(itertools.chain(*heads)) == [-5, -4, -3, -2, -1]


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_where_there_is_nothing_else_all_workers_have_some(workers: int) -> None:
    order = dealt([-1, -2, -3, -4, -5], workers, _is_long)
    assert sorted(order) == [-5, -4, -3, -2, -1]


def test_nothing_is_long() -> None:
    assert dealt([3, 1, 2], 4, _is_long) == [3, 1, 2]


def test_nothing_at_all() -> None:
    assert dealt([], 4, _is_long) == []
