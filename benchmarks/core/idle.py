"""A hundred idle subscriptions, and a million messages with flat memory."""

from __future__ import annotations

import asyncio
import resource
import sys
import time

from benchmarks.core.ours import Setup
from benchmarks.core.payloads import SMALL
from msgbus import Bus, Topic


async def idle_share(subscriptions: int, seconds: float) -> float:
    """The share of one core that idle subscriptions use."""
    bus = Bus("memory://")
    for number in range(subscriptions):

        @bus.subscriber(Topic(f"idle-{number}", dict), group="g")
        async def handle(message: dict) -> None:  # type: ignore[type-arg]
            raise AssertionError("nothing was sent")

    async with bus.consuming():
        await asyncio.sleep(0.2)
        before = time.process_time()
        await asyncio.sleep(seconds)
        return (time.process_time() - before) / seconds


def peak_mib() -> float:
    """Largest resident set of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


async def many_messages(count: int) -> tuple[float, float]:
    """Peak RSS in MiB after a tenth of `count` messages and after all of them."""
    setup = Setup(SMALL)
    close = await setup.open()
    await setup.many(count // 10)
    early = peak_mib()
    await setup.many(count - count // 10)
    late = peak_mib()
    await close()
    return early, late
