"""Messages in, one result per message out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from msgbus.brokers.aws import AwsClient
from msgbus.brokers.kinesis.aggregation import UserRecord
from msgbus.brokers.kinesis.batching import GROUP_TAG, Entry, Put, Record, aggregated, entry_of, plain
from msgbus.brokers.kinesis.hashing import HIGHEST, KEY_CHARACTERS, partition_key
from msgbus.brokers.kinesis.options import KinesisOptions
from msgbus.brokers.kinesis.putting import Putting, Result
from msgbus.brokers.kinesis.rates import Rates, within_rates
from msgbus.brokers.kinesis.stream import KnownStream, Limits
from msgbus.clock import Clock
from msgbus.errors import Refused, Unavailable
from msgbus.message import Outgoing

KEY_ROOM = 1024
"""Bytes of a record that are kept free for its key and the frame of an aggregate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KinesisMessage:
    """Native options of one message: `SendOptions(native=KinesisMessage(...))`.

    `explicit_hash_key`: decides the shard instead of the key's hash; 0 to 2**128 - 1.
    """

    explicit_hash_key: int

    def __post_init__(self) -> None:
        if not 0 <= self.explicit_hash_key <= HIGHEST:
            raise Refused(f"explicit_hash_key={self.explicit_hash_key}: 0 to 2**128 - 1")


class Sender:
    """Sends to any mix of streams. Never raises for a message: its error is its result."""

    def __init__(self, client: AwsClient, options: KinesisOptions, clock: Clock, limits: Limits) -> None:
        self._client = client
        self._limits = limits
        self._options = options
        self._clock = clock
        self._streams: dict[str, KnownStream] = {}
        self._places = bool(options.aggregate or options.rate)  # whether it matters which shard a message goes to
        self._limit = limits.least - KEY_ROOM  # what every stream takes

    async def send(self, batch: Sequence[Outgoing]) -> list[Result]:
        """Grouped by stream; the groups go out at the same time."""
        results: list[Result] = [_NO_RESULT] * len(batch)
        groups: dict[str, list[int]] = {}
        for place, out in enumerate(batch):
            name = out.address.name
            if name in groups:
                groups[name].append(place)
            else:
                groups[name] = [place]
        if len(groups) == 1:
            ((stream, places),) = groups.items()
            await self._send_group(stream, places, batch, results)
        else:
            await asyncio.gather(*(self._send_group(name, each, batch, results) for name, each in groups.items()))
        return results

    async def _send_group(self, name: str, places: list[int], batch: Sequence[Outgoing], results: list[Result]) -> None:
        stream = self._streams.get(name) or self._new_stream(name)
        putting = Putting(self._client, name, stream, batch, results)
        if self._places:
            puts = await self._puts(stream, places, batch, results)
            await putting.put([put.record for put in puts], puts)
        else:
            await putting.put(*self._records(places, batch, results))
        if putting.gone:
            self._streams.pop(name, None)  # it may be made anew, with other shards

    async def _puts(
        self, stream: KnownStream, places: Sequence[int], batch: Sequence[Outgoing], results: list[Result]
    ) -> Sequence[Put]:
        """Records whose shard matters: in aggregates, and no more than it takes."""
        if not stream.asked:
            await stream.learn()
        entries = self._entries(places, batch, results)
        if self._options.aggregate and stream.shards is not None:
            puts = list(aggregated(entries, stream.shards, self._options.aggregate_bytes))
        else:
            puts = [plain(entry, stream.shards) for entry in entries]
        return puts if stream.rates is None else within_rates(puts, stream.rates, results)

    def _records(
        self, places: Sequence[int], batch: Sequence[Outgoing], results: list[Result]
    ) -> tuple[list[Record], list[int]]:
        """A record for each message, where nobody asks for its shard: by far the usual case."""
        records: list[Record] = []
        owners: list[int] = []
        for place in places:
            out = batch[place]
            try:
                if out.native is None and not out.address.group:
                    self._check(out)
                    record: Record = {"Data": out.body, "PartitionKey": _key_of(out)}
                else:
                    record = plain(self._entry(place, out), None).record
            except Refused as error:
                results[place] = error
                continue
            records.append(record)
            owners.append(place)
        return records, owners

    def _entries(self, places: Sequence[int], batch: Sequence[Outgoing], results: list[Result]) -> list[Entry]:
        entries: list[Entry] = []
        for place in places:
            try:
                entries.append(self._entry(place, batch[place]))
            except Refused as error:
                results[place] = error
        return entries

    def _entry(self, place: int, out: Outgoing) -> Entry:
        self._check(out)
        record = UserRecord(_key_of(out), out.body)
        if isinstance(out.native, KinesisMessage):
            record = record._replace(explicit=str(out.native.explicit_hash_key))
        if out.address.group:
            record = record._replace(tags=((GROUP_TAG, out.address.group),))
        return entry_of(place, record)

    def _check(self, out: Outgoing) -> None:
        if out.address.kind != "topic":
            raise Refused(
                f"{out.address}: Kinesis has streams for topics and nothing else; route it with MSGBUS_ROUTES"
            )
        if out.delay > 0:
            raise Refused(f"{out.address}: delay={out.delay:g} s, and Kinesis has no delays")
        size = len(out.body)
        if size > self._limit and size > (limit := self._limits.of(out.address.name) - KEY_ROOM):
            raise Refused(
                f"{out.address}: the message has {size:,} bytes with its envelope, the stream takes"
                f" {limit:,}: give the Bus a store for large bodies, or raise the stream's limit (record_bytes)"
            )

    def _new_stream(self, name: str) -> KnownStream:
        rates = Rates(self._clock.now, self._options.rate) if self._options.rate else None
        stream = self._streams[name] = KnownStream(self._client, name, rates)
        return stream


def _key_of(out: Outgoing) -> str:
    """A message without a key goes anywhere."""
    return partition_key(out.key) if out.key else out.id[:KEY_CHARACTERS]


_NO_RESULT = Unavailable("kinesis PutRecords: the answer has no result for this record; it may have been written")
