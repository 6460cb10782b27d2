"""Messages of foreign producers on their way to handlers: several events in one, compressed, a mark before JSON."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence

from tests.conftest import OpenScripted
from tests.models import ORDERS, PRICES, WORK, Ask, Order, Price, Refund
from tests.scripted import HandClock, consuming

from msgbus import Batch, Bus, Delivery, Message, Retry, Select, Topic
from msgbus import headers as h
from msgbus.message import Act, Source

SOURCE = Source("queue", "work")
BATCH = "application/cloudevents-batch+json"


def event(order_id: str, **attributes: str) -> dict[str, object]:
    """A CloudEvent of an order."""
    given = {"specversion": "1.0", "id": f"e{order_id}", "source": "/s", "type": "Order"} | attributes
    return {**given, "data": {"order_id": order_id}}


def of(*events: dict[str, object], source: Source = SOURCE) -> Delivery:
    """A message that holds these."""
    return Delivery(json.dumps(events).encode(), source, {h.CONTENT_TYPE: BATCH})


async def test_each_event_of_a_message_is_handled_with_its_own_headers(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)
    seen: list[tuple[str, str, str]] = []

    @bus.consumer(WORK)
    async def work(message: Message[Order]) -> None:
        await bus.publish(ORDERS, message.payload)
        seen.append((message.payload.order_id, message.id, message.type))

    async with consuming(bus, clock):
        broker.feed("work", of(event("1"), event("2", type="Other")))
        await clock.until(lambda: broker.settled)
    assert seen == [("1", "e1", "Order"), ("2", "e2", "Other")]
    assert [settlement.act for settlement in broker.settled] == [Act.ACK]
    causes = [out.headers[h.CAUSATION] for batch in broker.sent for out in batch]
    assert causes == ["e1", "e2"], "what a handler publishes belongs to the event"


async def test_the_first_event_that_fails_fails_its_message(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)
    seen: list[str] = []

    @bus.consumer(WORK, retry=Retry(attempts=1))
    async def work(order: Order) -> None:
        seen.append(order.order_id)
        if order.order_id == "2":
            raise ValueError("not this one")

    async with consuming(bus, clock):
        broker.feed("work", of(event("1"), event("2"), event("3")))
        await clock.until(lambda: broker.settled)
    assert seen == ["1", "2"]
    assert [settlement.act for settlement in broker.settled] == [Act.DEAD]


async def test_each_event_finds_the_handler_of_its_type(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)
    both = Topic[Order | Refund]("both", Order | Refund)
    orders: list[Order] = []
    refunds: list[Refund] = []

    @bus.subscriber(both.only(Order), group="g")
    async def on_order(order: Order) -> None:
        orders.append(order)

    @bus.subscriber(both.only(Refund), group="g")
    async def on_refund(refund: Refund) -> None:
        refunds.append(refund)

    async with consuming(bus, clock):
        broker.feed("both", of(event("1"), event("2", type="Refund"), source=Source("topic", "both", "g")))
        await clock.until(lambda: broker.settled)
    assert (orders, refunds) == ([Order(order_id="1")], [Refund(order_id="2")])


async def test_each_event_is_selected_by_its_own_headers(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)
    seen: list[str] = []

    topic = Topic("orders", Order, filter_on=["ce-tenant"])

    @bus.subscriber(topic, group="g", select=Select(where={"ce-tenant": ["b"]}))
    async def on_order(order: Order) -> None:
        seen.append(order.order_id)

    async with consuming(bus, clock):
        broker.feed("orders", of(event("1", tenant="a"), event("2", tenant="b"), source=Source("topic", "orders", "g")))
        await clock.until(lambda: broker.settled)
    assert seen == ["2"]
    assert bus.runners[0].subscription.stats.skipped == 1


async def test_a_batch_handler_takes_the_events_of_several_messages_together(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)
    seen: list[list[str]] = []

    @bus.consumer(WORK, batch=Batch(size=2, wait=1.0))
    async def work(orders: Sequence[Order]) -> None:
        seen.append([order.order_id for order in orders])

    async with consuming(bus, clock):
        broker.feed("work", of(event("1"), event("2")), of(event("3")))
        await clock.until(lambda: len(broker.settled) == 2)
    assert seen == [["1", "2", "3"]]


async def test_a_request_that_holds_several_events_is_dead(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)

    @bus.responder(PRICES)
    async def price(ask: Ask) -> Price:
        raise AssertionError("called")

    async with consuming(bus, clock):
        broker.feed("prices", of(event("1"), event("2"), source=Source("queue", "prices")))
        await clock.until(lambda: broker.settled)
    (settlement,) = broker.settled
    assert (settlement.act, "2 CloudEvents" in settlement.reason) == (Act.DEAD, True)


async def test_compressed_bodies_and_those_with_a_mark_are_decoded(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)
    seen: list[str] = []

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        seen.append(order.order_id)

    bodies = [b'\xef\xbb\xbf{"order_id": "1"}', gzip.compress(b'{"order_id": "2"}'), b'{"order_id": "3"}']
    json_kind = {h.CONTENT_TYPE: "application/json"}
    headers = [json_kind, {**json_kind, "content-encoding": "gzip"}, {}]
    async with consuming(bus, clock):
        broker.feed("work", *(Delivery(body, SOURCE, head) for body, head in zip(bodies, headers, strict=True)))
        await clock.until(lambda: len(broker.settled) == 3)
        broker.feed("work", Delivery(b"\xef\xbb\xbf" * 100_000 + b'{"order_id": "4"}', SOURCE, json_kind))
        await clock.until(lambda: len(broker.settled) == 4)
    assert sorted(seen) == ["1", "2", "3"]
    assert broker.settled[-1].act is Act.DEAD  # at once: it can't be decoded
