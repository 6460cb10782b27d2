"""Dead letters on the embedded broker: looking keeps them, a redrive loses none, whatever interrupts it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from tests.conftest import OpenScripted
from tests.models import ORDERED, ORDERS, PRICES, WORK, Ask, Order, Price, orders
from tests.scripted import PLAIN, ScriptedBroker, delivery, turns

from msgbus import Bus, ConfigError, LeaseLost, Message, Refused, Reject, Throttled, Timeout, Topic
from msgbus import headers as h
from msgbus.broker import Broker
from msgbus.config import load_settings
from msgbus.dead import DeadLetters
from msgbus.message import Act, Address, Delivery, Outgoing, Receipt, Settlement, Source

SOURCE = Source("topic", "orders", "billing")


class Counted(list[Any]):
    """A list that can be awaited to have so many entries."""

    def __init__(self) -> None:
        super().__init__()
        self._grown = asyncio.Event()

    def append(self, entry: Any) -> None:
        super().append(entry)
        self._grown.set()

    async def reach(self, count: int) -> None:
        while len(self) < count:
            self._grown.clear()
            await self._grown.wait()


class Shop:
    """A bus whose billing group rejects everything until `healed`, and whose other group takes it."""

    def __init__(self, url: str = "memory://") -> None:
        self.bus = Bus(url, on_dead=[self.died])
        self.healed = False
        self.billed = Counted()
        self.shipped = Counted()
        self.dead = Counted()
        self.bus.subscriber(ORDERS, group="billing")(self.bill)
        self.bus.subscriber(ORDERS, group="shipping")(self.ship)

    async def bill(self, message: Message[Order]) -> None:
        if not self.healed:
            raise Reject("no funds")
        self.billed.append(message)

    async def ship(self, order: Order) -> None:
        self.shipped.append(order.order_id)

    async def died(self, delivery: Delivery, error: Exception) -> None:
        self.dead.append(delivery)

    @property
    def broker(self) -> Broker:
        (link,) = self.bus.links.values()
        return link.broker

    @property
    def letters(self) -> DeadLetters:
        return DeadLetters(self.bus, ORDERS, "billing", wait=0.0)

    async def kill(self, *ids: str) -> None:
        """Publish orders that die in billing."""
        self.healed = False
        await self.bus.publish_many(ORDERS, orders(*ids))
        await self.dead.reach(len(self.dead) + len(ids))
        await self.shipped.reach(len(self.dead))

    async def redelivered(self, count: int) -> list[str]:
        """The orders that billing got, once it got so many."""
        await self.billed.reach(count)
        await turns()
        return [message.payload.order_id for message in self.billed]


async def test_looking_keeps_them() -> None:
    shop = Shop()
    async with shop.bus.consuming():
        await shop.kill("1", "2", "3")
        for _ in range(3):
            letters = await shop.letters.peek()
        assert [letter.headers[h.DEAD_REASON] for letter in letters] == ["no funds"] * 3
        assert await shop.letters.count() == 3
        assert len(await shop.letters.peek(2)) == 2
        assert list(await shop.letters.peek(0)) == []
        first = letters[0]
        assert (first.reason, first.error_type, first.attempts, first.origin) == (
            "no funds",
            "Reject",
            1,
            "topic/orders/billing",
        )
        found = await shop.letters.find(letters[1].id)
        assert found is not None
        assert found.body == letters[1].body
        assert await shop.letters.find("nobody") is None
        assert await shop.letters.count() == 3


async def test_purge_throws_them_away() -> None:
    shop = Shop()
    async with shop.bus.consuming():
        await shop.kill("1", "2")
        assert await shop.letters.purge() == 2
        assert await shop.letters.count() == 0


async def test_a_redrive_reaches_its_group_alone_with_a_clean_slate() -> None:
    shop = Shop()
    async with shop.bus.consuming():
        await shop.kill("1", "2")
        shop.healed = True
        steps: list[int] = []
        result = await shop.letters.redrive(progress=steps.append)
        assert (result.moved, result.doubled, result.failed, result.left) == (2, (), (), 0)
        assert steps == [2]
        assert await shop.redelivered(2) == ["1", "2"]
        assert shop.shipped == ["1", "2"]
        assert [message.attempt for message in shop.billed] == [1, 1]
        assert all(message.headers[h.HOP] == "1" for message in shop.billed)
        assert not any(set(h.FAILURE) & set(message.headers) for message in shop.billed)
        assert await shop.letters.count() == 0


@pytest.mark.parametrize("target", [ORDERS, "orders"])
async def test_the_same_message_twice_inside_the_deduplication_window(target: Topic[Order] | str) -> None:
    shop = Shop("memory://?dedup=300")
    async with shop.bus.consuming():
        await shop.kill("1")
        for _ in range(3):
            assert (await DeadLetters(shop.bus, target, "billing", wait=0.0).redrive()).moved == 1
            await shop.dead.reach(len(shop.dead) + 1)
            assert await shop.letters.count() == 1
        shop.healed = True
        assert (await shop.letters.redrive()).moved == 1
        assert await shop.redelivered(1) == ["1"]
        assert shop.billed[0].headers[h.HOP] == "4"


async def test_what_fails_again_meanwhile_is_not_sent_for_ever() -> None:
    shop = Shop()
    async with shop.bus.consuming():
        await shop.kill(*map(str, range(250)))  # several steps, in which the first ones fail again
        result = await shop.letters.redrive()
        assert result.moved == 250
        await shop.dead.reach(500)
        assert await shop.letters.count() == 250
        assert {letter.hop for letter in await shop.letters.peek(1000)} == {"1"}


async def test_by_id_and_up_to_a_limit() -> None:
    shop = Shop()
    async with shop.bus.consuming():
        await shop.kill("1", "2", "3")
        letters = await shop.letters.peek()
        shop.healed = True
        result = await shop.letters.redrive(ids=[letters[1].id, "nobody"])
        assert (result.moved, result.left, result.missing) == (1, 2, ("nobody",))
        assert await shop.redelivered(1) == ["2"]
        assert (await shop.letters.redrive(limit=1)).moved == 1
        assert await shop.redelivered(2) == ["2", "1"]
        assert (await shop.letters.redrive(limit=0)).moved == 0
        assert await shop.letters.count() == 1
        assert (await shop.letters.redrive(ids=[letters[0].id, letters[2].id], limit=1)).moved == 1
        assert await shop.redelivered(3) == ["2", "1", "3"]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("call", ["send", "settle"])
async def test_nothing_is_lost_when_a_redrive_is_cancelled(
    monkeypatch: pytest.MonkeyPatch, call: str, moment: str
) -> None:
    shop = Shop()
    async with shop.bus.consuming():
        await shop.kill(*map(str, range(150)))
        shop.healed = True
        reached = _hang(shop.broker, monkeypatch, call, after=moment == "after")
        task = asyncio.create_task(shop.letters.redrive())
        await reached.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        monkeypatch.undo()
        await turns()
        backlog = await shop.broker.admin.backlog(Source("queue", "topic/orders/billing/dead"))
        assert backlog is not None
        assert backlog.in_flight == 0
        first = len(shop.billed)
        assert first + backlog.depth in (150, 250)  # all there, the batch in hand doubled at most
        await shop.letters.redrive()
        got = await shop.redelivered(first + backlog.depth)
        assert set(got) == set(map(str, range(150)))


def _hang(broker: Broker, monkeypatch: pytest.MonkeyPatch, call: str, *, after: bool) -> asyncio.Event:
    """Have the first `send`, or the first settlement of dead letters, never return."""
    reached = asyncio.Event()

    def hanging(real: Callable[[Sequence[Any]], Any]) -> Callable[[Sequence[Any]], Any]:
        async def hang(batch: Sequence[Any]) -> Any:
            if call == "settle" and batch[0].act is not Act.ACK:
                return await real(batch)
            if after:
                await real(batch)
            reached.set()
            return await asyncio.Event().wait()

        return hang

    if call == "send":
        monkeypatch.setattr(broker, "send", hanging(broker.send))
    else:
        monkeypatch.setattr(broker, "receiver", _with_settle(broker.receiver, hanging))
    return reached


def _with_settle(open_receiver: Callable[..., Any], wrap: Callable[..., Any]) -> Callable[..., Any]:
    @asynccontextmanager
    async def receiver(source: Source, *, prefetch: int) -> AsyncIterator[Any]:
        async with open_receiver(source, prefetch=prefetch) as receiver:
            receiver.settle = wrap(receiver.settle)
            yield receiver

    return receiver


async def test_queues_and_calls_have_dead_letters_too() -> None:
    dead = Counted()

    async def died(delivery: Delivery, error: Exception) -> None:
        dead.append(delivery)

    bus = Bus(on_dead=[died])
    answered: list[str] = []

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        raise Reject("not today")

    @bus.responder(PRICES)
    async def price(ask: Ask) -> Price:
        answered.append(ask.sku)
        return Price(sku=ask.sku, cents=1)

    async with bus.consuming():
        await bus.send(WORK, Order(order_id="1"))
        await dead.reach(1)
        assert await DeadLetters(bus, "work", wait=0.0).count() == 1
        assert (await DeadLetters(bus, WORK, wait=0.0).redrive()).moved == 1
        assert await DeadLetters(bus, PRICES).count() == 0


async def test_an_unknown_name_says_what_there_is() -> None:
    shop = Shop()
    async with shop.bus:
        with pytest.raises(ConfigError, match=r"'orders/nobody'.*orders/billing, orders/shipping"):
            DeadLetters(shop.bus, "orders/nobody")
        with pytest.raises(ConfigError, match="each group has dead letters of its own"):
            DeadLetters(shop.bus, ORDERS)
    async with Bus() as other:
        with pytest.raises(ConfigError, match="there are none"):
            DeadLetters(other, "orders/billing")


async def test_a_group_of_another_service_is_reached_by_its_topic() -> None:
    bus = Bus("memory://")
    async with bus:
        assert DeadLetters(bus, ORDERED, "elsewhere").source == Source("topic", "ordered", "elsewhere", ordered=True)
        assert DeadLetters(bus, PRICES).source == Source("queue", "prices")


async def test_a_broker_without_dead_letters_says_so(scripted: OpenScripted) -> None:
    scripted()
    async with Bus("scripted://one") as bus:
        with pytest.raises(Refused, match="keeps no dead letters"):
            await DeadLetters(bus, WORK).peek()


# -- what the embedded broker never does

DEAD = Source("queue", "work.dead")


@pytest.fixture
def broker(scripted: OpenScripted, monkeypatch: pytest.MonkeyPatch) -> ScriptedBroker:
    """Its dead letters of WORK are in `work.dead`."""
    broker = scripted(PLAIN)

    async def dead_letters(source: Source) -> Source:
        return DEAD

    monkeypatch.setattr(broker.admin, "dead_letters", dead_letters)
    return broker


def letter(message_id: str, **headers: str) -> Delivery:
    made = delivery(DEAD, message_id, msgbus_origin="queue/work")
    made.headers = {**made.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return made


def work(bus: Bus) -> DeadLetters:
    return DeadLetters(bus, WORK, wait=0.0)


async def test_a_letter_that_could_not_be_removed_is_not_sent_twice_in_a_run(broker: ScriptedBroker) -> None:
    answers = [LeaseLost("too late"), None, None]

    def settled(settlement: Settlement) -> LeaseLost | None:
        answer = answers.pop(0)
        if answer is not None:
            broker.feed("work.dead", letter("1"))
        return answer

    broker.on_settle = settled
    broker.feed("work.dead", letter("1"), letter("2"))
    async with Bus("scripted://one") as bus:
        result = await work(bus).redrive()
    assert [out.id for batch in broker.sent for out in batch] == ["1", "2"]
    assert (result.moved, result.doubled) == (2, ())


async def test_it_stops_where_nothing_can_be_removed(broker: ScriptedBroker) -> None:
    broker.on_settle = lambda settlement: Refused("no") if settlement.act is Act.ACK else None
    broker.feed("work.dead", *(letter(str(number)) for number in range(30)))
    async with Bus("scripted://one") as bus:
        result = await work(bus).redrive()
    assert (result.moved, len(result.doubled)) == (0, PLAIN.receive_batch)
    assert [act for act, _ in broker.acts()].count(Act.RELEASE) == PLAIN.receive_batch + 20


async def test_a_letter_that_is_refused_stays(broker: ScriptedBroker) -> None:
    async def refuse(batch: Sequence[Outgoing]) -> Sequence[Any]:
        return [Refused("too large") for _ in batch]

    broker.on_send = refuse
    broker.feed("work.dead", letter("1"))
    async with Bus("scripted://one") as bus:
        result = await work(bus).redrive()
    assert [(failure.id, str(failure.error)) for failure in result.failed] == [("1", "too large")]
    assert broker.acts() == [(Act.RELEASE, "1")]


async def test_what_must_not_go_back_stays(broker: ScriptedBroker) -> None:
    broker.feed(
        "work.dead",
        letter("other", msgbus_origin="queue/play"),
        letter("late", ce_expirytime="1.0"),
        letter("torn", msgbus="no JSON"),
        letter("fresh", msgbus_first_failed="99999999999"),
        letter("odd", msgbus_first_failed="soon", msgbus_attempts="many"),
    )
    async with Bus("scripted://one") as bus:
        result = await work(bus).redrive()
    assert [(out.id, out.address) for batch in broker.sent for out in batch] == [("odd", Address("queue", "work"))]
    assert [failure.id for failure in result.failed] == ["late", "torn"]
    assert (result.moved, result.left) == (1, 2)
    assert sorted(message_id for act, message_id in broker.acts() if act is Act.RELEASE) == [
        "fresh",
        "late",
        "other",
        "torn",
    ]


async def test_a_subscription_that_is_gone_swallows_nothing(broker: ScriptedBroker) -> None:
    async def nobody(batch: Sequence[Outgoing]) -> Sequence[Any]:
        return [Receipt(out.id, unrouted=True) for out in batch]

    broker.on_send = nobody
    broker.feed("work.dead", letter("1"))
    async with Bus("scripted://one") as bus:
        result = await work(bus).redrive()
    assert [str(failure.error) for failure in result.failed] == ["queue work is not there"]
    assert broker.acts() == [(Act.RELEASE, "1")]


async def test_a_broker_that_does_not_answer_ends_it(broker: ScriptedBroker) -> None:
    async def silent(batch: Sequence[Outgoing]) -> Sequence[Any]:
        return await asyncio.Event().wait()  # type: ignore[return-value]

    broker.on_send = silent
    broker.feed("work.dead", letter("1"))
    async with Bus(settings=load_settings(url="scripted://one", publish_timeout=0.01)) as bus:
        with pytest.raises(Timeout, match="no answer to a redrive"):
            await work(bus).redrive()
    assert broker.acts() == [(Act.RELEASE, "1")]


async def test_envelopes_are_opened_and_fitted_anew(broker: ScriptedBroker) -> None:
    broker.caps = replace(PLAIN, headers=5, binary=False)
    packed = {h.ID: "1", h.ENCODING: "base64", h.HOP: "1", h.DEAD_REASON: "no", h.KEY: "k"}
    headers = {h.PACKED: json.dumps(packed), h.CONTENT_TYPE: "application/octet-stream", h.ERROR: "no"}
    broker.feed("work.dead", Delivery(base64.b64encode(b"\x00\xff"), DEAD, headers))
    async with Bus("scripted://one") as bus:
        (seen,) = await work(bus).peek()
        broker.feed("work.dead", Delivery(base64.b64encode(b"\x00\xff"), DEAD, headers))
        assert (await work(bus).redrive()).moved == 1
    assert (seen.id, seen.body, seen.reason) == ("1", b"\x00\xff", "no")
    ((copy,),) = broker.sent
    assert (copy.id, copy.key, copy.dedup_id) == ("1", "k", "1:2")
    assert base64.b64decode(copy.body) == b"\x00\xff"
    assert json.loads(copy.headers[h.PACKED]) == {h.ID: "1", h.ENCODING: "base64", h.HOP: "2", h.KEY: "k"}
    assert set(copy.headers) == {h.PACKED, h.CONTENT_TYPE}


async def test_a_throttled_call_is_tried_again(broker: ScriptedBroker) -> None:
    answers: list[Throttled | None] = [Throttled("slow down", 0.0), None]
    broker.on_settle = lambda settlement: answers.pop(0)
    broker.feed("work.dead", Throttled("slow down", 0.0), letter("1"))
    async with Bus("scripted://one") as bus:
        assert (await work(bus).redrive()).moved == 1
    assert broker.acts() == [(Act.ACK, "1"), (Act.ACK, "1")]


async def test_a_foreign_message_without_an_id_is_given_one(broker: ScriptedBroker) -> None:
    broker.feed("work.dead", *(Delivery(b"ping", DEAD, {}) for _ in range(2)))
    async with Bus("scripted://one") as bus:
        assert (await work(bus).redrive()).moved == 2
    first, second = (out for batch in broker.sent for out in batch)
    assert first.id != second.id
    assert first.headers[h.ID] == first.id
    assert first.dedup_id == f"{first.id}:1"


async def test_leases_are_kept_while_letters_are_looked_for(scripted: OpenScripted) -> None:
    shop = Shop("memory://?lease=30")
    async with shop.bus.consuming():
        await shop.kill("1", "2")
        letters = shop.letters
        async with await letters._reading(10) as opened:
            (first,) = await opened.next(1)
            opened._beat -= 20
            extended: list[Delivery] = []

            async def extend(batch: Sequence[Delivery], seconds: float) -> list[None]:
                extended.extend(batch)
                return [None] * len(batch)

            opened._receiver.extend = extend  # type: ignore[method-assign]
            await opened.next(1)
        assert extended == [first]
        assert await letters.count() == 2
