"""SendMessageBatch and PublishBatch: entries in, one result per entry out."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from msgbus.brokers.aws import AwsClient, entry_error, native_code
from msgbus.brokers.aws.codes import DENIED, MISSING
from msgbus.brokers.splitting import split
from msgbus.brokers.sqs import wire
from msgbus.brokers.sqs.dead import came_from_here, resent
from msgbus.brokers.sqs.foreign import as_jms
from msgbus.brokers.sqs.targets import Target, Targets
from msgbus.errors import BusError, Refused, Unavailable, shown
from msgbus.message import Address, CopyOf, Outgoing, Receipt

log = logging.getLogger("msgbus.sqs")

NONSENSE = (LookupError, TypeError, ValueError, AttributeError)
"""What reading a decoded answer raises that is not of the form that the API reference gives."""

BATCH = 10
LONGEST_DELAY = 900.0
"""Entries of one call, and seconds of delay: quotas of SQS."""

Result = Receipt | BusError


class Entry(NamedTuple):
    """One entry of a call: its place in the caller's batch, its message, its parameters and its size in bytes."""

    place: int
    out: Outgoing
    params: dict[str, Any]
    size: int


class Sender:
    """Sends to any mix of queues and topics. Never raises for an entry: its error is its result."""

    def __init__(self, client: AwsClient, targets: Targets, *, fair: bool) -> None:
        self._client = client
        self._targets = targets
        self._fair = fair

    async def send(self, batch: Sequence[Outgoing]) -> list[Result]:
        """Grouped by address; the groups go out at the same time."""
        results: list[Result] = [_NO_RESULT] * len(batch)
        first = batch[0].address
        if all([out.address == first for out in batch]):  # noqa: C419 - a generator costs more
            await self._send_group(first, list(enumerate(batch)), results)
            return results
        groups: dict[Address, list[tuple[int, Outgoing]]] = {}
        for place, out in enumerate(batch):
            groups.setdefault(out.address, []).append((place, out))
        await asyncio.gather(*(self._send_group(address, group, results) for address, group in groups.items()))
        return results

    async def _send_group(self, address: Address, group: list[tuple[int, Outgoing]], results: list[Result]) -> None:
        try:
            target = self._targets.known.get(address) or await self._targets.of(address)
        except Exception as error:
            for place, out in group:
                results[place] = error if isinstance(error, BusError) else unwritable(out, error)
            return
        make = queue_entry if target.service == "sqs" else topic_entry
        entries: list[Entry] = []
        for place, out in group:
            try:
                entries.append(make(place, out, target, fair=self._fair))
            except Refused as error:
                results[place] = error
            except Exception as error:  # whatever is odd about it is nothing to the others
                results[place] = unwritable(out, error)
        for part, _ in split([entry.size for entry in entries], BATCH, target.limit - BATCH * wire.TYPE_BYTES):
            await self._call(address, target, entries[part], results)

    async def _call(self, address: Address, target: Target, part: Sequence[Entry], results: list[Result]) -> None:
        try:
            answer = await send_entries(self._client, target, [entry.params for entry in part])
        except BusError as error:
            await self._failed(address, target, part, results, error)
            return
        try:
            for said in answer.get("Successful") or ():
                entry = part[int(said["Id"])]
                results[entry.place] = Receipt(entry.out.id, said.get("SequenceNumber"))
            for said in answer.get("Failed") or ():
                entry = part[int(said["Id"])]
                results[entry.place] = entry_error(said, target.service, _OPERATION[target.service], target.where)
        except NONSENSE:
            log.exception("%s: an answer that is none; what it says nothing about is sent again", address)

    async def _failed(
        self, address: Address, target: Target, part: Sequence[Entry], results: list[Result], error: BusError
    ) -> None:
        """The whole call. One bad entry can be the reason: then the others go out without it, in their order."""
        code = native_code(error)
        if isinstance(error, Refused) and code in MISSING:
            self._targets.known.pop(address, None)
            if address.kind == "reply":  # a requester that is gone is no error of the responder
                for entry in part:
                    results[entry.place] = Receipt(entry.out.id, unrouted=True)
                return
        elif isinstance(error, Refused) and len(part) > 1 and _may_be_one(error, code):
            for entry in part:
                await self._call(address, target, [_alone(entry)], results)
            return
        for entry in part:
            results[entry.place] = error


_NO_RESULT = Unavailable("AWS's answer has no result for this entry; whether it was carried out is unknown")
_OPERATION = {"sqs": "SendMessageBatch", "sns": "PublishBatch"}


async def send_entries(client: AwsClient, target: Target, entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One call; numbers the entries by their place. Raises the error of the whole call."""
    for place, entry in enumerate(entries):
        entry["Id"] = str(place)
    if target.service == "sqs":
        return await client.call("sqs", "SendMessageBatch", {"QueueUrl": target.where, "Entries": entries})
    params = {"TopicArn": target.where, "PublishBatchRequestEntries": entries}
    return await client.call("sns", "PublishBatch", params)


def queue_entry(place: int, out: Outgoing, target: Target, *, fair: bool) -> Entry:
    """An entry of SendMessageBatch. Raises Refused for what SQS can't take."""
    params, size = _entry("MessageBody", out, target, fair=fair)
    if out.delay > 0:
        if target.fifo or out.delay > LONGEST_DELAY:
            most = "no delays of single messages" if target.fifo else f"delays of 0 to {LONGEST_DELAY:g} s"
            raise Refused(f"{out.address}: delay={out.delay:g} s, this SQS queue has {most}")
        params["DelaySeconds"] = math.ceil(out.delay)
    return Entry(place, out, params, size)


def topic_entry(place: int, out: Outgoing, target: Target, *, fair: bool) -> Entry:
    """An entry of PublishBatch. Raises Refused for what SNS can't take."""
    if out.delay > 0:
        raise Refused(f"{out.address}: delay={out.delay:g} s, and SNS has no delays; send to a queue")
    params, size = _entry("Message", out, target, fair=fair)
    return Entry(place, out, params, size)


def _entry(body: str, out: Outgoing, target: Target, *, fair: bool) -> tuple[dict[str, Any], int]:
    text, most = "", target.message_bytes
    if isinstance(out.native, CopyOf) and came_from_here(out.native):
        text, attributes, size = resent(out.native)
        most = target.limit  # what came may be as large as any
    else:
        attributes, size = wire.attributes_of(out)
        size += len(out.body)
        if out.native is not None:
            attributes |= as_jms(out.native, out.headers)
    if size > most:
        raise Refused(
            f"{out.address}: the message has {size:,} bytes with its attributes, {target.where} takes"
            f" {most:,}: give the Bus a store for large bodies, msgbus.brokers.sqs.S3Store"
            + ("" if target.service == "sqs" else ", or raise the topic's MaximumMessageSize")
        )
    params: dict[str, Any] = {body: text or wire.text_of(out)}
    if target.fifo or out.key:
        params.update(wire.ordering(out, fifo=target.fifo, fair=fair))
    if attributes:
        params["MessageAttributes"] = attributes
    return params, size


def _may_be_one(error: Refused, code: str) -> bool:
    return code not in DENIED if code else isinstance(error.__cause__, (TypeError, ValueError))


def unwritable(out: Outgoing, error: Exception) -> Refused:
    """The result of an entry that is odd in a way that nothing else has a word for."""
    refused = Refused(f"{out.address}: this message can't be written: {shown(error)}")
    refused.__cause__ = error
    return refused


def _alone(entry: Entry) -> Entry:
    return entry._replace(params=dict(entry.params))
