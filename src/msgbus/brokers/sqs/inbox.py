"""Reply inboxes: a queue per process, gone with it; those of processes that were killed are swept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from msgbus.brokers.aws import AwsClient
from msgbus.brokers.sqs.names import REPLY_PREFIX
from msgbus.brokers.sqs.plans import plain_queue
from msgbus.brokers.sqs.queues import create_queue
from msgbus.brokers.sqs.targets import Target, Targets, queue_target
from msgbus.clock import Clock
from msgbus.errors import BusError, Refused

log = logging.getLogger("msgbus.sqs")

ALIVE = "msgbus-alive"
"""The tag that says when the owner was last seen, in Unix seconds."""

_KEEP = 300  # seconds that a reply waits; nobody asks for one longer
_BEAT = 600.0  # seconds between two signs of life
_ORPHANED = 3600.0  # seconds without one, after which a queue is swept
_SWEEP = 100  # queues looked at


@asynccontextmanager
async def open_inbox(client: AwsClient, targets: Targets, clock: Clock, given: str) -> AsyncIterator[Target]:
    """A queue for replies: the `given` one, which stays, or a new one, deleted at the exit."""
    if given:
        url = await targets.queue_url(given)
        if url is None:
            raise Refused(f"reply_queue={given}: no such SQS queue in this account and region")
        yield queue_target(url)
        return
    url = await _create(client, clock)
    care = asyncio.create_task(_care(client, clock, url))
    try:
        yield queue_target(url)
    finally:
        care.cancel()
        await asyncio.wait([care])
        with contextlib.suppress(BusError):  # an orphan is swept by others
            await asyncio.shield(client.call("sqs", "DeleteQueue", {"QueueUrl": url}))


async def _create(client: AwsClient, clock: Clock) -> str:
    tags = {"msgbus": "reply inbox", ALIVE: f"{clock.time():.0f}"}
    try:
        name = REPLY_PREFIX + uuid.uuid4().hex
        return await create_queue(client, plain_queue(name, {"MessageRetentionPeriod": _KEEP}, tags))
    except Refused as error:
        raise Refused(f"{error}; or give one queue per process with ?reply_queue=NAME") from error.__cause__


async def _care(client: AwsClient, clock: Clock, url: str) -> None:
    """Sweep once, then say again and again that the owner lives."""
    await _quietly(sweep(client, clock))
    while True:
        await clock.sleep(_BEAT)
        tags = {ALIVE: f"{clock.time():.0f}"}
        await _quietly(client.call("sqs", "TagQueue", {"QueueUrl": url, "Tags": tags}))


async def sweep(client: AwsClient, clock: Clock) -> int:
    """Delete inboxes whose owners gave no sign of life for an hour; how many. Raises what AWS refuses."""
    params = {"QueueNamePrefix": REPLY_PREFIX, "MaxResults": _SWEEP}
    urls = (await client.call("sqs", "ListQueues", params)).get("QueueUrls") or ()
    swept = 0
    for url in urls:
        tags = (await client.call("sqs", "ListQueueTags", {"QueueUrl": url})).get("Tags") or {}
        alive = tags.get(ALIVE, "")
        if alive.isdecimal() and clock.time() - float(alive) > _ORPHANED:
            await client.call("sqs", "DeleteQueue", {"QueueUrl": url})
            swept += 1
    return swept


async def _quietly(work: Awaitable[object]) -> None:
    try:
        await work
    except BusError as error:
        log.info("looking after reply queues: %s", error)
