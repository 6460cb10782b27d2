"""Reads one shard by enhanced fan-out: a registered consumer has 2 MB a second a shard of its own.

Source: SubscribeToShard and RegisterStreamConsumer in the API reference: a subscription ends after 5 minutes and is
renewed from its continuation sequence number; one is allowed every 5 seconds per consumer and shard.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError  # type: ignore[import-untyped]

from msgbus import backoff
from msgbus.brokers.aws import AwsClient, AwsError, codes, translate_any
from msgbus.brokers.aws.codes import MISSING
from msgbus.brokers.aws.errors import error_of_client
from msgbus.brokers.kinesis.holding import Holding
from msgbus.brokers.kinesis.polling import Room, start_of
from msgbus.brokers.kinesis.stream import has_shard, summary
from msgbus.clock import Clock
from msgbus.errors import BusError, Refused, Throttled, Unavailable

log = logging.getLogger("msgbus.kinesis")

_LOOKS, _PAUSE = 60, 0.5  # at a consumer that is being registered, and seconds between them
_AGAIN = 1.0  # seconds after a subscription that failed; the one before may still be open
_LONGEST = 10.0


class _Place:
    """Where the next subscription of a shard begins."""

    def __init__(self, begin: Mapping[str, Any]) -> None:
        self.next = begin


async def register(client: AwsClient, clock: Clock, stream: str, name: str) -> str:
    """The ARN of a consumer, registered where it is not yet. Raises Refused, Throttled, Unavailable."""
    told = await summary(client, stream)
    if told is None:
        raise Refused(f"no Kinesis stream {stream} in this account and region")
    params = {"StreamARN": told["StreamARN"], "ConsumerName": name}
    for _ in range(_LOOKS):
        told_of = await client.find("kinesis", "DescribeStreamConsumer", params)
        if told_of is None:
            await client.make("kinesis", "RegisterStreamConsumer", params)
            continue
        found = told_of["ConsumerDescription"]
        if found["ConsumerStatus"] == "ACTIVE":
            return str(found["ConsumerARN"])
        await clock.sleep(_PAUSE)
    raise Unavailable(f"kinesis: consumer {name} of {stream} is still not active after {_LOOKS * _PAUSE:g} s")


class Subscriber:
    """Fills holdings, each by one subscription after the other, until its shard has ended."""

    def __init__(self, client: AwsClient, clock: Clock, stream: str, group: str, came: Callable[[], None]) -> None:
        self._client = client
        self._clock = clock
        self._stream = stream
        self._group = group
        self._came = came
        self._consumer = ""

    async def run(self, holding: Holding, room: Room) -> None:
        """Until the end of the shard. Raises Refused where reading will never work."""
        place = _Place(start_of(holding.row))
        failures = 0
        while not holding.ended:
            before = place.next
            try:
                await self._subscribe(holding, room, place)
            except (Throttled, Unavailable) as error:
                log.info("%s: subscribing to %s: %s", self._stream, holding.row.shard, error)
                if isinstance(error, Unavailable) and place.next is before:
                    holding.trouble = error
                    self._came()
            failures = 0 if place.next is not before else failures + 1
            if failures and not holding.ended:
                await self._clock.sleep(backoff.delay(failures, _AGAIN, longest=_LONGEST, jitter=0.5))

    async def _subscribe(self, holding: Holding, room: Room, place: _Place) -> None:
        """One subscription to its end."""
        self._consumer = self._consumer or await register(self._client, self._clock, self._stream, self._group)
        params = {"ConsumerARN": self._consumer, "ShardId": holding.row.shard, "StartingPosition": place.next}
        try:
            async with self._client.client("kinesis") as cold:
                stream = (await cold.subscribe_to_shard(**params))["EventStream"]
                try:
                    async for event in stream:
                        await room.come()
                        self._take(holding, event, place)
                finally:
                    stream.close()
        except BusError:
            raise
        except Exception as error:
            await self._judge(error, holding)

    async def _judge(self, error: Exception, holding: Holding) -> None:
        """Raises what it means; a shard that is not there any more has ended."""
        shard = holding.row.shard
        native = error_of_client(error) if isinstance(error, ClientError) else error
        translated = translate_any(native, "kinesis", "SubscribeToShard", f"{self._stream} {shard}")
        code = codes.short(native.code) if isinstance(native, AwsError) else ""
        if code == "ResourceInUse":  # the subscription before is not over yet
            raise Unavailable(str(translated)) from error
        if code in MISSING and not await has_shard(self._client, self._stream, shard):
            log.warning("%s: %s is gone; what was unread in it is lost to this group", self._stream, shard)
            holding.ended = True
            self._came()
            return
        if code in MISSING:
            self._consumer = ""  # somebody deregistered it: register it again
            raise Unavailable(str(translated)) from error
        raise translated from error

    def _take(self, holding: Holding, event: Mapping[str, Any], place: _Place) -> None:
        said = event.get("SubscribeToShardEvent")
        if said is None:
            return
        holding.load([_plain(record) for record in said["Records"]])
        holding.behind = (said.get("MillisBehindLatest") or 0) / 1000
        sequence, children = said.get("ContinuationSequenceNumber"), said.get("ChildShards") or ()
        if children or not sequence:
            holding.ended, holding.children = True, children
        else:
            place.next = {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": sequence}
        self._came()


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """As GetRecords gives it: its time in Unix seconds."""
    time = record.get("ApproximateArrivalTimestamp")
    return {**record, "ApproximateArrivalTimestamp": time.timestamp()} if isinstance(time, datetime) else dict(record)
