"""PutRecords: messages in, one result per message out."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgbus.brokers.aws import AwsClient, entry_error, native_code
from msgbus.brokers.aws.codes import DENIED, MISSING
from msgbus.brokers.kinesis.aggregation import UserRecord
from msgbus.brokers.kinesis.batching import Entry, Put, Rates, Record, aggregated, entry_of, plain, spans
from msgbus.brokers.kinesis.hashing import HIGHEST, ShardMap
from msgbus.brokers.kinesis.options import KinesisOptions
from msgbus.brokers.kinesis.stream import Limits, list_shards
from msgbus.clock import Clock
from msgbus.errors import BusError, Refused, Throttled, Unavailable
from msgbus.message import Outgoing, Receipt

log = logging.getLogger("msgbus.kinesis")

GROUP_TAG = "msgbus-group"
"""The tag of a message for one group alone, such as a redriven dead letter. Other groups pass over it."""

KEY_ROOM = 1024
"""Bytes of a record that are kept free for its key and the frame of an aggregate."""

_KEY_CHARACTERS = 256  # of a partition key

Result = Receipt | BusError
Owner = int | Put
"""Whose a record is: of the message at that place of the batch, or of the entries of a Put."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KinesisMessage:
    """Native options of one message: `SendOptions(native=KinesisMessage(...))`.

    `explicit_hash_key`: decides the shard instead of the key's hash; 0 to 2**128 - 1.
    """

    explicit_hash_key: int

    def __post_init__(self) -> None:
        if not 0 <= self.explicit_hash_key <= HIGHEST:
            raise Refused(f"explicit_hash_key={self.explicit_hash_key}: 0 to 2**128 - 1")


class _Stream:
    """What the sender knows of one stream."""

    def __init__(self, rates: Rates | None) -> None:
        self.rates = rates
        self.shards: ShardMap | None = None
        self.asked = False
        self.lock = asyncio.Lock()


class Sender:
    """Sends to any mix of streams. Never raises for a message: its error is its result."""

    def __init__(self, client: AwsClient, options: KinesisOptions, clock: Clock, limits: Limits) -> None:
        self._client = client
        self._limits = limits
        self._options = options
        self._clock = clock
        self._streams: dict[str, _Stream] = {}
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
        if not self._places:
            records, owners = self._records(places, batch, results)
            for part in spans(records):
                await self._call(name, stream, records[part], owners[part], batch, results)
            return
        if not stream.asked:
            await self._learn(name, stream)
        entries = self._entries(places, batch, results)
        if self._options.aggregate and stream.shards is not None:
            puts: Sequence[Put] = list(aggregated(entries, stream.shards, self._options.aggregate_bytes))
        else:
            puts = [plain(entry, stream.shards) for entry in entries]
        if stream.rates is not None:
            puts = _within_rates(puts, stream.rates, results)
        records = [put.record for put in puts]
        for part in spans(records):
            await self._call(name, stream, records[part], puts[part], batch, results)

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

    def _new_stream(self, name: str) -> _Stream:
        rates = Rates(self._clock.now, self._options.rate) if self._options.rate else None
        stream = self._streams[name] = _Stream(rates)
        return stream

    async def _learn(self, name: str, stream: _Stream) -> None:
        """The shards, where we may know them. Without them there are no aggregates, and nothing is held back."""
        async with stream.lock:
            if stream.asked:
                return
            try:
                stream.shards = ShardMap(await list_shards(self._client, name))
            except BusError as error:
                stream.shards = None
                if native_code(error) in DENIED:
                    log.warning("%s: neither aggregates nor pacing: %s", name, error)
                    stream.asked = True
                return
            stream.asked = True

    async def _call(
        self,
        name: str,
        stream: _Stream,
        records: Sequence[Record],
        owners: Sequence[Owner],
        batch: Sequence[Outgoing],
        results: list[Result],
    ) -> None:
        try:
            answer = await self._client.call("kinesis", "PutRecords", {"StreamName": name, "Records": records})
        except Refused as error:
            if len(records) > 1 and _may_be_one(error):  # one bad record, or a service with lower limits: in halves
                for half in (slice(len(records) // 2), slice(len(records) // 2, None)):
                    await self._call(name, stream, records[half], owners[half], batch, results)
            else:
                self._failed(name, owners, error, results)
            return
        except BusError as error:
            self._failed(name, owners, error, results)
            return
        moved = self._results(name, owners, answer["Records"], batch, results)
        if moved:
            await self._after_a_move(name, stream, moved, batch, results)

    def _results(
        self,
        name: str,
        owners: Sequence[Owner],
        answers: Sequence[Mapping[str, Any]],
        batch: Sequence[Outgoing],
        results: list[Result],
    ) -> list[tuple[Put, Mapping[str, Any]]]:
        """One for each; those that landed in another shard than the one that was meant."""
        moved: list[tuple[Put, Mapping[str, Any]]] = []
        for owner, said in zip(owners, answers, strict=True):
            if said.get("ErrorCode"):
                self._failed(name, (owner,), entry_error(said, "kinesis", "PutRecords", name), results)
            elif isinstance(owner, int):
                results[owner] = Receipt(batch[owner].id, f"{said['ShardId']}:{said['SequenceNumber']}")
            elif owner.shard and said["ShardId"] != owner.shard:
                moved.append((owner, said))
            else:
                _accepted(owner, said, batch, results)
        return moved

    def _failed(self, name: str, owners: Sequence[Owner], error: BusError, results: list[Result]) -> None:
        if native_code(error) in MISSING:
            self._streams.pop(name, None)  # it may be made anew, with other shards
        for owner in owners:
            if isinstance(owner, int):
                results[owner] = error
                continue
            for entry in owner.entries:
                results[entry.place] = error

    async def _after_a_move(
        self,
        name: str,
        stream: _Stream,
        moved: Sequence[tuple[Put, Mapping[str, Any]]],
        batch: Sequence[Outgoing],
        results: list[Result],
    ) -> None:
        """The stream was split or merged. What an aggregate brought into a shard that is not its own is sent again.

        Readers pass over it there, as those of the Kinesis Client Library do.
        """
        stream.asked = False
        await self._learn(name, stream)
        for put, said in moved:
            landed = stream.shards.by_id.get(said["ShardId"]) if stream.shards is not None else None
            _accepted(put, said, batch, results)
            for entry in put.entries[1:]:
                if landed is None or not landed.owns(entry.hash):
                    address = batch[entry.place].address
                    results[entry.place] = Unavailable(f"{address}: its shard was split or merged; to be sent again")


def _accepted(put: Put, said: Mapping[str, Any], batch: Sequence[Outgoing], results: list[Result]) -> None:
    position = f"{said['ShardId']}:{said['SequenceNumber']}"
    if len(put.entries) == 1:
        place = put.entries[0].place
        results[place] = Receipt(batch[place].id, position)
        return
    for sub, entry in enumerate(put.entries):
        results[entry.place] = Receipt(batch[entry.place].id, f"{position}:{sub}")


def _key_of(out: Outgoing) -> str:
    """A message without a key goes anywhere."""
    return partition_key(out.key) if out.key else out.id[:_KEY_CHARACTERS]


def partition_key(key: str) -> str:
    """The key itself where Kinesis takes it, else its hash."""
    if len(key) <= _KEY_CHARACTERS and (key.isascii() or _is_utf8(key)):
        return key
    return "sha256-" + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _is_utf8(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def _within_rates(puts: Sequence[Put], rates: Rates, results: list[Result]) -> list[Put]:
    """What may go now; the rest comes back as throttled. A shard that is full stays full for the rest of the batch."""
    going: list[Put] = []
    full: dict[str, float] = {}
    for put in puts:
        wait = full.get(put.shard) or rates.take(put)
        if not wait:
            going.append(put)
            continue
        full[put.shard] = wait
        error = Throttled(f"{put.shard}: gets more than it takes in a second (rate=... in the URL)", wait)
        for entry in put.entries:
            results[entry.place] = error
    return going


def _may_be_one(error: Refused) -> bool:
    return native_code(error) in ("Validation", "InvalidArgument")


_NO_RESULT = Unavailable("kinesis PutRecords: the answer has no result for this record; it may have been written")
