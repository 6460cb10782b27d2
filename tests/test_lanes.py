"""One at a time per key, against a model."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from msgbus.lanes import Lanes

KEYS = st.sampled_from("abc")


class Model(RuleBasedStateMachine):
    """Each lane is a list: the first is in hand, the others wait."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes: Lanes[int] = Lanes()
        self.model: dict[str, list[int]] = defaultdict(list)
        self.count = 0

    @rule(key=KEYS)
    def enter(self, key: str) -> None:
        self.count += 1
        assert self.lanes.enter(key, self.count) == (not self.model[key])
        self.model[key].append(self.count)

    @rule(key=KEYS)
    def leave(self, key: str) -> None:
        if not self.model[key]:
            return
        self.model[key].pop(0)
        following = self.lanes.leave(key)
        assert following == (self.model[key][0] if self.model[key] else None)

    @rule(key=KEYS)
    def leave_a_free_lane(self, key: str) -> None:
        if not self.model[key]:
            assert self.lanes.leave(key) is None

    @rule(key=KEYS)
    def clear(self, key: str) -> None:
        assert self.lanes.clear(key) == self.model.pop(key, [])[1:]

    @rule()
    def clear_all(self) -> None:
        assert sorted(self.lanes.clear_all()) == sorted(x for lane in self.model.values() for x in lane[1:])
        self.model.clear()

    @invariant()
    def a_free_lane_costs_nothing(self) -> None:
        assert set(self.lanes._busy) == {key for key, lane in self.model.items() if lane}


TestLanes = Model.TestCase
TestLanes.settings = settings(max_examples=60, deadline=None)
