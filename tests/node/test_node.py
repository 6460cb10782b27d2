"""Services in Node beside a msgbus service, on each broker, with the clients that people use there."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from tests import awsenv
from tests.node.peer import Peer, running
from tests.servers import Handle
from tests.slowness import slowness
from tests.sqs.conftest import url_of

from msgbus import Bus, Message, Queue, Rpc, Settings

pytestmark = pytest.mark.timeout(180)  # where npm has to fetch the client first
COUNT = 100
PATIENCE = 60.0 * slowness()
NOTES = (
    "plain",
    "\u00fc\u20ac",
    "\U0001f680 \U0001f469\u200d\U0001f680",
    'a "quote" \\ and\nlines\r\n',
    "\u2400",
    "\u202eabc",
    "",
)


class Order(BaseModel):
    """Of either side."""

    n: int
    note: str


class Price(BaseModel):
    """The answer."""

    cents: int


@dataclass(frozen=True)
class World:
    """A broker as both sides see it, and names that nobody else has."""

    client: str
    peer: Peer
    url: str
    prefix: str

    def bus(self) -> Bus:
        """Not yet open."""
        return Bus(settings=Settings(url=self.url, prefix=self.prefix, provision="create"))

    async def theirs(self, verb: str, name: str, **about: Any) -> Any:
        """What the peer makes of the queue of that name."""
        async with asyncio.timeout(PATIENCE):
            return await self.peer.run(verb, queue=self.prefix + name, **about)


@pytest.fixture(params=["amqplib", "stompit", "stompjs", "sqs"])
async def world(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[World]:
    """Each client with its server."""
    awsenv.use(monkeypatch, tmp_path)
    client: str = request.param
    server: Handle = request.getfixturevalue({"amqplib": "rabbitmq", "sqs": "ministack"}.get(client, "activemq"))
    url = {"amqplib": server.url, "sqs": url_of(server.url)}.get(client, server.url)
    async with running(client, server.url) as peer:
        yield World(client, peer, url, f"n{uuid.uuid4().hex[:8]}-")


def bodies() -> list[str]:
    """Ours and theirs: one in each way that texts are odd."""
    return [Order(n=n, note=NOTES[n % len(NOTES)]).model_dump_json() for n in range(COUNT)]


async def test_theirs_come_to_a_handler_with_their_headers(world: World) -> None:
    bus, done = world.bus(), asyncio.Event()
    got: list[Message[Order]] = []

    @bus.consumer(Queue("orders", Order))
    async def take(message: Message[Order]) -> None:
        got.append(message)
        if len(got) == COUNT:
            done.set()

    async with bus.consuming():
        await world.theirs(
            "send", "orders", messages=[{"body": each, "headers": {"tenant": "t1"}} for each in bodies()]
        )
        async with asyncio.timeout(PATIENCE):
            await done.wait()
    assert sorted(message.payload.model_dump_json() for message in got) == sorted(bodies())
    assert {message.headers["tenant"] for message in got} == {"t1"}
    ids = {message.id for message in got}
    assert len(ids) == COUNT or (world.client in ("amqplib", "sqs") and ids == {""})


async def test_ours_come_to_them_as_plain_json(world: World) -> None:
    bus, orders = world.bus(), Queue("orders", Order)
    bus.consumer(orders)(_nobody)
    async with bus.consuming():  # makes the queue
        pass
    async with bus:
        sent = [Order.model_validate_json(each) for each in bodies()]
        await bus.publish_many(orders, sent, headers={"tenant": "t1"})
        found = await world.theirs("receive", "orders", count=COUNT)
    assert sorted(each["body"] for each in found) == sorted(bodies())
    assert {_headers(each).get("tenant") for each in found} == {"t1"}
    assert len({_headers(each).get("ce-id") for each in found} - {None}) == COUNT


async def test_they_ask_and_are_answered(world: World) -> None:
    bus = world.bus()

    @bus.responder(Rpc("prices", Order, Price, errors=(LookupError,)))
    async def price(order: Order) -> Price:
        if order.n < 0:
            raise LookupError("no such order")
        return Price(cents=order.n)

    async with bus.consuming():
        for n in (7, -1):
            inbox = f"msgbus-reply-node-{uuid.uuid4().hex[:8]}" if world.client == "sqs" else ""
            reply = await world.theirs("ask", "prices", body=json.dumps({"n": n, "note": ""}), inbox=inbox)
            assert reply["correlation"] == "c-1"
            if n > 0:
                assert json.loads(reply["body"]) == {"cents": 7}
            else:
                assert (_headers(reply)["msgbus-reply-error"], reply["body"]) == ("LookupError", "no such order")


async def test_they_answer_what_we_ask(world: World) -> None:
    bus, prices = world.bus(), Rpc("prices", Order, Price)
    bus.responder(prices)(_price)
    async with bus.consuming():  # makes the queue
        pass
    async with bus:
        answering = asyncio.create_task(world.theirs("answer", "prices", body='{"cents": 450}'))
        assert await bus.request(prices, Order(n=1, note="\U0001f680"), timeout=PATIENCE) == Price(cents=450)
        (request,) = await answering
    assert json.loads(request["body"]) == {"n": 1, "note": "\U0001f680"}


def _headers(message: Any) -> dict[str, str]:
    """Those in the attribute that SQS has them in beside the others."""
    headers: dict[str, str] = message["headers"]
    return {**headers, **json.loads(headers.get("msgbus", "{}"))}


async def _nobody(order: Order) -> None:
    """The queue is made for it."""


async def _price(order: Order) -> Price:
    """The queue is made for it."""
    return Price(cents=1)
