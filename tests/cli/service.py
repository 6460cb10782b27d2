"""A service as the tests run it. What its handlers do, they log."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

from msgbus import Bus, Message, Queue, Reject, Rpc, Topic

log = logging.getLogger("service")


@dataclass
class Job:
    """`do`: what the handler does."""

    name: str
    do: str = "nothing"


jobs = Queue("jobs", Job)
news = Topic("news", Job)
texts = Queue("texts", str)
blobs = Queue("blobs", bytes)
echo = Rpc("echo", Job, Job)
bus = Bus()
empty = Bus()


@bus.consumer(jobs)
async def work(message: Message[Job]) -> None:
    """Says what it does; `wait` until cancelled, `finish` when told to, `die` with the process, `reject` it,

    `ignore` being cancelled, `block` the loop.
    """
    job = message.payload
    log.info("began", extra={"job": job.name, "attempt": message.attempt})
    match job.do:
        case "wait":
            await asyncio.Event().wait()
        case "finish":
            await asyncio.to_thread(Path(job.name).read_bytes)  # a pipe: until the test writes to it
        case "die":
            os._exit(7)
        case "reject":
            raise Reject("not wanted")
        case "ignore":
            await _deaf()
        case "block":
            time.sleep(3600)  # noqa: ASYNC251 - what handlers must not do
        case "count":
            log.info("set aside", extra={"objects": gc.get_freeze_count()})
    log.info("done", extra={"job": job.name})


async def _deaf() -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


@bus.subscriber(news, group="readers")
async def read(job: Job) -> None:
    """Rejects every second one of them."""
    if job.do == "reject":
        raise Reject("no news")
    log.info("read", extra={"job": job.name})
