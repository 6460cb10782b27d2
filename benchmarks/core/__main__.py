"""make bench-core: the figures of the core, as ratios in one run."""

from __future__ import annotations

import argparse
import asyncio

from pydantic import BaseModel

from benchmarks.core import idle, options, ours, peers
from benchmarks.core.harness import Case, machine, measure
from benchmarks.core.payloads import BIG, SMALL

MODES = {
    "many": "publish_many of 100",
    "tasks": "100 publishing tasks",
    "one_by_one": "one by one",
    "round_trip": "publish and wait until handled",
}
LIMITS = {  # what the core is held to: (mode, suspends) -> most times the floor, for 50 and for 400 bytes
    ("many", False): (3.5, 1.5),
    ("many", True): (3.5, 1.5),
    ("tasks", False): (5.0, 2.0),
    ("tasks", True): (5.0, 2.0),
}


async def against_floor(payload: BaseModel, column: int, rounds: int, count: int) -> dict[str, Case]:
    """Every mode of msgbus beside the floor, and the peers."""
    cases = {
        "floor": Case("floor", ours.floor(payload), count),
        "turn": Case("floor + one turn of the event loop", ours.floor(payload, turn=True), count),
    }
    for mode, name in MODES.items():
        for suspends in (False, True):
            size = count if mode in ("many", "tasks") else count // 2
            title = f"{name}{', suspending' if suspends else ''}"
            cases[f"{mode} {suspends}"] = Case(title, ours.case(mode, payload, suspending=suspends), size)
    cases["faststream"] = Case("FastStream, logger off", peers.faststream(payload), count // 10)
    cases["aio_pika"] = Case("  of it aio-pika's messages", peers.aio_pika(payload), count // 10)
    cases["taskiq"] = Case("taskiq InMemoryBroker", peers.taskiq(payload), count // 10)
    await measure(list(cases.values()), rounds)
    _print_table(payload, cases, column)
    return cases


def _print_table(payload: BaseModel, cases: dict[str, Case], column: int) -> None:
    floor, turn = cases["floor"].median, cases["turn"].median
    print(f"\n{type(payload).__name__}: {len(payload.model_dump_json())} bytes of JSON")
    print(f"{'':44}{'CPU us':>9}{'spread':>8}{'x floor':>9}{'x turn':>8}   goal")
    for key, case in cases.items():
        print(
            f"{case.name:44}{case.median:9.2f}{case.spread:8.0%}{case.median / floor:9.2f}{case.median / turn:8.2f}"
            f"   {_goal(key, case.median / floor, case.median / turn, column)}"
        )
    ours_us, theirs = cases["one_by_one False"].median, cases["faststream"].median
    less = theirs - cases["aio_pika"].median
    print(f"FastStream / msgbus, one by one: {theirs / ours_us:.1f}")
    print(f"  the same without aio-pika's share: {less / ours_us:.1f} (goal: 4)")
    print(f"taskiq / msgbus, one by one: {cases['taskiq'].median / ours_us:.1f} (goal: {4 if column == 0 else 3.5})")


def _goal(key: str, times_floor: float, times_turn: float, column: int) -> str:
    mode, _, suspends = key.partition(" ")
    if limit := LIMITS.get((mode, suspends == "True")):
        return f"{'met' if times_floor <= limit[column] else 'MISSED'}: {limit[column]} x floor"
    if (mode, suspends) == ("one_by_one", "True"):
        return f"{'met' if times_turn <= 5 else 'MISSED'}: 5 x (floor + one turn)"
    return ""


async def optional_parts(rounds: int, count: int) -> None:
    """What a deadline, lanes, a middleware and metrics add, paired with the plain subscription."""
    cases = options.cases(count)
    await measure(cases, rounds)
    plain = cases[0].median
    print(f"\nWhat an optional part adds to publish_many of 100 (plain: {plain:.2f} us)")
    for case in cases[1:]:
        print(f"{case.name:44}{case.median - plain:+9.2f} us{case.median / plain - 1:+8.0%}")


async def main(rounds: int, count: int, million: int) -> None:
    print(machine())
    print(f"medians of {rounds} interleaved rounds; spread: half the distance between the quartiles")
    await against_floor(SMALL, 0, rounds, count)
    await against_floor(BIG, 1, rounds, count)
    await optional_parts(rounds, count)
    print(f"\n100 idle subscriptions: {await idle.idle_share(100, 5.0):.2%} of a core (goal: under 1 %)")
    early, late = await idle.many_messages(million)
    print(f"{million:,} messages: peak RSS {early:.0f} MiB after a tenth, {late:.0f} MiB after all")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--count", type=int, default=5000, help="messages a round")
    parser.add_argument("--million", type=int, default=1_000_000, help="messages of the memory check")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.rounds, arguments.count, arguments.million))
