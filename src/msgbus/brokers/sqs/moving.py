"""Dead letters moved back by the service itself: StartMessageMoveTask.

Source: StartMessageMoveTask, ListMessageMoveTasks and ListDeadLetterSourceQueues in the SQS API reference: one task
at a time per queue; with a destination it moves letters that were sent there too, not only its own redrives.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from msgbus.brokers.aws import AwsClient
from msgbus.clock import Clock
from msgbus.errors import BusError, Refused, Unavailable

log = logging.getLogger("msgbus.sqs")

_LOOK = 1.0  # seconds between two looks at a task


async def serves_one(client: AwsClient, dead_url: str) -> bool:
    """Whether only one queue has its dead letters there: a task can't tell those of several apart."""
    try:
        answer = await client.call("sqs", "ListDeadLetterSourceQueues", {"QueueUrl": dead_url})
    except (Refused, Unavailable) as error:
        log.info("whose dead letters %s has can't be told: %s", dead_url, error)
        return False
    return len(answer.get("queueUrls") or ()) == 1


async def move_all(
    client: AwsClient, clock: Clock, dead: str, queue: str, progress: Callable[[int], object] | None
) -> int | None:
    """Move all messages from one ARN to the other; how many, about. None where no task can be started.

    Raises Unavailable where the task failed: what it moved is moved. Cancelled, it has the task cancelled too.
    """
    try:
        params = {"SourceArn": dead, "DestinationArn": queue}
        handle = (await client.call("sqs", "StartMessageMoveTask", params, dead))["TaskHandle"]
    except (Refused, Unavailable) as error:
        log.info("no move task, letters are sent back one by one: %s", error)
        return None
    try:
        return await _finish(client, clock, dead, progress)
    except asyncio.CancelledError:
        await asyncio.shield(_cancel(client, handle))
        raise


async def _finish(client: AwsClient, clock: Clock, dead: str, progress: Callable[[int], object] | None) -> int:
    while True:
        params = {"SourceArn": dead, "MaxResults": 1}
        task: dict[str, Any] = (await client.call("sqs", "ListMessageMoveTasks", params, dead))["Results"][0]
        moved = int(task.get("ApproximateNumberOfMessagesMoved") or 0)
        if progress is not None:
            progress(moved)
        if task["Status"] == "COMPLETED":
            return moved
        if task["Status"] != "RUNNING":
            why = task.get("FailureReason") or "no reason given"
            raise Unavailable(f"sqs move task from {dead}: {task['Status']} after {moved} messages: {why}")
        await clock.sleep(_LOOK)


async def _cancel(client: AwsClient, handle: str) -> None:
    try:
        await client.call("sqs", "CancelMessageMoveTask", {"TaskHandle": handle})
    except BusError as error:  # it has ended by itself
        log.info("a move task can't be cancelled: %s", error)
