"""A consumer process of the Kinesis fault tests. Its standard output says what it did, line by line.

    python -m tests.faults.kinesis_worker '{"topic": "orders", ...}'

A line: what happened, the item's number, shard, sequence number, sub-sequence number, attempt and the time of day.
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

from msgbus import Bus, Limits, Message, Retry, Topic


class Item(BaseModel):
    """`flaky`: how many attempts fail. `poison`: all of them. `kills`: its handler ends the process."""

    n: int
    key: str
    flaky: int = 0
    poison: bool = False
    kills: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How the worker consumes. `pause`: seconds that a handler takes; `skew`: what its clock is off."""

    topic: str
    pause: float = 0.002
    concurrency: int = 32
    prefetch: int = 200
    attempts: int = 3
    deliveries: int | None = None
    skew: float = 0.0


def topic_of(work: Work) -> Topic[Item]:
    """The topic, as the test declares it too."""
    return Topic(work.topic, Item, key="key", ordered=True)


def say(event: str, message: Message[Item]) -> None:
    """Straight to the pipe: what was said outlives a kill."""
    raw = message.raw
    line = f"{event} {message.payload.n} {raw['SequenceNumber']} {message.attempt} {time.monotonic()}\n"
    os.write(1, line.encode())


class LostLeases(logging.Handler):
    """Says when a lease ended though nobody did anything: a machine so busy that it is as good as frozen."""

    def emit(self, record: logging.LogRecord) -> None:
        if "is lost: it could not be renewed" in record.getMessage():
            os.write(1, f"lease -1 0 0 {time.monotonic()}\n".encode())


def bus_of(work: Work) -> Bus:
    """Its handler fails as the items ask for."""
    bus = Bus()
    limits = Limits(concurrency=work.concurrency, prefetch=work.prefetch)
    retry = Retry(attempts=work.attempts, first_delay=0.05, jitter=0.0, max_deliveries=work.deliveries)

    @bus.subscriber(topic_of(work), group="g", retry=retry, limits=limits)
    async def handle(message: Message[Item]) -> None:
        say("begin", message)
        item = message.payload
        if item.kills:
            os._exit(9)
        try:
            await asyncio.sleep(work.pause)
        except asyncio.CancelledError:
            say("lost", message)
            raise
        if item.poison or message.attempt <= item.flaky:
            say("fail", message)
            raise ValueError("as asked for")
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
    given = Work(**json.loads(sys.argv[1]))
    logging.getLogger("msgbus.handler").setLevel(logging.CRITICAL)
    logging.basicConfig(level=logging.WARNING, format=f"{os.getpid()} %(asctime)s %(message)s")
    logging.getLogger("msgbus.kinesis").addHandler(LostLeases())
    if given.skew:  # a machine whose clock is wrong; the monotonic one runs from some other start anyway
        right = time.time
        time.time = lambda: right() + given.skew
    asyncio.run(main(given))
