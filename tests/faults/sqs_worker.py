"""A consumer process of the fault tests. Its standard output says what it did, line by line, before it goes on.

    python -m tests.faults.sqs_worker '{"queue": "work", ...}'

A line: `begin`, `end`, or `lost`, the item's number, the MessageId of SQS, the attempt and the time of day.
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
from tests.faults.pulse import say_when_late

from msgbus import Bus, Lease, Limits, Message, Queue, Retry


class Item(BaseModel):
    """`flaky`: how many attempts fail. `slow`: seconds that its handler takes."""

    n: int
    key: str = "k"
    poison: bool = False
    flaky: int = 0
    slow: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How the worker consumes."""

    queue: str
    ordered: bool = False
    attempts: int = 3
    first_delay: float = 0.1
    lease: float = 5.0
    hold: float = 60.0
    concurrency: int = 32
    pause: float = 0.0  # seconds that every handler takes


def queue_of(work: Work) -> Queue[Item]:
    """The queue, as the test declares it too."""
    return Queue(work.queue, Item, key="key", ordered=work.ordered)


def say(event: str, message: Message[Item]) -> None:
    """Straight to the pipe: what was said outlives a kill."""
    line = f"{event} {message.payload.n} {message.raw['MessageId']} {message.attempt} {time.time()}\n"
    os.write(1, line.encode())


def bus_of(work: Work) -> Bus:
    """Its handler fails as the items ask for."""
    bus = Bus()
    retry = Retry(attempts=work.attempts, first_delay=work.first_delay, jitter=0.0, max_deliveries=1_000)
    lease = Lease(seconds=work.lease, hold=work.hold)

    @bus.consumer(queue_of(work), retry=retry, lease=lease, limits=Limits(concurrency=work.concurrency))
    async def handle(message: Message[Item]) -> None:
        say("begin", message)
        item = message.payload
        try:
            if work.pause or item.slow:
                await asyncio.sleep(work.pause + item.slow)
        except asyncio.CancelledError:
            say("lost", message)
            raise
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
        beating = asyncio.create_task(say_when_late())
        await stop.wait()
        beating.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.CRITICAL)
    asyncio.run(main(Work(**json.loads(sys.argv[1]))))
