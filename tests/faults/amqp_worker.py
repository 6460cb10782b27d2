"""A consumer process of the fault tests on RabbitMQ. Its standard output says what it did, line by line.

    python -m tests.faults.amqp_worker '{"queue": "work", ...}'

A line: `begin`, `end` or `fail`, the item's number, the attempt and the time of day.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass

from pydantic import BaseModel

from msgbus import Bus, Limits, Message, Queue, Retry

DELIVERIES = 1_000  # a message that kills its process is not what these tests are about


class Item(BaseModel):
    """`flaky`: how many attempts fail. `sabotage`: its handler makes the server close the channel."""

    n: int
    key: str = "k"
    poison: bool = False
    flaky: int = 0
    sabotage: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How the worker consumes. `pause`: seconds that every handler takes."""

    queue: str
    ordered: bool = False
    concurrency: int = 32
    prefetch: int = 200
    pause: float = 0.0


def queue_of(work: Work) -> Queue[Item]:
    """The queue, as the test declares it too."""
    return Queue(work.queue, Item, key="key", ordered=work.ordered)


def say(event: str, message: Message[Item]) -> None:
    """Straight to the pipe: what was said outlives a kill."""
    os.write(1, f"{event} {message.payload.n} {message.attempt} {time.time()}\n".encode())


def bus_of(work: Work) -> Bus:
    """Its handler fails as the items ask for."""
    bus = Bus()
    sabotaged: set[int] = set()

    @bus.consumer(
        queue_of(work),
        retry=Retry(attempts=3, first_delay=0.2, jitter=0.0, max_deliveries=DELIVERIES),
        limits=Limits(concurrency=work.concurrency, prefetch=work.prefetch),
    )
    async def handle(message: Message[Item]) -> None:
        say("begin", message)
        item = message.payload
        if work.pause:
            await asyncio.sleep(work.pause)
        if item.sabotage and item.n not in sabotaged:
            sabotaged.add(item.n)
            message.raw.owner._subscription._channel.ack([(1 << 40, False)])  # 406: the server closes the channel
        if item.poison or message.attempt <= item.flaky:
            say("fail", message)
            raise ValueError("poison" if item.poison else "flaky")
        say("end", message)

    return bus


async def main(work: Work) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with bus_of(work).consuming():
        os.write(1, b"ready\n")
        await stop.wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.CRITICAL)
    asyncio.run(main(Work(**json.loads(sys.argv[1]))))
