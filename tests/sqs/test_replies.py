"""Reply inboxes: made, tagged, deleted, swept, or given where CreateQueue is not allowed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import pytest
from pydantic import BaseModel
from tests.faults.http import Call, FaultyHttp, answer
from tests.servers import Handle
from tests.sqs.conftest import Aws, url_of

from msgbus import Bus, Message, Rpc
from msgbus import headers as h
from msgbus.brokers.sqs.inbox import ALIVE, sweep
from msgbus.brokers.sqs.names import REPLY_PREFIX
from msgbus.clock import SystemClock
from msgbus.errors import Refused
from msgbus.message import Address, Outgoing, Receipt


class Ask(BaseModel):
    number: int


class Answer(BaseModel):
    double: int


@contextlib.asynccontextmanager
async def answering(bus: Bus, name: str, inboxes: list[str] | None = None):  # type: ignore[no-untyped-def]
    """Answers, and notes where the answers go: other tests have inboxes on this server too."""
    rpc = Rpc(name, Ask, Answer)

    @bus.responder(rpc)
    async def respond(ask: Message[Ask]) -> Answer:
        if inboxes is not None:
            inboxes.append(ask.headers[h.REPLY_TO])
        return Answer(double=2 * ask.payload.number)

    async with bus.consuming():
        yield rpc


async def inboxes(aws: Aws) -> set[str]:
    return set((await aws.sqs("ListQueues", QueueNamePrefix=REPLY_PREFIX)).get("QueueUrls") or ())


async def test_an_inbox_lives_as_long_as_its_bus(
    server: Handle, bus_on: Callable[..., Bus], aws: Aws, name: str
) -> None:
    used: list[str] = []
    async with answering(bus_on(server.url), name, used) as rpc, bus_on(server.url) as asking:
        assert await asking.request(rpc, Ask(number=4)) == Answer(double=8)
        (inbox,) = used
        tags = (await aws.sqs("ListQueueTags", QueueUrl=inbox))["Tags"]
        assert tags["msgbus"] == "reply inbox"
        assert tags[ALIVE].isdecimal()
    assert inbox not in await inboxes(aws)


async def test_a_given_queue_stays(server: Handle, bus_on: Callable[..., Bus], aws: Aws, name: str) -> None:
    own = f"{REPLY_PREFIX}{name}"  # a name that responders know without MSGBUS_REPLIES
    await aws.queue(own)
    asking = bus_on(server.url, f"&reply_queue={own}")
    used: list[str] = []
    async with answering(bus_on(server.url), name, used) as rpc, asking:
        assert await asking.request(rpc, Ask(number=5)) == Answer(double=10)
    assert used == [await aws.url(own)]
    assert await aws.url(own)


async def test_a_given_queue_that_is_not_there(server: Handle, bus_on: Callable[..., Bus], name: str) -> None:
    asking = bus_on(server.url, f"&reply_queue={name}-replies")
    async with answering(bus_on(server.url), name) as rpc, asking:
        with pytest.raises(Refused, match=f"reply_queue={name}-replies: no such SQS queue"):
            await asking.request(rpc, Ask(number=5))


async def test_where_queues_may_not_be_made_the_remedy_is_said(
    server: Handle, bus_on: Callable[..., Bus], name: str
) -> None:
    async def deny(call: Call) -> bytes | None:
        if call.operation == "CreateQueue":
            return answer(403, json.dumps({"__type": "AccessDeniedException", "message": "no"}).encode())
        return answer(*await call.forward())

    async with (
        answering(bus_on(server.url), name) as rpc,
        FaultyHttp(server.url, deny) as proxy,
        Bus(url_of(proxy.url)) as asking,
    ):
        with pytest.raises(Refused, match=r"allow sqs:CreateQueue on queue msgbus-reply-.*\?reply_queue=NAME"):
            await asking.request(rpc, Ask(number=5))


async def test_orphans_are_swept_and_the_living_are_not(aws: Aws) -> None:
    now = int(SystemClock().time())
    made = {}
    for owner, tags in {
        "dead": {ALIVE: str(now - 4000)},
        "living": {ALIVE: str(now - 100)},
        "strange": {ALIVE: "yesterday"},
        "untagged": {},
    }.items():
        queue = await aws.sqs("CreateQueue", QueueName=f"{REPLY_PREFIX}{owner}-{now}", tags=tags)
        made[owner] = queue["QueueUrl"]
    await sweep(aws.client, SystemClock())  # or a bus of another test did
    left = await inboxes(aws)
    assert [owner for owner, url in made.items() if url in left] == ["living", "strange", "untagged"]
    for owner in ("living", "strange", "untagged"):
        await aws.sqs("DeleteQueue", QueueUrl=made[owner])


async def test_a_reply_to_a_requester_that_is_gone_is_no_error(
    server: Handle, aws: Aws, name: str, bus_on: Callable[..., Bus]
) -> None:
    url = await aws.queue(f"{REPLY_PREFIX}{name}")
    await aws.sqs("DeleteQueue", QueueUrl=url)
    async with bus_on(server.url) as bus:
        broker = bus.link_for("any").broker
        (result,) = await broker.send([Outgoing(Address("reply", url), "1", b"{}", {})])
        assert isinstance(result, Receipt)
        assert result.unrouted
        (result,) = await broker.send([Outgoing(Address("reply", "nonsense"), "1", b"{}", {})])
        assert isinstance(result, Refused)
        assert "no reply address of SQS: expected the URL of a queue" in str(result)
