"""A receiver and the admin on their own: what is lost, what is refused, and that each entry stands for itself."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.faults.http import Call, FaultyHttp, answer
from tests.servers import Handle
from tests.sqs.conftest import Aws, url_of

from msgbus.broker import QueueSpec, Receiver
from msgbus.brokers.sqs import SqsBroker
from msgbus.clock import Clock, SystemClock
from msgbus.errors import LeaseLost, ReceiverClosed, Refused, Throttled, Unavailable
from msgbus.message import Act, Address, Delivery, Outgoing, Settlement, Source, Start


class AheadClock(SystemClock):
    """The machine's, and `ahead` seconds more."""

    ahead = 0.0

    def now(self) -> float:
        return time.monotonic() + self.ahead


@asynccontextmanager
async def connected(url: str, clock: Clock | None = None) -> AsyncIterator[SqsBroker]:
    broker = SqsBroker(url, clock=clock or SystemClock())
    await broker.connect()
    try:
        yield broker
    finally:
        await broker.close()


async def fill(broker: SqsBroker, source: Source, count: int) -> None:
    outs = [Outgoing(source.address, str(number), b"{}", {"n": str(number)}) for number in range(count)]
    assert not [result for result in await broker.send(outs) if isinstance(result, Exception)]


async def take(receiver: Receiver, count: int) -> list[Delivery]:
    taken: list[Delivery] = []
    while len(taken) < count:
        taken.extend(await receiver.receive(count - len(taken), 5.0))
    return taken


async def test_an_expired_handle_is_a_lost_lease(fauxqs: Handle, aws_fauxqs: Aws, name: str) -> None:
    """What the service says of a handle that is too old, for one entry of a call."""
    source = Source("queue", name)

    async def meet(call: Call) -> bytes | None:
        if call.operation not in ("DeleteMessageBatch", "ChangeMessageVisibilityBatch"):
            return answer(*await call.forward())
        first, *others = call.params["Entries"]
        said = {
            "Successful": [{"Id": entry["Id"]} for entry in others],
            "Failed": [
                {"Id": first["Id"], "Code": "ReceiptHandleIsInvalid", "SenderFault": True, "Message": "expired"}
            ],
        }
        return answer(200, json.dumps(said).encode())

    async with FaultyHttp(fauxqs.url, meet) as proxy, connected(url_of(proxy.url)) as broker:
        await broker.admin.ensure([QueueSpec(source)], "create")
        await fill(broker, source, 2)
        async with broker.receiver(source, prefetch=10) as receiver:
            held = await take(receiver, 2)
            lost, kept = await receiver.extend(held, 60.0)
            assert isinstance(lost, LeaseLost)
            assert kept is None
            lost, deleted = await receiver.settle([Settlement(each, Act.ACK) for each in held])
            assert isinstance(lost, LeaseLost)  # known by now: nothing was sent for it, the other one was the first
            assert isinstance(deleted, LeaseLost)


async def test_a_lease_that_ran_out_is_not_settled(fauxqs: Handle, name: str) -> None:
    source, clock = Source("queue", name), AheadClock()
    async with connected(url_of(fauxqs.url), clock) as broker:
        await broker.admin.ensure([QueueSpec(source, lease=1.0)], "create")
        await fill(broker, source, 1)
        async with broker.receiver(source, prefetch=10) as receiver:
            (first,) = await take(receiver, 1)
            clock.ahead = 1.0  # what came late to a busy process would end late there
            (again,) = await take(receiver, 1)  # a second later: its visibility ended
            results = await receiver.settle([Settlement(first, Act.ACK), Settlement(again, Act.ACK)])
            assert [type(each) for each in results] == [LeaseLost, type(None)]
            assert again.deliveries == 2
    with pytest.raises(ReceiverClosed):
        await receiver.receive(1, 0.0)


async def test_the_lease_that_is_claimed_is_in_force_whatever_the_queue_is_made_to_have(
    server: Handle, broker: SqsBroker, aws: Aws, name: str
) -> None:
    source = Source("queue", name)
    await broker.admin.ensure([QueueSpec(source, lease=60.0)], "create")
    async with broker.receiver(source, prefetch=10) as receiver:
        async with connected(url_of(server.url)) as other:
            await other.admin.ensure([QueueSpec(source, lease=1.0)], "create")
            assert (broker.capabilities(source).lease, other.capabilities(source).lease) == (60.0, 1.0)
        await fill(broker, source, 1)
        held = await take(receiver, 1)
        assert not await aws.receive(name, wait=2), "a second later it is still ours"
        assert list(await receiver.settle([Settlement(each, Act.ACK) for each in held])) == [None]


async def test_one_dead_letter_without_room_does_not_hold_up_the_others(broker: SqsBroker, aws: Aws, name: str) -> None:
    source = Source("queue", name)
    await broker.admin.ensure([QueueSpec(source)], "create")
    full = {f"b{number}": {"DataType": "Binary", "BinaryValue": b"x"} for number in range(10)}
    url = await aws.url(name)
    for attributes in ({}, full, {}):
        await aws.sqs("SendMessage", QueueUrl=url, MessageBody="{}", MessageAttributes=attributes)
    async with broker.receiver(source, prefetch=10) as receiver:
        held = await take(receiver, 3)
        results = await receiver.settle([Settlement(each, Act.DEAD, reason="bad") for each in held])
        refused = [each for each, result in zip(held, results, strict=True) if result is not None]
        (left,) = refused
        assert len(left.raw["MessageAttributes"]) == 10
        assert isinstance(results[held.index(left)], Refused)
        assert await receiver.settle([Settlement(left, Act.ACK)]) == [None]  # it is still ours
    assert len(await aws.receive(f"{name}-dead", wait=1)) == 2


async def test_without_a_dead_letter_queue_the_message_stays(broker: SqsBroker, aws: Aws, name: str) -> None:
    source = Source("queue", name)
    await aws.queue(name)
    await fill(broker, source, 1)
    async with broker.receiver(source, prefetch=10) as receiver:
        (held,) = await take(receiver, 1)
        (error,) = await receiver.settle([Settlement(held, Act.DEAD, reason="bad")])
        assert isinstance(error, Refused)
        assert f"its dead-letter queue {name}-dead is not there; create it" in str(error)
        assert await receiver.settle([Settlement(held, Act.RELEASE)]) == [None]
    assert len(await aws.receive(name)) == 1


async def test_what_nobody_took_is_given_back_at_once(broker: SqsBroker, aws: Aws, name: str) -> None:
    source = Source("queue", name)
    await broker.admin.ensure([QueueSpec(source, lease=60.0)], "create")
    await fill(broker, source, 5)
    async with broker.receiver(source, prefetch=10) as receiver:
        assert len(await take(receiver, 1)) == 1
    seen: list[object] = []
    while len(seen) < 4:  # the fifth is invisible for a minute: it was handed in
        seen.extend(await aws.receive(name))
    assert len(seen) == 4


async def test_admin(broker: SqsBroker, name: str) -> None:
    source = Source("queue", name)
    await broker.admin.ensure([QueueSpec(source)], "create")
    await fill(broker, source, 3)
    backlog = await broker.admin.backlog(source)
    assert (backlog.depth, backlog.in_flight, backlog.oldest) == (3, 0, None)
    assert await broker.admin.purge(source) == 3
    assert (await broker.admin.backlog(source)).depth == 0
    with pytest.raises(Refused, match="SQS keeps nothing for replay"):
        await broker.admin.seek(source, Start("oldest"))


async def test_two_purges_within_a_minute(fauxqs: Handle, aws_fauxqs: Aws, name: str) -> None:
    await aws_fauxqs.queue(name)

    async def meet(call: Call) -> bytes | None:
        if call.operation == "PurgeQueue":
            refused = {"__type": "com.amazonaws.sqs#PurgeQueueInProgress", "message": "Only one PurgeQueue"}
            return answer(403, json.dumps(refused).encode())
        return answer(*await call.forward())

    async with FaultyHttp(fauxqs.url, meet) as proxy, connected(url_of(proxy.url)) as broker:
        with pytest.raises(Throttled, match="Only one PurgeQueue") as throttled:
            await broker.admin.purge(Source("queue", name))
    assert throttled.value.retry_after == 60.0


async def test_an_answer_without_a_result_for_an_entry_is_no_success(
    fauxqs: Handle, aws_fauxqs: Aws, name: str
) -> None:
    await aws_fauxqs.queue(name)

    async def meet(call: Call) -> bytes | None:
        if call.operation == "SendMessageBatch":
            return answer(200, json.dumps({"Successful": [{"Id": "1", "MessageId": "m"}]}).encode())
        return answer(*await call.forward())

    async with FaultyHttp(fauxqs.url, meet) as proxy, connected(url_of(proxy.url)) as broker:
        outs = [Outgoing(Address("queue", name), str(number), b"{}", {}) for number in range(2)]
        unknown, sent = await broker.send(outs)
    assert "no result for this entry" in str(unknown)
    assert not isinstance(sent, Exception)


async def test_a_queue_that_is_deleted_closes_its_receiver(broker: SqsBroker, aws: Aws, name: str) -> None:
    source = Source("queue", name)
    await broker.admin.ensure([QueueSpec(source)], "create")
    async with broker.receiver(source, prefetch=10) as receiver:
        await aws.sqs("DeleteQueue", QueueUrl=await aws.url(name))
        with pytest.raises(ReceiverClosed, match="the queue is gone"):
            await take(receiver, 1)
    (error,) = await broker.send([Outgoing(source.address, "1", b"{}", {})])
    assert isinstance(error, Refused)
    assert "is not there" in str(error)


async def test_polls_that_fail_are_told_and_tried_again(
    fauxqs: Handle, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source("queue", name)
    failing = True

    async def meet(call: Call) -> bytes | None:
        if call.operation == "ReceiveMessage" and failing:
            return answer(503, b'{"__type":"ServiceUnavailable","message":"busy"}')
        return answer(*await call.forward())

    async with FaultyHttp(fauxqs.url, meet) as proxy, connected(url_of(proxy.url)) as broker:
        await broker.admin.ensure([QueueSpec(source)], "create")
        await fill(broker, source, 1)
        async with broker.receiver(source, prefetch=10) as receiver:
            for _ in range(2):
                with pytest.raises(Unavailable, match="busy"):
                    await receiver.receive(1, 5.0)
            failing = False
            assert len(await take(receiver, 1)) == 1
    assert [each.message.partition(":")[0] for each in caplog.records] == ["receiving fails"]  # said once
