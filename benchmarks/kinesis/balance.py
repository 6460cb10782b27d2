"""How many lease periods until four shards are shared evenly, over many runs: python -m benchmarks.kinesis.balance.

On a clock that is turned by hand, so the load of this machine plays no part.
"""

from __future__ import annotations

import asyncio
import logging
import random
import statistics

from tests.kinesis.groups import LEASE, Workers

RUNS = 200


async def measure(before: int, joining: int, dying: int, seed: int) -> float:
    """So many workers that are balanced, then so many more or less."""
    random.seed(seed)
    workers = Workers()
    await workers.begin()
    if before:
        workers.start(before)
        await workers.until_balanced()
        await workers.clock.advance(random.random() * LEASE)
    workers.start(joining)
    for _ in range(dying):
        workers.kill()
    periods = await workers.until_balanced()
    await workers.close()
    return periods


def main() -> None:
    """One line a case."""
    logging.disable()
    cases = {
        "1 starts": (0, 1, 0),
        "2 start together": (0, 2, 0),
        "4 start together": (0, 4, 0),
        "1 joins 1": (1, 1, 0),
        "3 join 1": (1, 3, 0),
        "1 of 2 is killed": (2, 0, 1),
        "2 of 4 are killed": (4, 0, 2),
    }
    print(f"4 shards, lease periods until balanced, {RUNS} runs: median, most")
    for name, case in cases.items():
        periods = [asyncio.run(measure(*case, seed)) for seed in range(RUNS)]
        print(f"{name:20} {statistics.median(periods):5.2f} {max(periods):5.2f}")


if __name__ == "__main__":
    main()
