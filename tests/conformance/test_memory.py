"""The embedded broker in the shared suite."""

import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import ClassVar

import pytest
from tests.slowness import slowness

from msgbus import headers as h
from msgbus.brokers.memory import MemoryBroker
from msgbus.clock import Clock
from msgbus.message import Outgoing, Receipt, Source
from msgbus.testing.conformance import BrokerSuite, Harness

_names = itertools.count()
_MAX_BYTES = 65536

ODD: Sequence[tuple[bytes, dict[str, str]]] = (
    (b"", {}),
    (b"\xff\xfe\x00", {}),
    (b"{}", {}),
    (b"[" * 60_000, {h.CONTENT_TYPE: "application/json"}),
    (b'{"key": "odd", "number": 1e999}', {h.CONTENT_TYPE: "application/json"}),
    (b'{"key": "odd", "number": "\\ud800"}', {h.CONTENT_TYPE: "application/json"}),
    (b'{"key": "odd"', {h.CONTENT_TYPE: "application/json; charset=utf-7"}),
    (b"{}", {h.CONTENT_TYPE: "no/such\r\ntype"}),
    (b"not base64", {h.ENCODING: "base64"}),
    (b"{}", {"a" * 10_000: "b"}),
)
"""Bodies and headers that no Bus writes."""


class CuttableBroker(MemoryBroker):
    """Known to the harness, which closes it from outside: what a broken connection is to a broker without one."""

    opened: ClassVar[list["CuttableBroker"]] = []

    def __init__(self, url: str, *, clock: Clock) -> None:
        super().__init__(url, clock=clock)
        self.opened.append(self)


class MemoryHarness(Harness):
    """A server of its own per test."""

    brokers: ClassVar = {"cuttable-memory": CuttableBroker}
    patience = 5.0 * slowness()
    quiet = 0.06
    lease = 0.2 * slowness()
    delay = 0.15

    def __init__(self) -> None:
        self.url = f"cuttable-memory://conformance-{next(_names)}?dedup=300&replay=1000&max_bytes={_MAX_BYTES}"

    async def cut(self) -> None:
        for broker in CuttableBroker.opened:
            await broker.close()

    def spoil(self, out: Outgoing) -> None:
        out.body = bytes(_MAX_BYTES + 1)

    async def put_odd(self, source: Source) -> int:
        results = await CuttableBroker.opened[0].send(
            [Outgoing(source.address, str(number), *odd) for number, odd in enumerate(ODD)]
        )
        return sum(isinstance(result, Receipt) for result in results)

    async def places(self) -> Collection[str]:
        hub = CuttableBroker.opened[0].hub
        return [*hub.topics, *(str(address) for address in hub.queues)]


class TestMemory(BrokerSuite):
    @pytest.fixture
    def harness(self) -> Iterator[MemoryHarness]:
        yield MemoryHarness()
        CuttableBroker.opened.clear()
