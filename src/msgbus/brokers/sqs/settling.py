"""The calls that settle: DeleteMessageBatch, ChangeMessageVisibilityBatch, and dead letters."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from msgbus.brokers.aws import AwsClient, entry_error
from msgbus.brokers.sqs.dead import dead_entry
from msgbus.brokers.sqs.sending import NONSENSE, send_entries
from msgbus.brokers.sqs.targets import Target
from msgbus.brokers.sqs.wire import Token
from msgbus.errors import BusError, Refused, Unavailable, shown
from msgbus.message import Delivery, Settlement

log = logging.getLogger("msgbus.sqs")

LONGEST = 43_200
"""Seconds of visibility: a quota of SQS."""

Result = BusError | None


class Change(NamedTuple):
    """A delivery, and the seconds from now until it becomes visible."""

    delivery: Delivery
    seconds: int


class QueueCalls:
    """Calls about the messages of one queue, at most 10 of them each. One result per entry; none raises.

    `dead_target`: finds the dead-letter queue, when it is needed first.
    """

    def __init__(self, client: AwsClient, url: str, dead_target: Callable[[], Awaitable[Target]]) -> None:
        self.client = client
        self.url = url
        self._dead_target = dead_target

    async def delete(self, tokens: Sequence[Token]) -> Sequence[Result]:
        """Remove them from the queue."""
        entries = [{"Id": str(place), "ReceiptHandle": token.handle} for place, token in enumerate(tokens)]
        return await self._call("DeleteMessageBatch", entries)

    async def change(self, changes: Sequence[Change]) -> Sequence[Result]:
        """Set when each becomes visible."""
        if not changes:
            return []
        entries = [
            {"Id": str(place), "ReceiptHandle": change.delivery.token.handle, "VisibilityTimeout": change.seconds}
            for place, change in enumerate(changes)
        ]
        return await self._call("ChangeMessageVisibilityBatch", entries)

    async def bury(self, settlements: Sequence[Settlement]) -> Sequence[Result]:
        """Write dead letters. None: it is in the dead-letter queue, and may be deleted from this one."""
        try:
            target = await self._dead_target()
        except BusError as error:
            return [error] * len(settlements)
        results: list[Result] = [None] * len(settlements)
        for place, settlement in enumerate(settlements):  # each alone: one too large must not hold up the others
            try:
                entry = dead_entry(settlement, target)
                answer = await send_entries(self.client, target, [entry])
                results[place] = next(iter(_results(answer, 1, "SendMessageBatch", target.where)))
            except BusError as error:
                results[place] = error
            except Exception as error:
                results[place] = _no_copy(settlement, error)
        return results

    async def _call(self, operation: str, entries: Sequence[Mapping[str, Any]]) -> Sequence[Result]:
        try:
            answer = await self.client.call("sqs", operation, {"QueueUrl": self.url, "Entries": entries})
        except BusError as error:
            return [error] * len(entries)
        return _results(answer, len(entries), operation, self.url)


def _results(answer: Mapping[str, Any], count: int, operation: str, url: str) -> Sequence[Result]:
    """One per entry, by its Id; an entry that the answer doesn't name has failed."""
    good, failed = answer.get("Successful") or (), answer.get("Failed") or ()
    if len(good) == count and not failed:
        return [None] * count
    results: list[Result] = [
        Unavailable(f"sqs {operation} on {url}: the answer has no result for this entry") for _ in range(count)
    ]
    try:
        for said in good:
            results[int(said["Id"])] = None
        for said in failed:
            results[int(said["Id"])] = _entry_error(said, operation, url)
    except NONSENSE:
        log.exception("%s %s: an answer that is none; what it says nothing about is settled again", url, operation)
    return results


def _no_copy(settlement: Settlement, error: Exception) -> Refused:
    refused = Refused(f"{settlement.delivery.source}: no dead letter can be made of this message: {shown(error)}")
    refused.__cause__ = error
    return refused


def _entry_error(said: Mapping[str, Any], operation: str, url: str) -> BusError:
    error = entry_error(said, "sqs", operation, url)
    if isinstance(error, Refused) and "12 hours" in str(said.get("Message", "")):
        return type(error)(f"{error}; a message can be held for 12 hours in all: let Lease.longest be less")
    return error
