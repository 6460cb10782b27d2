"""Reads one shard by GetRecords, within what a shard allows its readers.

Source: "Quotas and limits" and GetRecords: 5 reads and 2 MB a second a shard, 10,000 records and 10 MB a read, an
iterator lives for 5 minutes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from msgbus import backoff
from msgbus.brokers.aws import AwsClient, native_code
from msgbus.brokers.aws.codes import MISSING
from msgbus.brokers.kinesis.holding import Holding
from msgbus.brokers.kinesis.options import KinesisOptions
from msgbus.brokers.kinesis.rows import AT_TIMESTAMP, Row
from msgbus.brokers.kinesis.stream import has_shard
from msgbus.clock import Clock
from msgbus.errors import BusError, Refused, Throttled, Unavailable

log = logging.getLogger("msgbus.kinesis")

_LEAST, _MOST = 100, 10_000  # records of a read
_BACK_OFF, _LONGEST = 0.5, 5.0  # seconds after a read that failed
_AHEAD = 2.0  # seconds of work that may wait here


class Room:
    """Lets a reader wait until what it read was taken."""

    def __init__(self, holding: Holding, least: int) -> None:
        self.limit = min(_MOST, max(_LEAST, least))
        self._holding = holding
        self._waiter: asyncio.Future[None] | None = None

    async def come(self) -> int:
        """How many records to ask for, when half of the last read was taken.

        A reader that is waited for asks for twice as many next time, one that waits long for fewer.
        """
        loop = asyncio.get_running_loop()
        if not self._holding.buffer:
            self.limit = min(_MOST, 2 * self.limit)
        began = loop.time()
        while len(self._holding.buffer) > self.limit // 2:
            self._waiter = loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if loop.time() - began > _AHEAD:
            self.limit = max(_LEAST, self.limit * 3 // 4)
        return self.limit

    def look(self) -> None:
        """Something was taken."""
        waiter = self._waiter
        if waiter is not None and not waiter.done() and len(self._holding.buffer) <= self.limit // 2:
            waiter.set_result(None)


def start_of(row: Row) -> dict[str, Any]:
    """The parameters of an iterator, or of a subscription, that begins where a lease stands.

    A checkpoint is read again, since it may lie inside an aggregate; what is settled of it is passed over.
    """
    if row.position is not None:
        return {"Type": "AT_SEQUENCE_NUMBER", "SequenceNumber": row.position[0]}
    if row.checkpoint == AT_TIMESTAMP:
        return {"Type": AT_TIMESTAMP, "Timestamp": row.at}
    return {"Type": row.checkpoint}


async def new_iterator(client: AwsClient, stream: str, shard: str, place: Mapping[str, Any]) -> str:
    """A shard iterator that begins at a place such as `start_of` gives."""
    params = {"StreamName": stream, "ShardId": shard, "ShardIteratorType": place["Type"]}
    if "SequenceNumber" in place:
        params["StartingSequenceNumber"] = place["SequenceNumber"]
    if "Timestamp" in place:
        params["Timestamp"] = place["Timestamp"]
    return str((await client.call("kinesis", "GetShardIterator", params))["ShardIterator"])


class Poller:
    """Fills a holding until its shard has ended. `came`: told after each read."""

    def __init__(
        self, client: AwsClient, stream: str, options: KinesisOptions, clock: Clock, came: Callable[[], None]
    ) -> None:
        self._client = client
        self._stream = stream
        self._options = options
        self._clock = clock
        self._came = came

    async def run(self, holding: Holding, room: Room) -> None:
        """Until the end of the shard. Raises Refused where reading will never work."""
        place = start_of(holding.row)
        iterator: str | None = None
        failures, next_read = 0, self._clock.now()
        while not holding.ended:
            limit = await room.come()
            if (pause := next_read - self._clock.now()) > 0:
                await self._clock.sleep(pause)
            next_read = self._clock.now() + 1 / self._options.reads
            try:
                iterator = iterator or await new_iterator(self._client, self._stream, holding.row.shard, place)
                answer = await self._client.call("kinesis", "GetRecords", {"ShardIterator": iterator, "Limit": limit})
            except BusError as error:
                iterator = None if await self._is_stale(error, holding) else iterator
                failures += 1
                next_read += backoff.delay(failures, _BACK_OFF, longest=_LONGEST)
                continue
            failures = 0
            iterator = answer.get("NextShardIterator")
            if records := answer["Records"]:
                place = {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": records[-1]["SequenceNumber"]}
            elif not answer.get("MillisBehindLatest"):
                next_read += self._options.poll
            self._take(holding, answer, ended=iterator is None)

    def _take(self, holding: Holding, answer: Mapping[str, Any], *, ended: bool) -> None:
        holding.load(answer["Records"])
        holding.behind = (answer.get("MillisBehindLatest") or 0) / 1000
        if ended:
            holding.ended, holding.children = True, answer.get("ChildShards") or ()
        self._came()

    async def _is_stale(self, error: BusError, holding: Holding) -> bool:
        """Whether another iterator helps. Raises what nothing helps against."""
        if isinstance(error, (Throttled, Unavailable)):
            log.info("%s: reading %s: %s", self._stream, holding.row.shard, error)
            if isinstance(error, Unavailable):
                holding.trouble = error
                self._came()
            return False
        code = native_code(error)
        if code == "ExpiredIterator":
            return True
        if not isinstance(error, Refused) or code not in MISSING:
            raise error
        try:
            there = await has_shard(self._client, self._stream, holding.row.shard)
        except (Throttled, Unavailable):
            return False
        if not there:  # trimmed while nobody read it
            log.warning("%s: %s is gone; what was unread in it is lost to this group", self._stream, holding.row.shard)
            holding.ended = True
            self._came()
        return True
