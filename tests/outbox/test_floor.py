"""A floor hides nothing that can still appear."""

import random

import pytest

from msgbus.outbox.floor import Floor


def test_it_rises_when_all_that_ran_has_ended() -> None:
    floor = Floor()
    floor.read(9, 3, 7, whole=True)  # transaction 3 runs, and may have drawn 5
    assert floor.value == 0
    floor.read(0, 6, 8, whole=True)  # 6 has not ended
    assert floor.value == 0
    floor.read(0, 7, 8, whole=True)
    assert floor.value == 9


def test_a_page_that_is_cut_lets_it_rise_to_its_end() -> None:
    floor = Floor()
    floor.read(9, 3, 7, whole=True)
    floor.read(5, 7, 8, whole=False)  # what was left behind came, and fills a page
    assert floor.value == 5


@pytest.mark.parametrize("seed", range(50))
def test_nothing_is_lost_in_any_order_of_commits(seed: int) -> None:
    draw = random.Random(seed)
    floor, visible, running, found = Floor(), set[int](), dict[int, int](), set[int]()
    next_xid = place = 1
    total = 200
    while len(found) < total:
        if place <= total and draw.random() < 0.5:
            running[next_xid] = place
            next_xid, place = next_xid + 1, place + 1
        if running and draw.random() < (0.4 if place <= total else 1.0):
            visible.add(running.pop(draw.choice(list(running))))
        if draw.random() < 0.3:
            limit = draw.choice([2, 100])
            page = sorted(seq for seq in visible if seq > floor.value)[:limit]
            visible -= set(page)
            found |= set(page)
            if len(page) < limit or page:
                oldest = min(running, default=next_xid)
                floor.read(max(page, default=0), oldest, next_xid, whole=len(page) < limit)
    assert found == set(range(1, total + 1))
