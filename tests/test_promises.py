"""What docs/explanation/security.md promises and no other test asks for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from pydantic import BaseModel
from tests.slowness import slowness

from msgbus import Bus, Queue, Retry
from msgbus import headers as h
from msgbus.config import Settings
from msgbus.message import Address, Outgoing

SECRET = "4111-1111-secret"


class Payment(BaseModel):
    """Holds what no log may show."""

    card: str
    amount: int


@dataclass
class Refund:
    """Another declared type."""

    amount: int


class Undeclared(BaseModel):
    """Importable, and nobody's payload."""

    amount: int


PAYMENTS: Queue[Payment | Refund] = Queue("payments", Payment | Refund)
MADE_UP = ("os.system", "builtins.eval", "tests.test_promises.Undeclared", "Undeclared", "pydantic.BaseModel", "")


@asynccontextmanager
async def paid(attempts: Sequence[Outgoing]) -> AsyncIterator[tuple[list[object], list[BaseException]]]:
    """A bus that has handled them all: what its handler was given, and why messages are dead."""
    bus = Bus(settings=Settings(url="memory://"))
    handled: list[object] = []
    dead: list[BaseException] = []
    all_done = asyncio.Semaphore(0)

    async def on_dead(_: object, error: BaseException) -> None:
        dead.append(error)
        all_done.release()

    @bus.consumer(PAYMENTS, retry=Retry(attempts=1, on_dead=on_dead))
    async def pay(payment: Payment | Refund) -> None:
        handled.append(payment)
        all_done.release()
        if isinstance(payment, Payment) and payment.amount < 0:
            handled.pop()
            raise ValueError("no card takes a negative amount")

    async with bus.consuming():
        (link,) = bus.links.values()
        await link.broker.send(attempts)
        async with asyncio.timeout(20 * slowness()):
            for _ in attempts:
                await all_done.acquire()
        yield handled, dead


def raw(body: bytes, kind: str, number: int = 0) -> Outgoing:
    """As a foreign producer puts it there."""
    headers = {h.ID: f"id-{number}", h.TYPE: kind, h.CONTENT_TYPE: "application/json"}
    return Outgoing(Address("queue", "payments"), f"id-{number}", body, headers)


async def test_only_declared_types_are_made() -> None:
    good = raw(b'{"amount": 3}', "Refund", 99)
    async with paid([*(raw(b'{"amount": 1}', kind, n) for n, kind in enumerate(MADE_UP)), good]) as (handled, dead):
        assert {type(payload) for payload in handled} <= {Payment, Refund}
        assert Refund(3) in handled
        assert len(handled) + len(dead) == len(MADE_UP) + 1


async def test_no_line_of_a_log_has_a_body(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bodies = (
        b'{"card": "%s", "amount": "all of it"}',  # of the wrong type
        b'{"card": "%s"',  # no JSON
        b'{"card": "%s", "amount": -1}',  # the handler raises
        b'{"card": ["%s"], "amount": 1}',
        b'"%s"',
    )
    async with paid([raw(b % SECRET.encode(), "Payment", n) for n, b in enumerate(bodies)]) as (handled, dead):
        assert handled == []
        assert len(dead) == len(bodies)
    assert caplog.records
    shown = [record.getMessage() + (record.exc_text or "") + repr(record.__dict__) for record in caplog.records]
    assert not [line for line in shown if SECRET in line]
    assert not [error for error in dead if SECRET in str(error)]
