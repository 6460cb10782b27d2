"""A broker on ministack, and an environment without anyone's AWS configuration."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from tests import awsenv
from tests.faults.http import Call, FaultyHttp, passed
from tests.servers import Handle
from tests.servers.fixtures import ministack, server_pool

from msgbus import headers as h
from msgbus.broker import Binding, QueueSpec, TopicSpec
from msgbus.brokers.kinesis import KinesisBroker
from msgbus.clock import SystemClock
from msgbus.message import Address, Outgoing, Source

__all__ = ["ministack", "server_pool"]

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keys of nobody."""
    awsenv.use(monkeypatch, tmp_path)


class Bench:
    """Brokers on one ministack behind a proxy, with names of their own. `calls`: what passed, by operation."""

    def __init__(self, handle: Handle) -> None:
        self.direct = handle.url
        self.proxy = FaultyHttp(handle.url, self._meet)
        self.topic = f"t{uuid.uuid4().hex[:10]}"
        self.calls: list[Call] = []
        self.meet: Any = passed
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Bench:
        await self._stack.enter_async_context(self.proxy)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _meet(self, call: Call) -> bytes | None:
        self.calls.append(call)
        said: bytes | None = await self.meet(call)
        return said

    def count(self, operation: str) -> int:
        """How often an operation was called."""
        return sum(call.operation == operation for call in self.calls)

    def url(self, **options: object) -> str:
        """A broker's URL; quick, unless `options` say otherwise."""
        given: dict[str, object] = {"shards": 2, "lease": 2, "poll": 0.02, "reads": 50, "rate": 0, "checkpoint": 0.05}
        given |= {"endpoint": self.proxy.url, **options}
        return f"kinesis://us-east-1?{urlencode(given)}"

    async def broker(self, **options: object) -> KinesisBroker:
        """A connected broker."""
        broker = KinesisBroker(self.url(**options), clock=SystemClock())
        await broker.connect()
        self._stack.push_async_callback(broker.close)
        return broker

    async def group(self, broker: KinesisBroker, group: str = "g", **more: Any) -> Source:
        """A declared group."""
        source = Source("topic", self.topic, group, **more)
        await broker.admin.ensure([TopicSpec(self.topic), QueueSpec(source), Binding(self.topic, source)], "create")
        return source

    def out(self, body: bytes | int, key: str | None = None, group: str = "", native: object = None) -> Outgoing:
        """A message."""
        number = next(_numbers)
        data = str(body).encode() if isinstance(body, int) else body
        out = Outgoing(Address("topic", self.topic, group), f"id-{number}", data, {h.ID: f"id-{number}"}, key)
        out.native = native
        return out


@pytest.fixture
async def bench(ministack: Handle) -> AsyncIterator[Bench]:
    async with Bench(ministack) as opened:
        yield opened
