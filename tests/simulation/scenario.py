"""What happens in a run, as plain data that a seed draws: a smaller one can be made by leaving things out."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from tests.simulation.profiles import PROFILES

from msgbus.testing.plans import Fault

Target = Literal["topic", "queue", "call"]
Kind = Literal["stop", "crash", "vanish"]

_CHANCES: dict[Fault, float] = {
    Fault.REFUSE_CONNECT: 0.3,
    Fault.CUT_BEFORE_SEND: 0.05,
    Fault.CUT_AFTER_SEND: 0.05,
    Fault.THROTTLE_ENTRY: 0.05,
    Fault.FAIL_ENTRY: 0.05,
    Fault.CUT_RECEIVE: 0.03,
    Fault.CLOSE_RECEIVER: 0.03,
    Fault.THROTTLE_RECEIVE: 0.05,
    Fault.DUPLICATE: 0.05,
    Fault.REORDER: 0.5,
    Fault.CUT_AFTER_SETTLE: 0.04,
    Fault.FAIL_SETTLEMENT: 0.1,
    Fault.LOSE_LEASE: 0.04,
    Fault.DELAY: 0.3,
}


@dataclass(frozen=True, slots=True)
class Item:
    """One message: published `at` seconds, by the publisher of its key, one after the other.

    Its handler takes `slow` seconds and raises in its first `fails` attempts: an error of its own, or, where it is
    `down`, that what it needs is not there, which is tried again for ever.
    """

    n: int
    at: float
    key: str
    target: Target
    fails: int = 0
    slow: float = 0.0
    down: bool = False


@dataclass(frozen=True, slots=True)
class Incident:
    """What befalls a process `at` seconds and `steps` callbacks later; after `down` seconds there is another one.

    "stop": softly, as on SIGTERM. "crash": nothing of it runs any more, and the broker notices at once. "vanish": the
    broker notices when leases end, or, where it has none, by the silence.
    """

    kind: Kind
    process: int
    at: float
    steps: int
    down: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """All that a run depends on.

    `burst`: so many messages of a key are published in one call. `batch`: the second group takes so many at a time, 0:
    one by one; `bisect`: its batches fail as a whole. `in_place`: retries at once.
    """

    seed: int
    profile: str
    ordered: bool
    processes: int
    concurrency: int
    prefetch: int
    attempts: int
    first_delay: float
    in_place: int
    burst: int
    batch: int
    bisect: bool
    grace: float
    shuffle: float
    latency: float
    items: tuple[Item, ...]
    incidents: tuple[Incident, ...]
    faults: tuple[tuple[Fault, float], ...]


def scenario_of(seed: int) -> Scenario:
    """What the seed draws."""
    draw = random.Random(seed)
    profile = draw.choice(sorted(PROFILES))
    processes, attempts = draw.randint(1, 3), draw.randint(1, 4)
    return Scenario(
        seed=seed,
        profile=profile,
        ordered=PROFILES[profile].capabilities.order != "none" and draw.random() < 0.6,
        processes=processes,
        concurrency=draw.randint(1, 6),
        prefetch=draw.choice((1, 2, 8, 30)),
        attempts=attempts,
        first_delay=draw.choice((0.01, 0.5, 5.0, 90.0)),
        in_place=draw.choice((0, 0, attempts - 1)),
        burst=draw.choice((1, 1, 4)),
        batch=draw.choice((0, 0, 1, 4)),
        bisect=draw.random() < 0.5,
        grace=draw.choice((0.0, 0.5, 10.0)),
        shuffle=draw.choice((0.0, 0.3, 1.0)),
        latency=draw.choice((0.0, 0.001, 0.05)),
        items=tuple(_items(draw, profile, attempts)),
        incidents=tuple(_incidents(draw, processes)),
        faults=tuple(_faults(draw)),
    )


def _items(draw: random.Random, profile: str, attempts: int) -> list[Item]:
    can = PROFILES[profile].capabilities
    targets: list[Target] = ["topic", "topic"]
    targets += ["queue"] if can.queues else []
    targets += ["call"] if can.reply else []
    keys, span = draw.randint(1, 5), draw.choice((0.0, 1.0, 20.0))
    failing, long, down = draw.choice((0.0, 0.1, 0.4)), draw.choice((0.0, 0.05, 1.0, 40.0)), draw.choice((0.0, 0.3))
    return [
        Item(
            n,
            round(draw.random() * span, 3),
            f"k{draw.randrange(keys)}",
            draw.choice(targets),
            draw.randint(1, attempts) if draw.random() < failing else 0,
            round(draw.random() * long, 3) if draw.random() < 0.3 else 0.0,
            draw.random() < down,
        )
        for n in range(draw.randint(3, 30))
    ]


def _incidents(draw: random.Random, processes: int) -> list[Incident]:
    kinds: list[Kind] = ["stop", "crash", "vanish"]
    return [
        Incident(
            draw.choice(kinds),
            draw.randrange(processes),
            round(draw.random() * draw.choice((0.1, 2.0, 30.0)), 3),
            draw.randrange(60),
            draw.choice((0.0, 1.0, 40.0)),
        )
        for _ in range(draw.choice((0, 0, 1, 2, 4)))
    ]


def _faults(draw: random.Random) -> list[tuple[Fault, float]]:
    """None in a quarter of the runs, so that what needs no fault to go wrong has none to hide behind."""
    count = draw.choice((0, 1, 3, len(_CHANCES)))
    return [(fault, _CHANCES[fault]) for fault in draw.sample(list(_CHANCES), count)]
