"""From single settlements to a committed prefix."""

from hypothesis import given
from hypothesis import strategies as st
from tests.kinesis.strategies import UNHURRIED

from msgbus.brokers.watermark import Watermark


class Mark:
    def __init__(self, position: tuple[str, int]) -> None:
        self.position = position
        self.done = False


@UNHURRIED
@given(st.lists(st.booleans(), max_size=30), st.randoms(use_true_random=False))
def test_the_prefix_is_what_has_nothing_open_before_it(skips: list[bool], random: object) -> None:
    water: Watermark[Mark] = Watermark()
    marks = [Mark((str(place), 0)) for place in range(len(skips))]
    for mark, skip in zip(marks, skips, strict=True):
        mark.done = skip
        water.add(mark)
    order = [mark for mark in marks if not mark.done]
    random.shuffle(order)  # type: ignore[attr-defined]
    steps: list[Mark | None] = [None, *order]
    for step in steps:
        before = water.committed
        grew = step is not None and water.done(step)
        first_open = next((place for place, each in enumerate(marks) if not each.done), len(marks))
        assert water.committed == (marks[first_open - 1].position if first_open else None)
        assert len(water) == len(marks) - first_open
        assert list(water.open()) == [each for each in marks if not each.done]
        assert step is None or grew == (water.committed != before)


def test_done_twice_moves_nothing() -> None:
    water: Watermark[Mark] = Watermark()
    first, second = Mark(("1", 0)), Mark(("2", 0))
    water.add(first)
    water.add(second)
    assert water.done(first)
    assert not water.done(first)
    assert water.committed == ("1", 0)
