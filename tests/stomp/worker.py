"""A consumer in a process of its own, to be killed: `worker.py URL PREFIX PREFETCH` prints what it has handled."""

from __future__ import annotations

import asyncio
import sys

from tests.stomp.flow import Item, a_bus

from msgbus import Topic
from msgbus.options import Limits


async def main(url: str, prefix: str, prefetch: str) -> None:
    """Until it is killed."""
    bus = a_bus(url, prefix)

    async def handle(item: Item) -> None:
        print(item.number, flush=True)  # noqa: T201 - its report
        await asyncio.sleep(0.001)

    bus.subscriber(Topic("items", Item, key="key"), group="g", limits=Limits(prefetch=int(prefetch), concurrency=4))(
        handle
    )
    async with bus.consuming():
        print("ready", flush=True)  # noqa: T201 - its report
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
