"""The embedded broker with less: what it does not claim, it does not do.

A suite that changed, or a core of yours, is tried on them: they take the other half of every test.
"""

# ruff: noqa: S101 - what the core must never ask for, it asserts

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

from msgbus.broker import Admin, Capabilities, Difference, Mode, Part, Status, TopicSpec
from msgbus.brokers.memory import MemoryBroker
from msgbus.brokers.memory.broker import MemoryReceiver
from msgbus.clock import Clock
from msgbus.errors import BusError, Refused
from msgbus.message import Act, Delivery, Outgoing, Receipt, Settlement, Source, Start

WORK_QUEUE = Capabilities(
    message_bytes=65536, headers=10, settle_slots=2, confirms_settlement=True, queues=True, send_slots=2
)
"""Text bodies, ten headers, one at a time, no order, nothing native: a plain work queue."""

STREAM = Capabilities(
    send_batch=5, send_bytes=200_000, send_slots=4, send_order="gated", message_bytes=65536, headers=0, receive_batch=7,
    order="key", settle_batch=7, settle_linger=0.001, confirms_settlement=True, fanout=True, replay=True,
)  # fmt: skip
"""Topics without headers, ordered by key, retries held in the core: a stream."""


class LesserBroker:
    """Wraps a MemoryBroker; a release takes effect when its receiver is left."""

    claims: Capabilities

    def __init__(self, url: str, *, clock: Clock) -> None:
        self.inner = MemoryBroker(url, clock=clock)
        self.admin: Admin = cast(Admin, _LesserAdmin(self.inner.admin, self.claims))

    async def connect(self) -> None:
        await self.inner.connect()

    async def close(self) -> None:
        await self.inner.close()

    def capabilities(self, source: Source | None = None) -> Capabilities:
        return self.claims

    def status(self) -> Status:
        return self.inner.status()

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Receipt | BusError]:
        assert len(batch) <= self.claims.send_batch
        results: list[Receipt | BusError] = []
        for out in batch:
            if (error := _misfit(out, self.claims)) is None:
                plain = replace(out, headers=dict(out.headers), dedup_id=None, expires_at=None)
                results += await self.inner.send([plain])
            else:
                results.append(error)
        return results

    @asynccontextmanager
    async def receiver(self, source: Source, *, prefetch: int) -> AsyncIterator[_LesserReceiver]:
        async with self.inner.receiver(_unfiltered(source), prefetch=prefetch) as receiver:
            lesser = _LesserReceiver(receiver, self.claims)
            yield lesser
            await receiver.settle(lesser.released)


class WorkQueue(LesserBroker):
    """A plain work queue."""

    claims = WORK_QUEUE


class Stream(LesserBroker):
    """A stream."""

    claims = STREAM


def _misfit(out: Outgoing, claims: Capabilities) -> Refused | None:
    """Why the server would not take it."""
    if claims.headers is not None and len(out.headers) > max(claims.headers, 1):
        return Refused("too many headers")
    if any(byte < 32 and byte not in b"\t\n\r" for byte in out.body) or not _is_text(out.body):
        return Refused("the body is no text")
    return None


def _unfiltered(source: Source) -> Source:
    """Filters need headers."""
    return replace(source, filter=())


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


class _LesserReceiver:
    def __init__(self, inner: MemoryReceiver, claims: Capabilities) -> None:
        self._inner = inner
        self._claims = claims
        self.address = ""
        self.released: list[Settlement] = []
        self.stop = inner.stop

    async def receive(self, limit: int, wait: float) -> Sequence[Delivery]:
        assert limit <= self._claims.receive_batch
        batch = await self._inner.receive(limit, wait)
        for delivery in batch:  # in place: the inner receiver knows its own deliveries
            delivery.deliveries = delivery.attempt = 1
            if not self._claims.headers:
                delivery.headers = {}
        return batch

    async def settle(self, batch: Sequence[Settlement]) -> Sequence[BusError | None]:
        assert len(batch) <= self._claims.settle_batch
        results: list[BusError | None] = []
        for settlement in batch:
            assert settlement.act is not Act.RETRY, "the core must hold it"
            if settlement.act is Act.RELEASE and settlement.delivery.token.holder is self._inner:
                self.released.append(settlement)
                results.append(None)
            else:
                results += await self._inner.settle([settlement])
        return results

    async def extend(self, batch: Sequence[Delivery], seconds: float) -> Sequence[BusError | None]:
        raise AssertionError("not claimed")


class _LesserAdmin:
    """The inner Admin without dead letters, and without replay where it is not claimed."""

    def __init__(self, inner: Admin, claims: Capabilities) -> None:
        self._inner = inner
        self._claims = claims

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def ensure(self, topology: Sequence[Part], mode: Mode) -> Sequence[Difference]:
        plain = [
            part if isinstance(part, TopicSpec) else replace(part, source=_unfiltered(part.source)) for part in topology
        ]
        return await self._inner.ensure(plain, mode)

    async def dead_letters(self, source: Source) -> Source | None:
        return None

    async def backlog(self, source: Source) -> None:
        return None

    async def seek(self, source: Source, start: Start) -> None:
        if not self._claims.replay:
            raise Refused("no replay")
        await self._inner.seek(source, start)
