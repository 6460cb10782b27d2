"""The peer: async-kinesis, its rate limits raised so that they don't hold it back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kinesis.processors import StringProcessor

from benchmarks.kinesis.payload import PAUSE, REGION, Order, handle, order
from kinesis import Consumer, Producer


class Side:
    """Opened once, used round after round."""

    def __init__(self, endpoint: str, stream: str) -> None:
        self._endpoint, self._stream = endpoint, stream
        self._producer: Producer | None = None
        self._loop: asyncio.Task[None] | None = None
        self._handled: Callable[[], None] = lambda: None

    async def open(self, work: str) -> None:
        """`work`: send or consume."""
        common = {"endpoint_url": self._endpoint, "region_name": REGION, "processor": StringProcessor()}
        if work == "consume":
            consumer = Consumer(
                self._stream, sleep_time_no_records=PAUSE, shard_fetch_rate=5, checkpoint_interval=1.0, **common
            )
            self._loop = asyncio.create_task(self._read(consumer))
        else:
            self._producer = Producer(
                self._stream, put_rate_limit_per_shard=100_000, put_bandwidth_limit_per_shard=1 << 20, **common
            )
            await self._producer.__aenter__()

    async def close(self) -> None:
        """End the loops."""
        if self._loop is not None:
            self._loop.cancel()
        if self._producer is not None:
            await self._producer.close()

    async def send(self, count: int) -> None:
        """One by one into its queue, then flushed."""
        assert self._producer is not None
        for number in range(count):
            each = order(number)
            await self._producer.put(each.model_dump_json(), partition_key=each.customer)
        await self._producer.flush()

    def listen(self, handled: Callable[[], None]) -> None:
        """Told after each record."""
        self._handled = handled

    async def _read(self, consumer: Consumer) -> None:
        async with consumer:
            while True:
                async for data in consumer:
                    await handle(Order.model_validate_json(data))
                    self._handled()
