"""Is the memory of a consumer flat while 100,000 messages wait? `python -m benchmarks.sqs.memory [--count N]`

A process of its own consumes from fauxqs; its resident memory is read from /proc after every tenth of the messages.
It fails where the last figure is more than `--growth` MiB above the first.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from pathlib import Path

from tests.servers import server

from benchmarks.core.harness import machine
from benchmarks.sqs.payload import REGION, Order, order
from msgbus import Bus, Limits, Queue

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
}
MIB = 1024 * 1024
STEPS = 10
backlog = Queue("backlog", Order)


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def fill(url: str, count: int) -> None:
    """Have `count` messages wait, before anybody reads."""
    bus = Bus(url)
    bus.consumer(backlog)(_never)
    async with bus.consuming():  # makes the queue
        pass
    async with bus:
        for start in range(0, count, 5_000):
            await bus.publish_many(backlog, [order(start + number) for number in range(5_000)], timeout=300)


async def _never(order: Order) -> None:
    raise AssertionError("nothing is there yet")


async def consume(url: str, count: int) -> None:
    """Print the resident memory after each step."""
    bus = Bus(url)
    seen, done = 0, asyncio.Event()

    @bus.consumer(backlog, limits=Limits(concurrency=32))
    async def handle(order: Order) -> None:
        nonlocal seen
        seen += 1
        if seen % (count // STEPS) == 0:
            print(resident(), flush=True)
        if seen == count:
            done.set()

    async with bus.consuming():
        await done.wait()


def measure(url: str, count: int) -> list[int]:
    """The consumer's figures, from a process that never published."""
    command = [sys.executable, "-m", "benchmarks.sqs.memory", "--consume", url, "--count", str(count)]
    return [int(line) for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="a multiple of 5,000")
    parser.add_argument("--growth", type=float, default=8.0, help="MiB")
    parser.add_argument("--consume", help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ |= ENVIRONMENT
    if given.consume:
        asyncio.run(consume(given.consume, given.count))
        return
    print(machine())
    with server("fauxqs") as handle:
        url = f"sqs://{REGION}?endpoint={handle.url}"
        asyncio.run(fill(url, given.count))
        figures = measure(url, given.count)
    print("MiB resident after each tenth of", f"{given.count:,}:", *(f"{each / MIB:.1f}" for each in figures))
    growth = (figures[-1] - figures[0]) / MIB
    print(f"growth {growth:+.1f} MiB")
    sys.exit(growth > given.growth)


if __name__ == "__main__":
    main()
