"""What the simulation found, as small as `--shrink` made it. Each has a test of its own beside the code, too."""

from __future__ import annotations

import pytest
from tests.simulation.scenario import Incident, Item, Scenario
from tests.simulation.world import simulate

from msgbus.testing.faults import Fault

FOUND = {
    "a lost lease left the rest of its batch in hand": Scenario(
        seed=3633,
        profile="embedded",
        ordered=False,
        processes=1,
        concurrency=5,
        prefetch=30,
        attempts=4,
        first_delay=0.01,
        in_place=0,
        burst=1,
        batch=4,
        bisect=False,
        grace=0.0,
        shuffle=1.0,
        latency=0.05,
        items=(
            Item(n=5, at=0.0, key="k0", target="call", slow=35.072),
            Item(n=7, at=0.0, key="k3", target="topic", slow=0.864),
            Item(n=16, at=0.0, key="k2", target="topic", slow=28.139),
        ),
        incidents=(Incident(kind="crash", process=0, at=0.702, steps=12, down=1.0),),
        faults=((Fault.LOSE_LEASE, 0.04), (Fault.THROTTLE_ENTRY, 0.05)),
    ),
    "what waited to be settled was settled after its lease was lost": Scenario(
        seed=76085,
        profile="sqs",
        ordered=False,
        processes=3,
        concurrency=4,
        prefetch=2,
        attempts=3,
        first_delay=90.0,
        in_place=0,
        burst=1,
        batch=0,
        bisect=False,
        grace=0.0,
        shuffle=0.0,
        latency=0.05,
        items=(
            Item(n=2, at=3.918, key="k1", target="topic"),
            Item(n=3, at=9.667, key="k0", target="topic"),
            Item(n=7, at=9.161, key="k1", target="call"),
            Item(n=9, at=5.668, key="k0", target="queue"),
            Item(n=10, at=9.621, key="k0", target="queue"),
            Item(n=11, at=7.216, key="k0", target="topic"),
            Item(n=13, at=3.013, key="k2", target="topic", slow=6.987),
            Item(n=17, at=4.986, key="k1", target="call"),
            Item(n=18, at=0.0, key="k0", target="topic"),
        ),
        incidents=(
            Incident(kind="stop", process=0, at=0.004, steps=30, down=40.0),
            Incident(kind="crash", process=1, at=0.53, steps=18, down=40.0),
        ),
        faults=((Fault.THROTTLE_RECEIVE, 0.05), (Fault.LOSE_LEASE, 0.04), (Fault.THROTTLE_ENTRY, 0.05)),
    ),
}


@pytest.mark.parametrize("scenario", FOUND.values(), ids=FOUND)
def test_it_stays_mended(scenario: Scenario) -> None:
    assert list(simulate(scenario).violations) == []
