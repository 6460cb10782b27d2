"""Writes every record of a stream to an archive: a consumer group of its own, whose handler is a file."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence
from importlib.util import find_spec
from typing import get_args

from msgbus import backoff
from msgbus.archive import objects
from msgbus.archive.chunks import Chunk, Chunks
from msgbus.archive.record import Format
from msgbus.archive.store import ArchiveStore
from msgbus.broker import Broker, KeepsLeases, Receiver
from msgbus.clock import Clock, SystemClock
from msgbus.errors import PASSING, BusError, ConfigError, LeaseLost, ReceiverClosed
from msgbus.message import Act, Delivery, Settlement, Source

log = logging.getLogger("msgbus.archive")

_WAIT = 0.5  # seconds of one receive: how late an idle chunk may be noticed
_BATCH = 1000


class Archiver:
    """Reads `source`, whose group must be declared, and checkpoints only what is written.

    Several may run: they share the shards. `window`: seconds of one chunk. `grace`: seconds after its end that an idle
    chunk waits for late records. `prefetch`: records in memory, of all shards. `format`: jsonl, or avro, which needs
    the extra of that name. Objects are named `TOPIC/YYYY/MM/DD/HH/SHARD/MMSS-SEQUENCE-SUB.FORMAT`.
    """

    def __init__(
        self,
        broker: Broker,
        source: Source,
        store: ArchiveStore,
        *,
        window: float = 10.0,
        grace: float = 5.0,
        prefetch: int = 40_000,
        format: Format = "jsonl",  # noqa: A002 - a keyword
        clock: Clock | None = None,
    ) -> None:
        _check(format)
        self.written = 0
        self._broker = broker
        self._source = source
        self._store = store
        self._window = window
        self._grace = grace
        self._prefetch = prefetch
        self._format: Format = format
        self._clock = clock or SystemClock()
        self._stopping = False
        self._receiver: Receiver | None = None

    async def run(self) -> None:
        """Until `stop`. A receiver that dies is replaced; raises Refused where stream or bucket are missing."""
        failures = 0
        while not self._stopping:
            try:
                async with self._broker.receiver(self._source, prefetch=self._prefetch) as receiver:
                    self._receiver = receiver
                    await self._archive(receiver)
            except (ReceiverClosed, *PASSING) as error:
                failures += 1
                log.warning("%s: reading again: %s", self._source, error)
                await self._clock.sleep(backoff.delay(failures, 0.1, longest=10.0))
            finally:
                self._receiver = None

    async def stop(self) -> None:
        """Write what is open, and end."""
        self._stopping = True
        if self._receiver is not None:
            await self._receiver.stop()

    async def _archive(self, receiver: Receiver) -> None:
        chunks = Chunks(self._window)
        if isinstance(receiver, KeepsLeases):
            receiver.on_lost = lambda delivery, error: chunks.drop(delivery.raw["ShardId"])
        while not self._stopping:
            for delivery in await receiver.receive(_BATCH, _WAIT):
                for chunk in chunks.add(delivery):
                    await self._write(receiver, chunk)
            for chunk in chunks.over(self._clock.time(), self._grace):
                await self._write(receiver, chunk)
        for chunk in chunks.all():
            await self._write(receiver, chunk)

    async def _write(self, receiver: Receiver, chunk: Chunk) -> None:
        """The object first, then the checkpoint."""
        name = f"{self._source.name}/{chunk.name(self._format)}"
        what = (name, self._source.name, chunk.records, self._format)
        encoded = await asyncio.to_thread(objects.encode, *what) if chunk.size > 1 << 20 else objects.encode(*what)
        for attempt in itertools.count(1):
            try:
                await self._store.put(name, encoded)
                break
            except PASSING as error:
                log.warning("%s: writing %s: %s", self._source, name, error)
                await self._clock.sleep(backoff.delay(attempt, 0.1, longest=10.0))
        self.written += len(chunk.records)
        await self._settle(receiver, chunk.deliveries)

    async def _settle(self, receiver: Receiver, deliveries: Sequence[Delivery]) -> None:
        for start in range(0, len(deliveries), _BATCH):
            batch = [Settlement(delivery, Act.ACK) for delivery in deliveries[start : start + _BATCH]]
            for result in await receiver.settle(batch):
                if isinstance(result, BusError) and not isinstance(
                    result, LeaseLost
                ):  # that is written again, the same
                    raise result


def _check(format_: str) -> None:
    if format_ not in get_args(Format):
        raise ConfigError(f"format={format_!r}: allowed are {', '.join(get_args(Format))}")
    if format_ == "avro" and find_spec("fastavro") is None:
        raise ConfigError("an archive in Avro needs fastavro: install msgbus[avro]")
